"""When a failed call is retried: exponential backoff with jitter, within the bounds of the config.

Nothing here sleeps or reads a clock: times and waits are numbers of seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.errors import RetryableError

_SPREAD: Final = 0.05  # the part of a wait by which it is extended at random, if that is more than 2 * `base`


class Backoff(NamedTuple):
    """How a row's call is retried: exponential backoff with full jitter, and no sooner than the endpoint asks.

    Attributes:
        max_retries: Attempts after the first.
        max_wait: The longest single wait, in seconds; a row that is asked to wait longer fails at once.
        max_elapsed: The longest time for a row from its first attempt on, in seconds.
        base: The upper bound of the first wait, in seconds; it doubles with each attempt, up to `cap`.
    """

    max_retries: int = 4
    max_wait: float = 120.0
    max_elapsed: float = 600.0
    base: float = 0.5
    cap: float = 30.0

    def wait(self, error: RetryableError, attempt: int, elapsed: float, random: Callable[[], float]) -> float | None:
        """Returns the seconds to wait after the failure of attempt number `attempt` (from 1); `None` if the row fails.

        `random` returns numbers from 0 to 1.
        """
        if attempt > self.max_retries or (error.wait or 0.0) > self.max_wait:
            return None
        chance = random()
        own = chance * min(self.cap, self.max_wait, self.base * 2 ** (attempt - 1))
        wait = own
        if error.wait is not None:  # all calls are asked to wait as long, so retries are spread out after it
            spread = chance * max(min(2 * self.base, error.wait), _SPREAD * error.wait)
            wait = min(max(own, error.wait + spread), max(error.wait, self.max_wait))
        return wait if elapsed + wait <= self.max_elapsed else None
