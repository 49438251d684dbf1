"""Puts outcomes back into input order. Where too many wait for a slow one, no more input is taken."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final

from connector.base.records import IDLE, Message, Outcome, Record
from connector.run.pipeline import Item, Result

Results = Generator[Result, None, None]

WINDOW: Final = 10_000
"""How many outcomes may wait for an earlier one."""


def in_order(items: Iterable[Item], run: Callable[[Iterator[Item]], Results]) -> Results:
    """Yields outcomes and messages of `run(items)` in the order of their indices; everything else as it comes.

    A record that `run` leaves without an outcome (it was stopped) ends the sequence.
    """
    held: dict[int, Outcome | Message] = {}
    expected: int | None = None

    def gated() -> Iterator[Item]:
        nonlocal expected
        for item in items:
            while len(held) >= WINDOW:
                yield IDLE
            if expected is None and isinstance(item, Record | Message):
                expected = item.index
            yield item

    with closing(run(gated())) as results:
        for result in results:
            if not isinstance(result, Outcome | Message):
                yield result
                continue
            held[result.record.index if isinstance(result, Outcome) else result.index] = result
            while expected in held:
                yield held.pop(expected)
                expected += 1
