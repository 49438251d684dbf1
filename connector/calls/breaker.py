"""The circuit breaker: when call after call fails, it lets one call at a time try, and in the end stops the run.

In an outage the rows do not fail one after the other: they wait, so that the same command finishes them later.
"""

from __future__ import annotations

import math
from typing import Final

from connector.base.errors import ConnectorError, NotFoundError, OutageError, RateLimitError, RetryableError
from connector.base.records import Outcome, Status
from connector.calls.waiting import Waiting, kind_of

STREAK: Final = 10
"""So many failures in a row, at least, look like an outage."""

TRIES: Final = 5
"""So many single tries of an outage may fail, by default: they take 16 seconds."""

SAME: Final = 25
"""So many answers of 404 or 403 without another between mean that all rows get them, also where some did not."""

_MOMENT: Final = 1.0  # seconds for which no call reaches the endpoint, from the first on, that are no passing fault
_PAUSE: Final = 0.5  # seconds before the first try of an outage; each further one waits twice as long
_LIMITED: Final = 3  # further tries after a rate limit, which may be counted by the minute
_FORBIDDEN: Final = 3  # answers of 403, before any other answer, that end the run: one row may be what a firewall stops


class Breaker:
    """Open while an outage is suspected: then only single calls may try. Times are seconds of a monotonic clock.

    Args:
        tries: How many single tries may fail before the run is stopped: 5 take 16 seconds.
        max_wait: Seconds; a run whose endpoint asks for a longer wait is stopped.

    Attributes:
        failures: Calls that have failed since the last one that did not.
        is_open: Whether an outage is suspected.
        is_reached: Whether the endpoint has answered any call of this run, be it with an error.
        was_answered: Whether any call has got a final reply.
        has_succeeded: Whether a call of this run was a success.
        try_at: While open, when the next single call may start.
    """

    def __init__(self, tries: int = TRIES, max_wait: float = 120.0) -> None:
        self.failures = 0
        self.is_open = False
        self.try_at = math.inf
        self._tries = tries
        self._max_wait = max_wait
        self._failed_tries = 0
        self._opened = 0.0
        self._since = 0.0  # when the first call of those that failed in a row did
        self._error: ConnectorError | None = None  # the last of theirs
        self._round = 0
        self._missed = 0
        self._tried_since = math.inf
        self.is_reached = self.was_answered = self.has_succeeded = False

    def answered(self) -> None:
        """Notes a final reply: this is not an outage."""
        self.failures = self._failed_tries = 0
        self._missed = 0
        self.is_open = False
        self.is_reached = self.was_answered = True

    def missed(self, error: ConnectorError) -> bool:
        """Notes a 404 (no such model, nothing at the URL) or a 403 (a firewall, a key without a right).

        Some servers answer a single bad row this way. Returns whether that ends the run: after the first 404, or the
        third 403, if no call was answered yet, and else after 25 without an answer between; else it is that row's.
        """
        self._missed += 1
        self.is_reached = True
        unanswered = 1 if isinstance(error, NotFoundError) else _FORBIDDEN
        return self._missed >= (SAME if self.was_answered else unanswered)

    def failed(
        self, error: ConnectorError, started: float, now: float, in_flight: int, *, is_first: bool
    ) -> OutageError | None:
        """Notes that a call which began at `started` failed, while `in_flight` others had not (yet).

        It opens once as many calls have failed as were in flight at the same time, and at least ten. Once any call has
        been answered, only the first attempts of rows count: some bad rows, tried again and again, are not an outage.
        Where nothing was reached at all it opens at once, since the address, the network or the server is at fault: a
        second without a connection, from the start of the first call on, ends the run.
        Returns the reason to stop after the last try.
        """
        if isinstance(error, RetryableError) and not (error.is_connected or self.is_reached):
            return self._unreached(error, started, now, in_flight)
        self.is_reached = True
        if not (is_first or self.is_open or not self.was_answered):
            return None
        if self.failures == 0:
            self._round, self._since = in_flight, now
        self._error = error
        self.failures += 1
        if self.is_open and started <= self._opened:
            return None
        if self.is_open:
            self._failed_tries += 1
        elif self.failures > max(STREAK - 1, self._round):
            self.is_open, self._opened = True, now
        else:
            return None
        asked = (error.wait or 0.0) if isinstance(error, RetryableError) else 0.0
        tries = self._tries + (_LIMITED if isinstance(error, RateLimitError) else 0)
        if self._failed_tries >= tries or asked > self._max_wait:
            return OutageError(
                f"{self.failures} calls in a row failed, the last one with: {error.message}: "
                "nothing is lost, run the same command again once the endpoint is back",
                detail=error.detail,
                http_status=error.http_status,
            )
        self.try_at = now + max(asked, _PAUSE * 2**self._failed_tries)
        return None

    def _unreached(self, error: RetryableError, started: float, now: float, in_flight: int) -> OutageError | None:
        """Notes that there was no connection, as for all calls so far. Calls in flight may have one."""
        if self.failures == 0:
            self._since = now
        self._error = error
        self.failures += 1
        self._tried_since = min(self._tried_since, started)
        self.is_open, self._opened = True, now
        if now >= self._tried_since + _MOMENT and not in_flight:
            outage = OutageError(f"no call could reach the endpoint: {error.message}", detail=error.detail)
            outage.__cause__ = error
            return outage
        self.try_at = max(self._tried_since + _MOMENT, now + _PAUSE)
        return None

    def waiting(self, now: float) -> Waiting | None:
        """Returns what a run waits for while an outage is suspected, and until when; `None` while it is not."""
        if not self.is_open or self._error is None:
            return None
        if isinstance(self._error, RateLimitError):
            return Waiting(
                f"{kind_of(self._error)}: next call", max(0.0, self.try_at - now) if self.try_at < math.inf else None
            )
        lasts = int(now - self._since)
        reason = kind_of(self._error) + (f" for {lasts} s" if lasts else "")
        return Waiting(f"{reason}: trying again", self.try_at - now if now < self.try_at < math.inf else None)

    def judged(self, outcome: Outcome) -> None:
        """Notes an outcome: a success, be it of an earlier run, shows that the endpoint does answer."""
        if outcome.status is Status.SUCCESS:
            self.was_answered = True
            self.has_succeeded |= not outcome.provenance.cached
