"""A shared bound on the memory of decoded replies that wait to be mapped and stored."""

from __future__ import annotations

import threading
from typing import Final

MODEST: Final = 1 << 20
"""Bytes of memory for which a reply that is decoded as it comes need not enter."""

LARGE: Final = 4 << 20
"""Bytes of memory from which on a reply is handed on at once, and is not kept while anything else is waited for."""


class Room:
    """Makes workers wait before they decode a large reply, until those decoded before have been taken.

    Replies are decoded by many workers and mapped by one thread, so they pile up if it is slower; as JSON decoded they
    are several times as large as they came. One reply may always enter, however large it is. Thread-safe.

    Args:
        most: Bytes that all of them may take.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._taken = 0
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        return self._taken

    def enter(self, size: int) -> None:
        """Waits until there is room for so many bytes, and takes them."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self._taken or self._taken + size <= self._most)
            self._taken += size

    def leave(self, size: int) -> None:
        """Gives so many bytes back."""
        if size:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()

    def close(self) -> None:
        """Lets everybody in, as nobody will leave any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
