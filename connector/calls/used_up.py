"""Successful replies that say a rate limit is used up: a hint, followed only while it proves true."""

from __future__ import annotations

import math
from collections.abc import Mapping

from connector.calls.pace import MINUTE
from connector.http.retry_after import empty_wait, has_room


class UsedUp:
    """Whether to wait for a rate limit that a reply calls used up.

    Once all calls have waited for it, there is room again. An endpoint whose very next replies still speak of none
    sends headers that mean nothing: they are left alone from then on, until it does turn a call away.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        self._is_filled = True
        self._is_believed = True

    def wait(self, headers: Mapping[str, str], started: float, now: float) -> float:
        """Returns the seconds for which all calls are to wait, a minute at most; zero where no limit is used up.

        Args:
            headers: Those of a reply that was a success.
            started: When its call was; monotonic seconds, as is `now`.
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
        """Notes a call that was turned away: there is a limit."""
        self._is_filled = self._is_believed = True
