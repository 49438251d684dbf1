"""The studio's background jobs, one at a time: a thread that makes calls, and its progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from connector.base.errors import ConnectorError, FatalError, Interrupted
from connector.base.records import IDLE, Item, Outcome, Record, Result
from connector.base.stop import Stop
from connector.run.progress import Figures
from connector.run.runtime import Runtime

State = Literal["running", "paused", "stopping", "done", "stopped", "failed"]

_LOOK: Final = 0.2  # seconds between the chances that a paused input gives the run to handle calls in flight


class StoppedError(FatalError):
    """The user asked the run to stop."""


class Job:
    """Work in a thread of its own, which starts with the job.

    Args:
        title: What it does, in a few words.
        rows: The total number of rows; `None` if that is unknown.
        work: The work; raises if it fails.

    Attributes:
        error: Why it ended early; empty if it did not.
        done: The number of rows done.
        summary: Its totals, in lines.
    """

    def __init__(self, title: str, rows: int | None, work: Callable[[Job], None]) -> None:
        self.title = title
        self.rows = rows
        self.done = 0
        self.error = ""
        self.summary = ""
        self.stop = Stop()
        self._ended: State | None = None
        self._going = threading.Event()
        self._going.set()
        self._figures: Figures | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="studio", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """The state it is in."""
        if self._ended is not None:
            return self._ended
        if self.stop.reason is not None:
            return "stopping"
        return "running" if self._going.is_set() else "paused"

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._ended is not None

    def pause(self) -> None:
        """Takes no more rows until `go_on`; calls in flight finish and their replies are kept."""
        self._going.clear()

    def go_on(self) -> None:
        """Takes rows again."""
        self._going.set()

    def end(self) -> None:
        """Asks it to stop; calls in flight finish and their replies are kept."""
        self.stop.request(StoppedError("stopped: replies that were paid for are kept, and not paid for again"))
        self._going.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for its end, for so many seconds at most; returns whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def progress(self) -> str:
        """Returns its progress in words."""
        figures = self._figures
        if figures is None:
            return ""
        return " · ".join(part.text for part in figures.parts() if part.text)

    def gated(self, items: Iterator[Item]) -> Iterator[Item]:
        """Passes on an input while it is not paused."""
        for item in items:
            while not self._going.wait(_LOOK):
                yield IDLE
            yield item

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Passes on rows that need no call, and counts them."""
        for record in records:
            yield record
            self.done += 1

    def watched(self, results: Iterator[Result], runtime: Runtime) -> Iterator[Result]:
        """Passes on results, and counts them."""
        self._figures = Figures(runtime.summary, runtime.control, self.rows)
        for result in runtime.summary.watched(results):
            if isinstance(result, Outcome):
                self._figures.add(result)
                self.done += 1
            yield result
        self.summary = str(runtime.summary)

    def _run(self, work: Callable[[Job], None]) -> None:
        try:
            work(self)
        except StoppedError as error:
            self.error, self._ended = error.message, "stopped"
        except ConnectorError as error:
            self.error, self._ended = error.message, "failed"
        except (OSError, Interrupted) as error:
            self.error, self._ended = str(error), "failed"
        except BaseException as error:
            self.error = f"this is a bug in the studio ({type(error).__name__}): please report what you did"
            self._ended = "failed"
            raise
        else:
            self._ended = "done"
