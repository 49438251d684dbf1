"""Progress on stderr while a run goes on: a live line on a terminal, else a plain line now and then."""

from __future__ import annotations

import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Self

from connector.base.amounts import counted, dollars, duration, pace
from connector.base.clock import Clock
from connector.base.live_line import LiveLine, Part, fitted
from connector.base.records import Outcome, Result, Status
from connector.base.terminal import write, write_lines
from connector.calls.waiting import Waiting
from connector.engines import Control
from connector.run.runtime import Runtime
from connector.run.summary import Summary

_EVERY: Final = 0.2  # seconds between two live lines
_FIRST_PLAIN: Final = 10.0  # seconds until the first plain line; each further one takes twice as long, up to
_LAST_PLAIN: Final = 300.0
_WINDOW: Final = 30.0  # seconds that the rate is measured over
_ENOUGH: Final = 10  # rows, at least; fewer take longer
_LONG: Final = 5.0  # seconds after which the age of the oldest call is shown
_LONG_AGO: Final = 30.0  # seconds after which the reason for waiting is printed again
_KINDS: Final = 2  # kinds of failures that are shown


class Progress:
    """Shows how far a run is; a context manager.

    Args:
        live: Whether stderr is a terminal, where a line is drawn in place.
        quiet: Whether to say nothing at all.
    """

    def __init__(self, *, live: bool, quiet: bool = False, clock: Clock | None = None) -> None:
        self._line = LiveLine(sys.stderr) if live and not quiet else None
        self._is_quiet = quiet
        self._now = (clock or Clock()).monotonic
        self._every = _EVERY if live else _FIRST_PLAIN
        self._due = self._now() + (0.0 if live else _FIRST_PLAIN)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._line is not None:
            self._open.enter_context(self._line)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def ledger_is_busy(self) -> Callable[[str], None]:
        """Returns a function that shows why the ledger has to wait."""
        since, last, told = self._now(), -math.inf, ""

        def wait(why: str) -> None:
            nonlocal since, last, told
            now = self._now()
            if why != told or now - last > _LONG_AGO:
                since, told = now, why
                if self._line is None and not self._is_quiet:
                    write_lines(sys.stderr, [why])
            last = now
            self._tell(lambda: [Part(why), Part(f"{duration(now - since)} so far", 1)])

        return wait

    def says(self, text: str) -> None:
        """Shows what is being done, on a live line only."""
        if self._line is not None:
            self._line.draw([Part(text)])

    def watched(self, results: Iterator[Result], runtime: Runtime, rows: int | None) -> Iterator[Result]:
        """Passes the results of a run on, counted in its summary, and tells how far it is.

        Args:
            rows: Rows in all, where known.
        """
        passing = runtime.summary.watched(results)
        if self._is_quiet:
            return passing
        runtime.control.gauge.notify = self._happened
        return self._shown(passing, Figures(runtime.summary, runtime.control, rows))

    def _shown(self, results: Iterator[Result], figures: Figures) -> Iterator[Result]:
        for result in results:
            if isinstance(result, Outcome):
                figures.add(result)
            if self._now() >= self._due:
                self._tell(figures.parts)
            yield result

    def _happened(self, text: str) -> None:
        """Says what has happened, on a line of its own."""
        if self._line is not None:
            self._line.clear()
        write_lines(sys.stderr, [text])

    def _tell(self, parts: Callable[[], list[Part]]) -> None:
        """Says something if it is time to."""
        now = self._now()
        if self._is_quiet or now < self._due:
            return
        self._due = now + self._every
        if self._line is not None:
            self._line.draw(parts())
        else:
            self._every = min(2 * self._every, _LAST_PLAIN)
            write(sys.stderr, fitted(parts(), None) + "\n")


class Figures:
    """How far a run is, in words.

    Args:
        rows: Rows in all, where known.
    """

    def __init__(self, summary: Summary, control: Control, rows: int | None) -> None:
        self._summary = summary
        self._control = control
        self._rows = rows
        self._called = 0  # rows that calls of this run have answered
        self._failures: Counter[str] = Counter()
        self._marks: deque[tuple[float, int]] = deque([(control.clock.monotonic(), 0)])
        self._asked_to_end: float | None = None  # since when

    def add(self, outcome: Outcome) -> None:
        """Notes an outcome."""
        provenance, error = outcome.provenance, outcome.provenance.error
        if not provenance.cached and provenance.attempts:
            self._called += 1
        if outcome.status is Status.ERROR and error is not None:
            self._failures[f"HTTP {error.http_status}" if error.http_status else error.class_] += 1
        elif outcome.status.is_failure:
            self._failures[outcome.status.value] += 1

    def parts(self) -> list[Part]:
        """Returns what a line tells now. A row that the ledger knew took no time, so it counts for no rate."""
        summary, gauge, now = self._summary, self._control.gauge, self._control.clock.monotonic()
        waiting, is_ending = self._control.waiting(), self._control.stop.reason is not None
        if waiting is not None and not self._called:
            self._marks[0] = now, 0  # an endpoint that starts up says nothing of how fast it is
        rate, left = self._rate(now), 0 if is_ending else max(0, (self._rows or 0) - summary.rows)
        of = f" of {self._rows:,}" if self._rows is not None else ""
        return [
            Part(f"{summary.rows:,}{of} rows"),
            Part(f"{summary.cached:,} known" if summary.cached else "", 6),
            Part(pace(rate) if rate else "", 5),
            self._doing(now, waiting),
            Part(_time_left(left / rate, waiting) if left and rate else "", 2),
            Part(_costs(summary.cost_usd, left / self._called if self._called else 0.0), 4),
            Part(self._failed(), 3),
            Part(counted(gauge.retries, "retry", "retries") if gauge.retries else "", 8),
            Part(counted(summary.tokens, "token") if summary.tokens else "", 9),
        ]

    def _rate(self, now: float) -> float:
        """Returns how many rows a second calls answered of late; zero where that is not known yet."""
        marks = self._marks
        if self._called > marks[-1][1]:
            marks.append((now, self._called))
        while len(marks) > 1 and now - marks[1][0] > _WINDOW and self._called - marks[1][1] >= _ENOUGH:
            marks.popleft()
        since, before = marks[0]
        return (self._called - before) / (now - since) if now > since else 0.0

    def _doing(self, now: float, waiting: Waiting | None) -> Part:
        """Returns what the run waits for: an end, an endpoint, a pace, or the calls in flight."""
        gauge = self._control.gauge
        if self._control.stop.reason is not None:
            self._asked_to_end = now if self._asked_to_end is None else self._asked_to_end
            return Part(self._control.ending(now - self._asked_to_end), 1)
        if words := gauge.words():
            return Part(words, 1)
        if waiting is not None:
            return Part(str(waiting), 1)
        oldest = gauge.oldest(now) or 0.0
        if oldest >= _LONG:
            return Part(f"{gauge.in_flight:,} in flight, the oldest for {duration(oldest)}", 1)
        return Part(f"{gauge.in_flight:,} in flight" if gauge.in_flight else "", 7)

    def _failed(self) -> str:
        count = self._failures.total()
        kinds = self._failures.most_common(_KINDS)
        told = ", ".join(f"{number:,} × {kind}" for kind, number in kinds)
        more = ", …" if len(self._failures) > len(kinds) else ""
        return f"{count:,} failed ({told}{more})" if count else ""


def _time_left(seconds: float, waiting: Waiting | None) -> str:
    """Returns how long a run still takes: no shorter than what it waits for; nothing where it is about to end."""
    seconds = max(seconds, (waiting and waiting.seconds) or 0.0)
    return f"{duration(seconds)} left" if seconds >= 1 else ""


def _costs(spent: float | None, share_left: float) -> str:
    """Returns what was paid, and what the run may come to; nothing where no cost is known."""
    if not spent:
        return ""
    total = spent * (1 + share_left)
    return f"{dollars(spent)} of about {dollars(total)}" if share_left else dollars(spent)
