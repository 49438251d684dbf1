"""Puts outcomes back into input order, within bounds: the input is held back while too many wait for a slow one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from connector.pipeline import Item, Result
from connector.records import IDLE, Outcome, Record

WINDOW: Final = 10_000
"""Outcomes that may wait for an earlier one."""


def in_order(items: Iterable[Item], run: Callable[[Iterator[Item]], Iterator[Result]]) -> Iterator[Result]:
    """Yields the outcomes of `run(items)` in the order of their records' indices; everything else as it comes.

    A record that `run` leaves without an outcome (it was stopped) ends the sequence.
    """
    held: dict[int, Outcome] = {}
    expected: int | None = None

    def gated() -> Iterator[Item]:
        nonlocal expected
        for item in items:
            while len(held) >= WINDOW:
                yield IDLE
            if expected is None and isinstance(item, Record):
                expected = item.index
            yield item

    for result in run(gated()):
        if not isinstance(result, Outcome):
            yield result
            continue
        held[result.record.index] = result
        while expected in held:
            yield held.pop(expected)
            expected += 1
