"""The watermark: lets a checkpoint through once all records before it have left, in whatever order they do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from connector.base.records import Checkpoint, Record, Span

_SPANS: Final = 8  # the last spans that are kept: their rows take memory, and behind others stand checkpoints


class Watermark:
    """The index up to which all records have left. Indices enter one after the other and leave in any order."""

    def __init__(self) -> None:
        self._entered = 0
        self._left = bytearray()  # for each record from `_next` on, whether it has left: there can be millions
        self._next: int | None = None
        self._held: deque[tuple[int, Checkpoint]] = deque()
        self._spans: deque[tuple[int, Span]] = deque(maxlen=_SPANS)
        self._covered = 0

    def enter(self, index: int) -> None:
        """Notes that record number `index` enters."""
        if self._next is None:
            self._next = self._covered = index
        self._entered = index + 1

    def enter_record(self, record: Record) -> None:
        """Notes that a record enters, and the span that it is in."""
        self.enter(record.index)
        span = record.span
        if span is not None and not (self._spans and self._spans[-1][1] is span):
            self._spans.append((record.index, span))

    def leave(self, index: int) -> None:
        """Notes that the outcome of record number `index` leaves."""
        if self._next is None:
            return
        if index == self._next and not self._left:
            self._next = index + 1
            return
        place = index - self._next
        self._left.extend(bytes(max(0, place + 1 - len(self._left))))
        self._left[place] = 1
        if place == 0:
            gap = self._left.find(0)
            count = len(self._left) if gap < 0 else gap
            del self._left[:count]
            self._next += count

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
            self._covered, checkpoint = self._held.popleft()
            yield checkpoint

    def reached(self) -> Checkpoint | None:
        """Returns a checkpoint behind the last record before which all have left, if none has covered it yet."""
        if self._next is None or self._next == self._covered:
            return None
        last = self._next - 1
        span = next((span for first, span in reversed(self._spans) if first <= last), None)
        if span is None:
            return None
        self._covered = self._next
        return Checkpoint(span.state_after(last))
