"""How long a run retries a database or a bucket that does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 300.0
"""Seconds that a run waits for a ledger that has answered before."""

_OPENING: Final = 10.0  # seconds, if it has never answered
_PAUSES: Final = (0.1, 0.5, 1.0, 2.0)  # seconds before each retry; the last one for all that follow


class Patience:
    """Decides whether what failed is retried.

    Args:
        name: The ledger, as messages name it.
        waiting: Called with the reason before each retry; may raise to give up.
    """

    def __init__(
        self,
        name: object,
        waiting: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds = _OPENING
        """How long to retry at most; 0 after `give_up`, since the run ends."""
        self._name = name
        self._waiting = waiting
        self._now = now
        self._sleep = sleep
        self._since: float | None = None
        self._tries = 0

    def is_over(self) -> bool:
        """Returns whether what has just failed has been retried long enough."""
        now, since = self._now(), self._since  # another thread may reset it meanwhile
        if since is None:
            since = self._since = now
            self._tries = 0
        return now - since >= self.seconds

    def wait(self, said: str) -> None:
        """Reports why the attempt failed, and waits before the next one."""
        self._waiting(f"the ledger {self._name} does not answer ({said}): trying again")
        self._sleep(_PAUSES[min(self._tries, len(_PAUSES) - 1)])
        self._tries += 1

    def answered(self) -> None:
        """Notes a success."""
        self.seconds, self._since = PATIENCE, None

    def give_up(self) -> None:
        """Notes that nothing is retried from now on."""
        self.seconds, self._since = 0.0, None
