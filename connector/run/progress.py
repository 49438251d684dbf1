"""What people see on stderr while a run goes on at a terminal: a live line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

from connector.base.cost import Budget
from connector.engines import Control
from connector.run.pipeline import Result
from connector.run.summary import Summary, duration, spent

_EVERY: Final = 0.2  # seconds between two live lines
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Shows how far a run is.

    Args:
        rows: Rows in all, where known.
        live: Whether to draw the live line.
    """

    def __init__(
        self, summary: Summary, control: Control, budget: Budget, out: TextIO, *, rows: int | None, live: bool
    ) -> None:
        self._summary = summary
        self._control = control
        self._budget = budget
        self._out = out
        self._rows = rows
        self._live = live
        self._now = control.clock.monotonic
        self._next_line = 0.0

    def watched(self, results: Iterator[Result]) -> Iterator[Result]:
        """Counts results in the summary, passes them on, and keeps the live line up to date."""
        for result in self._summary.watched(results):
            if self._live and self._now() >= self._next_line:
                self._next_line = self._now() + _EVERY
                self._out.write(_CLEAR + self._line())
                self._out.flush()
            yield result

    def _line(self) -> str:
        done, failed = self._summary.rows, self._summary.failed
        rate = done / max(self._summary.seconds, 1e-9)
        parts = [
            f"{done:,}" + (f" of {self._rows:,}" if self._rows is not None else "") + " rows",
            f"{rate:,.0f}/s",
        ]
        gauge = self._control.gauge
        parts.append(f"{gauge.in_flight} in flight")
        parts.append(f"{gauge.retries:,} retries")
        parts += spent(self._budget.tokens, self._budget.cost_usd)
        if failed:
            parts.append(f"{failed:,} failed")
        if self._rows is not None and rate > 0:
            parts.append(f"{duration((self._rows - done) / rate)} left")
        return " · ".join(parts)

    def close(self) -> None:
        """Clears the live line."""
        if self._live:
            self._out.write(_CLEAR)
