"""The pace of one limit: a number of requests or tokens per minute, spread evenly over the minute."""

from __future__ import annotations

import math
from typing import Final

MINUTE: Final = 60.0
_LATE: Final = 0.25  # seconds by which a call may start late without losing its share


class Pace:
    """Spreads `per_minute` units evenly over the minute, so that no window of 60 seconds holds more of them.

    Args:
        spare: The part that is left free if the units of a call are known only afterwards.
    """

    def __init__(self, per_minute: float, spare: float = 0.0) -> None:
        self.per_minute = per_minute
        self.spare = spare
        self._minute = (MINUTE + 2 * _LATE) * (1 + spare)
        self._next = -math.inf

    @property
    def known(self) -> float | None:
        """The units per byte of a request, if other runs have found that out."""
        return None

    def cost(self, units: float = 1.0) -> float:
        """Returns the seconds of a minute that a call of `units` takes; a minute holds whole calls only."""
        calls = self.per_minute // max(units, 1.0)
        return self._minute / calls if calls else self._minute * units / self.per_minute

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        return self._next - now

    def charge(self, now: float, cost: float) -> None:
        """Charges a call that starts: `cost` seconds must pass before the next. A negative cost is a refund."""
        self._next = max(self._next, now - _LATE) + cost

    def alone(self, now: float) -> float:
        """Records that a call of unknown cost starts: no other does until it is charged.

        Returns the provisional charge.
        """
        self.charge(now, MINUTE)
        return MINUTE

    def tell(self, units_per_byte: float) -> None:
        """Shares the units per byte of a request with other runs."""
