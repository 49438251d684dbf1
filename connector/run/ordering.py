"""Puts outcomes back into input order. If too many wait for a slow one, no more input is taken."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from sys import getsizeof
from typing import Any, Final

from connector.base.records import IDLE, Item, Message, Outcome, Record, Result

_VALUE: Final = 32  # bytes of a number

Results = Generator[Result, None, None]

WINDOW: Final = 10_000
"""How many outcomes may wait for an earlier one."""

ROOM: Final = 1 << 26
"""The approximate size in bytes of their columns, beyond which no more input is taken."""


def in_order(items: Iterable[Item], run: Callable[[Iterator[Item]], Results]) -> Results:
    """Yields outcomes and messages of `run(items)` in the order of their indices; everything else as it comes.

    A record that `run` leaves without an outcome (it was stopped) ends the sequence.
    """
    held: dict[int, tuple[Outcome | Message, int]] = {}  # with their sizes
    size = 0
    expected: int | None = None

    def gated() -> Iterator[Item]:
        nonlocal expected
        for item in items:
            while len(held) >= WINDOW or size >= ROOM:
                yield IDLE
            if expected is None and isinstance(item, Record | Message):
                expected = item.index
            yield item

    with closing(run(gated())) as results:
        for result in results:
            if not isinstance(result, Outcome | Message):
                yield result
                continue
            index = result.record.index if isinstance(result, Outcome) else result.index
            if index == expected:
                yield result
                expected = index + 1
            else:
                held[index] = result, _size(result)
                size += held[index][1]
            while expected in held:
                size -= held[expected][1]
                yield held.pop(expected)[0]
                expected += 1


def _size(result: Outcome | Message) -> int:
    """Returns the bytes, about, of what a result keeps in memory beside its row."""
    return _weight(result.columns) if isinstance(result, Outcome) else len(result.line)


def _weight(value: Any) -> int:
    if isinstance(value, str | bytes | array):
        return getsizeof(value)
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    return sum(map(_weight, value)) if isinstance(value, list) else _VALUE
