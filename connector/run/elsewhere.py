"""Calls that another run has in flight: they wait here for its reply, and are made only if there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from connector.calls.call import Call

_EVERY: Final = (0.05, 1.0)  # seconds between two looks, at first and at last: a reply takes as long as it takes
_GROWTH: Final = 1.5
_MOST: Final = 2_000  # calls that are looked up at once


class Elsewhere:
    """The calls that other runs make, by the order in which they were found there.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._calls: dict[bytes, Call] = {}
        self._next = -math.inf
        self._wait = _EVERY[0]

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Lets a call wait, with whatever records join it meanwhile."""
        if not self._calls:
            self._wait = _EVERY[0]
            self._next = self._now() + self._wait
        self._calls[call.key] = call

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return bool(self._calls) and self._now() >= self._next

    def due(self) -> list[Call]:
        """Takes out the calls that are to be looked up again; those that are still made elsewhere come back by `add`.

        The looks are the rarer the longer none has found anything.
        """
        if not self.is_due:
            return []
        taken = [self._calls.pop(key) for key in list(self._calls)[:_MOST]]
        self._next = self._now() + self._wait
        self._wait = min(self._wait * _GROWTH, _EVERY[1])
        return taken

    def found(self) -> None:
        """Notes that another run has come to a reply, so that more may follow soon."""
        self._wait = _EVERY[0]
