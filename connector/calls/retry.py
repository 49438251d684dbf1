"""When a call that failed is tried again: exponential backoff with jitter, within the bounds of the config.

Nothing here sleeps or looks at a clock: times come in as numbers of seconds, and waits go out as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.errors import RetryableError

_SPREAD: Final = 0.05  # of a wait that the endpoint asks for: calls come back spread over so much more


class Backoff(NamedTuple):
    """How a row's call is tried again: exponential, with full jitter, and above what the endpoint asks for.

    Attributes:
        max_retries: Attempts after the first.
        max_wait: Seconds that a single wait may take; a row that is asked to wait longer fails at once.
        max_elapsed: Seconds that a row may take in all, from its first attempt on.
        base: Seconds of the first wait, at most; each further one doubles it, up to `cap`.
    """

    max_retries: int = 4
    max_wait: float = 120.0
    max_elapsed: float = 600.0
    base: float = 0.5
    cap: float = 30.0

    def wait(self, error: RetryableError, attempt: int, elapsed: float, random: Callable[[], float]) -> float | None:
        """Returns the seconds to wait after attempt number `attempt` (from 1) failed; `None` where the row has to fail.

        `random` gives numbers from 0 up to 1.
        """
        if attempt > self.max_retries or (error.wait or 0.0) > self.max_wait:
            return None
        chance = random()
        own = chance * min(self.cap, self.max_wait, self.base * 2 ** (attempt - 1))
        wait = own
        if error.wait is not None:  # all are asked to wait as long, so they come back spread over a time behind it
            spread = chance * max(min(2 * self.base, error.wait), _SPREAD * error.wait)
            wait = min(max(own, error.wait + spread), max(error.wait, self.max_wait))
        return wait if elapsed + wait <= self.max_elapsed else None
