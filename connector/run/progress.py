"""What people see on stderr: a live line while a run goes on at a terminal, and one summary at its end everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, TextIO

from connector.base.cost import Budget
from connector.base.records import Outcome, Status
from connector.engines import Control
from connector.run.pipeline import Result

_EVERY: Final = 0.2  # seconds between two live lines
_MINUTE: Final = 60
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Counts outcomes as they pass, and shows how far the run is.

    Args:
        rows: Rows in all, where known.
        live: Whether to draw the live line.
    """

    def __init__(self, control: Control, budget: Budget, out: TextIO, *, rows: int | None, live: bool) -> None:
        self._control = control
        self._budget = budget
        self._out = out
        self._rows = rows
        self._live = live
        self._now = control.clock.monotonic
        self._started = self._now()
        self._next_line = 0.0
        self._cached = 0
        self.statuses: Counter[Status] = Counter()

    @property
    def done(self) -> int:
        """Rows that have their outcome."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Rows whose outcome is not a success."""
        return self.done - self.statuses[Status.SUCCESS]

    def watched(self, results: Iterator[Result]) -> Iterator[Result]:
        """Passes results on and keeps the live line up to date."""
        for result in results:
            if isinstance(result, Outcome):
                self.statuses[result.status] += 1
                self._cached += result.provenance.cached
            if self._live and self._now() >= self._next_line:
                self._next_line = self._now() + _EVERY
                self._out.write(_CLEAR + self._line())
                self._out.flush()
            yield result

    def _line(self) -> str:
        seconds = max(self._now() - self._started, 1e-9)
        rate = self.done / seconds
        parts = [
            f"{self.done:,}" + (f" of {self._rows:,}" if self._rows is not None else "") + " rows",
            f"{rate:,.0f}/s",
        ]
        gauge = self._control.gauge
        parts.append(f"{gauge.in_flight} in flight")
        parts.append(f"{gauge.retries:,} retries")
        parts += self._spent()
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self._rows is not None and rate > 0:
            parts.append(f"{_duration((self._rows - self.done) / rate)} left")
        return " · ".join(parts)

    def _spent(self) -> list[str]:
        parts = [f"{self._budget.tokens:,} tokens"] if self._budget.tokens else []
        if self._budget.cost_usd:
            parts.append(f"${self._budget.cost_usd:,.4f}")
        return parts

    def close(self) -> None:
        """Clears the live line."""
        if self._live:
            self._out.write(_CLEAR)

    def summary(self) -> str:
        """Returns what the run did, in two lines."""
        seconds = self._now() - self._started
        rate = f" ({self.done / seconds:,.0f} rows/s)" if seconds > 0 and self.done else ""
        statuses = ", ".join(f"{count:,} {status}" for status, count in self.statuses.most_common())
        gauge = self._control.gauge
        calls = [
            f"{gauge.calls:,} calls",
            f"{gauge.retries:,} retries",
            f"{self._cached:,} rows answered without a new call",
        ]
        nothing = "no row was finished" if gauge.calls else "nothing to do"
        first = f"{self.done:,} rows in {_duration(seconds)}{rate}: {statuses or nothing}"
        return f"{first}\n{', '.join([*calls, *self._spent()])}"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
