"""One deadline for a whole call, however many waits it has."""

from __future__ import annotations

import time
from collections.abc import Callable

from connector.base.errors import APITimeoutError


class Deadline:
    """The deadline of a whole call: `total` seconds from now, at most `connect` of them for each connection.

    Attributes:
        doing: What the call is doing, for the error message when time runs out.
        resent: How often the request was sent again because a keep-alive connection had died.
        is_once: Whether the request must not be sent again, since it may have been carried out.
        is_connected: Whether the call has got past connecting.
    """

    def __init__(
        self, total: float, connect: float | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.message = "no complete reply within {:.3g} s: raise config.timeout, or ask for a shorter reply"
        self.doing = "starting"
        self.resent = 0
        self.is_once = False
        self.is_connected = True
        self._seconds = total
        self._for_connection = connect or total
        self._monotonic = monotonic
        self._end = self._latest = monotonic() + total

    def __repr__(self) -> str:
        return f"Deadline({self._seconds!r}, {self._for_connection!r})"

    def left(self) -> float:
        """Returns the seconds left, more than 0; raises `APITimeoutError` if there are none."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise self.late()
        return left

    def renew(self) -> None:
        """Restarts the deadline: a transfer of unknown length has made progress."""
        self._end = self._latest = self._monotonic() + self._seconds

    def shorten(self, seconds: float | None) -> None:
        """Moves the deadline to this many seconds from now, unless it is sooner; with `None`, back to where it was."""
        self._end = self._latest if seconds is None else min(self._end, self._monotonic() + seconds)

    def late(self) -> APITimeoutError:
        """Returns the error for a call that has run out of time."""
        error = APITimeoutError(self.message.format(self._seconds), detail=f"while {self.doing}")
        error.is_connected = self.is_connected
        return error

    def to_connect(self, options: str = "`url`") -> Deadline:
        """Returns the deadline for connecting: `connect` seconds from now, or this deadline if that is sooner.

        `options` are those that name the peer, for the error message.
        """
        left, most = self.left(), self._for_connection
        part = Deadline(min(left, most), monotonic=self._monotonic)
        option = "connect_timeout" if most < left else "timeout"
        part.message = f"no connection within {{:.3g}} s: check host and port in {options}, or raise config.{option}"
        part.doing, part.is_connected = "connecting", False
        return part
