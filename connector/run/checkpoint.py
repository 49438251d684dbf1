"""The watermark: lets a checkpoint through once all records before it have left, in whatever order they do."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from connector.base.records import Checkpoint


class Watermark:
    """The index up to which all records have left. Indices enter one after the other and leave in any order."""

    def __init__(self) -> None:
        self._entered = 0
        self._left: list[int] = []
        self._next: int | None = None
        self._held: deque[tuple[int, Checkpoint]] = deque()

    def enter(self, index: int) -> None:
        """Takes note that record number `index` enters."""
        if self._next is None:
            self._next = index
        self._entered = index + 1

    def leave(self, index: int) -> None:
        """Takes note that the outcome of record number `index` leaves."""
        if index == self._next and not self._left:
            self._next = index + 1
            return
        heapq.heappush(self._left, index)
        while self._left and self._left[0] == self._next:
            self._next = heapq.heappop(self._left) + 1

    def hold(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint that covers every record that has entered so far."""
        self._held.append((self._entered, checkpoint))

    @property
    def holds(self) -> bool:
        """Whether any checkpoint waits."""
        return bool(self._held)

    def release(self) -> Iterator[Checkpoint]:
        """Yields the checkpoints whose records have all left, in order."""
        while self._held and (self._next is None or self._next >= self._held[0][0]):
            yield self._held.popleft()[1]
