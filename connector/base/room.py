"""A shared bound on the memory of decoded replies, until they have been mapped, stored and handed on."""

from __future__ import annotations

import threading
from typing import Final

MODEST: Final = 1 << 20
"""Replies that take up to so many bytes of memory need not enter if they are decoded as they arrive."""

LARGE: Final = 4 << 20
"""Replies that take at least so many bytes of memory are passed on at once, rather than collected with others."""


class Room:
    """Makes workers wait before they decode a large reply, until earlier ones have been handed on.

    Replies are decoded by many workers and mapped by one thread, so they pile up if that is slower, and decoded JSON
    is several times as large as received. One reply may always enter, however large it is. Whoever makes the calls
    leaves the room for the replies that it returns. Thread-safe.

    Args:
        most: The most bytes for all of them together.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._taken = 0
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """How many bytes are taken now."""
        return self._taken

    def enter(self, size: int) -> None:
        """Waits until there is room for `size` bytes, and takes them."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self._taken or self._taken + size <= self._most)
            self._taken += size

    def leave(self, size: int) -> None:
        """Releases `size` bytes."""
        if size:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()

    def close(self) -> None:
        """Admits everything from now on, as nothing will be released any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
