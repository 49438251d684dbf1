"""Successful replies that say that a rate limit is used up: a hint, followed only while it proves true."""

from __future__ import annotations

import math
from collections.abc import Mapping

from connector.calls.pace import MINUTE
from connector.http.retry_after import empty_wait, has_room


class UsedUp:
    """Whether to wait for a rate limit that a reply calls used up.

    Once all calls have waited, there should be room again. If the very next replies still report none, the endpoint's
    headers are meaningless: they are ignored from then on, until it refuses a call.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        self._is_filled = True
        self._is_believed = True

    def wait(self, headers: Mapping[str, str], started: float, now: float) -> float:
        """Returns the seconds for which all calls are to wait, at most a minute; zero if no limit is used up.

        Args:
            headers: The headers of a successful reply.
            started: When its call started; in monotonic seconds, as `now` is.
        """
        asked = empty_wait(headers)
        if asked is None:
            self._is_filled = self._is_filled or has_room(headers)
            return 0.0
        if started >= self._until and not self._is_filled:
            self._is_believed = False
        if not self._is_believed:
            return 0.0
        wait = min(asked, MINUTE)
        self._until, self._is_filled = max(self._until, now + wait), False
        return wait

    def refused(self) -> None:
        """Records a refused call: there is a limit."""
        self._is_filled = self._is_believed = True
