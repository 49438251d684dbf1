"""A pace that several runs share: each reserves short pieces of one timeline, and no piece is reserved twice.

A limit of units per minute makes a call so many seconds long. Laid end to end on one timeline, the calls of all runs
keep the limit, in any order. A run takes as much of the timeline as it will use within a tenth of a second, at least
one call: so it asks once for many calls, and leaves what it does not need to the others.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from connector.calls.pace import Pace
from connector.ledger import SharedTime

_LATE: Final = 0.4  # seconds by which a piece may be used late; Pace leaves as many free in each minute
_PIECE: Final = 0.1  # seconds of the timeline in one request, unless a call is longer
_LEAST: Final = 0.001
_ROUNDING: Final = 1e-6  # seconds
_SOON: Final = 0.02  # seconds until the next look for an answer


class SharedPace(Pace):
    """A `Pace` whose calls start within the pieces of a timeline that this run has reserved.

    Args:
        time: The timeline.
    """

    def __init__(self, per_minute: float, spare: float, time: SharedTime) -> None:
        super().__init__(per_minute, spare)
        self._time = time
        self._pieces: deque[tuple[float, float]] = deque()
        self._owed = 0.0  # seconds used but not yet reserved: calls cost more than estimated
        self._share = _LEAST
        self._last = self.cost()  # the cost of the last call
        self._lost = 0.0  # seconds reserved but not used
        self._is_starved = False
        self._is_alone = False

    @property
    def known(self) -> float | None:
        """See `Pace.known`: what any run has found out."""
        return self._time.known

    def delay(self, now: float) -> float:
        """See `Pace.delay`."""
        if self._is_alone:
            return _SOON
        self._receive(now)
        begins = self._begins()
        if begins is not None:
            return begins - now
        self._is_starved = True
        self._ask()
        return _SOON

    def charge(self, now: float, cost: float) -> None:
        """See `Pace.charge`."""
        self._is_alone = False
        self._receive(now)
        if cost < 0:
            self._give_back(now, -cost)
            return
        self._last = max(cost, _LEAST)
        self._use(cost)
        if self._left() < self._share / 2:
            self._ask()

    def alone(self, now: float) -> float:
        """See `Pace.alone`: nothing is reserved for an unknown cost."""
        del now
        self._is_alone = True
        return 0.0

    def tell(self, units_per_byte: float) -> None:
        """See `Pace.tell`."""
        self._time.known = units_per_byte

    def _receive(self, now: float) -> None:
        """Takes over the pieces received, pays what is owed, and drops pieces that are too old."""
        self._pieces += self._time.given()
        if self._owed:
            owed, self._owed = self._owed, 0.0
            self._use(owed)
        while self._pieces and self._pieces[0][0] < now - _LATE:
            begin, end = self._pieces.popleft()
            used_from = min(end, now - _LATE)
            self._lost += used_from - begin
            if used_from < end:
                self._pieces.appendleft((used_from, end))

    def _left(self) -> float:
        return sum(end - begin for begin, end in self._pieces)

    def _begins(self) -> float | None:
        """Returns when a call that costs as much as the last one may start; `None` if too little time is reserved.

        The call ends where its time does, even if that is in several pieces, so as not to use time before it exists.
        """
        need = self._last
        for begin, end in self._pieces:
            need -= end - begin
            if need <= _ROUNDING:
                return end + need - self._last
        return None

    def _use(self, cost: float) -> None:
        while cost > 0 and self._pieces:
            begin, end = self._pieces.popleft()
            if end - begin > cost:
                self._pieces.appendleft((begin + cost, end))
            cost -= end - begin
        self._owed += max(0.0, cost)

    def _give_back(self, now: float, cost: float) -> None:
        paid = min(cost, self._owed)
        self._owed -= paid
        cost -= paid
        if cost:
            begin, end = self._pieces.popleft() if self._pieces else (now, now)
            self._pieces.appendleft((begin - cost, end))

    def _ask(self) -> None:
        """Asks for a piece: a larger one if calls had to wait for it, a smaller one if some of it was lost."""
        if self._time.is_asked:
            return
        if self._is_starved:
            self._share = min(2 * self._share, _PIECE)
        self._share = max(self._share - self._lost, _LEAST)
        self._is_starved, self._lost = False, 0.0
        calls = max(1, math.floor(self._share / self._last))
        self._time.ask(self._owed + calls * self._last)
