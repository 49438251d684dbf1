"""Consecutive rows as columns, so that whole columns are examined and converted at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from connector.base.records import JSON

_WIDE: Final = 1_000  # columns of a block of rows that differ in their columns


class Block(NamedTuple):
    """`size` rows: the values of each column, null where a row lacks it.

    `filled`: how many values the rows have in all. `may_have_nul`: whether a text in them may hold the character NUL.
    """

    columns: Mapping[str, Sequence[JSON]]
    size: int
    filled: int
    may_have_nul: bool = False

    def row(self, index: int) -> dict[str, JSON]:
        """Returns one of the rows, with all columns."""
        return {name: values[index] for name, values in self.columns.items()}


def of_columns(names: Sequence[str], columns: Sequence[Sequence[JSON]], *, may_have_nul: bool = False) -> Block:
    """Returns the block of rows that all have the same columns, at least one."""
    size = len(columns[0])
    return Block(dict(zip(names, columns, strict=True)), size, size * len(names), may_have_nul)


def of_rows(rows: Sequence[Mapping[str, Any]], *, may_have_nul: bool = False) -> Iterator[Block]:
    """Yields rows with any columns as blocks: several if the rows differ so much that empty cells would fill memory."""
    names = dict.fromkeys(chain.from_iterable(rows))
    if len(names) > _WIDE and len(rows) > 1:
        middle = len(rows) // 2
        yield from of_rows(rows[:middle], may_have_nul=may_have_nul)
        yield from of_rows(rows[middle:], may_have_nul=may_have_nul)
        return
    columns = {name: [row.get(name) for row in rows] for name in names}
    yield Block(columns, len(rows), sum(map(len, rows)), may_have_nul)
