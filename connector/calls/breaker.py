"""The circuit breaker: when call after call fails, it lets single calls probe the endpoint, and finally stops the run.

In an outage rows do not fail one after another: they wait, so that the same command can finish them later.
"""

from __future__ import annotations

import math
from typing import Final

from connector.base.errors import ConnectorError, NotFoundError, OutageError, RateLimitError, RetryableError
from connector.base.records import Outcome, Status
from connector.calls.waiting import Waiting, kind_of

STREAK: Final = 10
"""At least so many failures in a row look like an outage."""

TRIES: Final = 5
"""How many probes of an outage may fail by default; they take 16 seconds."""

SAME: Final = 25
"""So many answers of 404 or 403 in a row mean that all rows get them, even if earlier ones did not."""

_MOMENT: Final = 1.0  # seconds without any connection, from the start of the first call on, that end the run
_PAUSE: Final = 0.5  # seconds before the first probe of an outage; the wait doubles for each further one
_LIMITED: Final = 3  # more probes after a rate limit, which may be counted by the minute
_FORBIDDEN: Final = 3  # answers of 403, before any other answer, that end the run: a firewall may stop a single row


class Breaker:
    """Open while an outage is suspected: only single calls may then probe. Times are seconds of a monotonic clock.

    Args:
        tries: How many probes may fail before the run is stopped: 5 take 16 seconds.
        max_wait: Seconds; the run is stopped if the endpoint asks for a longer wait.

    Attributes:
        failures: The number of failures since the last call that did not fail.
        is_open: Whether an outage is suspected.
        is_reached: Whether the endpoint has answered any call of this run, even with an error.
        was_answered: Whether any call has got a final reply.
        has_succeeded: Whether any call of this run has succeeded.
        try_at: While open, when the next probe may start.
    """

    def __init__(self, tries: int = TRIES, max_wait: float = 120.0) -> None:
        self.failures = 0
        self.is_open = False
        self.try_at = math.inf
        self._tries = tries
        self._max_wait = max_wait
        self._failed_tries = 0
        self._opened = 0.0
        self._since = 0.0  # when the first of the failures in a row occurred
        self._error: ConnectorError | None = None  # the last of these failures
        self._round = 0
        self._missed = 0
        self._tried_since = math.inf
        self.is_reached = self.was_answered = self.has_succeeded = False

    def answered(self) -> None:
        """Records a final reply, which shows that there is no outage."""
        self.failures = self._failed_tries = 0
        self._missed = 0
        self.is_open = False
        self.is_reached = self.was_answered = True

    def missed(self, error: ConnectorError) -> bool:
        """Records a 404 (no such model, nothing at the URL) or a 403 (a firewall, a key without permission).

        Some servers answer a single bad row this way, so it may be the row's fault. Returns whether it ends the run:
        after the first 404 or the third 403 if no call was answered yet, else after 25 in a row.
        """
        self._missed += 1
        self.is_reached = True
        unanswered = 1 if isinstance(error, NotFoundError) else _FORBIDDEN
        return self._missed >= (SAME if self.was_answered else unanswered)

    def failed(
        self, error: ConnectorError, started: float, now: float, in_flight: int, *, is_first: bool
    ) -> OutageError | None:
        """Records that a call which began at `started` failed, while `in_flight` others had not failed (yet).

        The breaker opens once as many calls have failed as were in flight at the same time, and at least ten. Once any
        call has been answered, only first attempts count: some bad rows that are retried are not an outage. If no call
        of the run has had a connection, the address, the network or the server is at fault: the breaker opens at once,
        and a second after the start of the first call the run ends. Returns the reason to stop after the last probe.
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
        """Records that there was no connection, as for all calls before. Calls in flight may have one."""
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
        """Returns what a run waits for in a suspected outage, and until when; `None` if there is none."""
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
        """Records an outcome: a success, even one from an earlier run, shows that the endpoint works."""
        if outcome.status is Status.SUCCESS:
            self.was_answered = True
            self.has_succeeded |= not outcome.provenance.cached
