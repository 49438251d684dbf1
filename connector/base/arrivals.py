"""`Arrivals`: a queue from many threads to one."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Arrivals(Generic[T]):
    """A queue into which any thread puts items, and from which one thread takes them.

    `queue.SimpleQueue` does not work with signal handlers: up to Python 3.12, if a handler returns after the timeout,
    `get` takes the negative remainder as no limit and waits for ever. A lock's `acquire` does not.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._bell = threading.Lock()  # free only after something was put
        self._bell.acquire()

    def put(self, item: T) -> None:
        """Adds an item; never waits."""
        self._items.append(item)
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread has released it between these lines
                self._bell.release()

    def get(self, timeout: float) -> T | None:
        """Returns the first item once there is one; `None` if there is none within `timeout` seconds."""
        while not self._items:
            if not self._bell.acquire(timeout=max(0.0, timeout)):
                return None
        return self._items.popleft()
