"""Tells an outage from bad luck: when call after call fails, it lets one at a time try, and in the end stops the run.

In an outage the rows are not failed one after the other: they wait, so that the same command finishes them later.
"""

from __future__ import annotations

import re
from typing import Final

from connector.errors import OutageError, RetryableError
from connector.records import Outcome, Status

STREAK: Final = 10
"""Failures without any success, from which on it looks like an outage."""

SAME: Final = 25
"""Rows refused in the same words, before any success, from which on it is the request and not the rows."""

_VARYING: Final = re.compile(r"\d+|\"[^\"]*\"|'[^']*'")


class Breaker:
    """Open while an outage is suspected. Times are seconds of a monotonic clock.

    Args:
        probes: How many single tries may fail before the run is stopped.
    """

    def __init__(self, probes: int = 5) -> None:
        self._probes = probes
        self._failures = 0
        self._since = 0.0
        self._failed_probes = 0
        self._refusals = 0
        self._words = ""
        self._has_succeeded = False
        self.is_open = False

    def answered(self) -> None:
        """Some call got a final reply, so it is no outage."""
        self._failures = self._failed_probes = 0
        self.is_open = False

    def failed(self, error: RetryableError, started: float, now: float) -> OutageError | None:
        """A call that began at `started` failed. Opens after a whole round of calls without any reply.

        Returns the reason to stop once the tries while it was open have failed too.
        """
        if not self._failures:
            self._since = now
        self._failures += 1
        if self.is_open:
            self._failed_probes += 1
            if self._failed_probes >= self._probes:
                return OutageError(
                    f"{self._failures} calls in a row failed, the last one so: {error.message}. "
                    "Nothing is lost: run the same command again once the endpoint is back",
                    detail=error.detail,
                    http_status=error.http_status,
                )
        elif self._failures >= STREAK and started >= self._since:
            self.is_open = True
        return None

    def judged(self, outcome: Outcome) -> OutageError | None:
        """A row is done. Returns the reason to stop where so far every row was refused in the same words."""
        failure = outcome.provenance["error"]
        if outcome.status is Status.SUCCESS:
            self._has_succeeded = True
        if self._has_succeeded or outcome.status is not Status.ERROR or failure["http_status"] is None:
            return None
        words = _VARYING.sub("", failure["message"])
        self._refusals = self._refusals + 1 if words == self._words else 1
        self._words = words
        if self._refusals < SAME:
            return None
        return OutageError(
            f"the first {self._refusals} rows all failed in the same way: {failure['message']}",
            http_status=failure["http_status"],
        )
