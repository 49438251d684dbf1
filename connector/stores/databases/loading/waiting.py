"""Rows that wait in a file for their commit, and are learnt from on their way there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.records import JSON
from connector.stores.databases.loading import block
from connector.stores.databases.loading.block import Block
from connector.stores.staging.spool import Spool

_ROWS: Final = 1_000
_TOGETHER: Final = 1_000
_FIRST: Final = 16
_BYTES: Final = 1 << 22
_PLAIN: Final = frozenset({str, int, bool, dict, type(None)})


class Waiting:
    """Rows that come in any order and are read in the order of their index. Consecutive ones share a line.

    If the rows of a line have the same columns, it holds a list of their names and then the values of each column.

    Args:
        learn: Is called with all rows, as they will be read, in any order.
    """

    def __init__(self, spool: Spool, learn: Callable[[Block], None]) -> None:
        self._spool = spool
        self._learn = learn
        self._first = self._next = 0
        self._names: Sequence[str] = ()
        self._width = -1  # of the rows of a line that holds columns
        self._values: Callable[[Mapping[str, Any]], tuple[Any, ...]] = tuple
        self._cells: list[tuple[Any, ...]] = []
        self._rows: list[dict[str, Any]] = []
        self._most = _FIRST
        self._unlearnt: list[dict[str, JSON]] = []

    def write(self, index: int, row: Mapping[str, Any] | None) -> None:
        """Stores a row under `index`; `None` stands for a row that is left out. Raises as `Spool.write`."""
        if index == self._next and row is not None and len(row) == self._width:  # the usual case
            try:
                self._cells.append(self._values(row))
            except KeyError:
                self._mix(row)
        elif row is None:
            self._keep()
            self._first = self._next = index
            self._spool.write(index, None)
            return
        else:
            if index != self._next:
                self._keep()
                self._first = self._next = index
            self._begin(row) if index == self._first else self._mix(row)
        self._next += 1
        if self._next - self._first >= self._most:
            self._keep()

    def _begin(self, row: Mapping[str, Any]) -> None:
        """Begins a line with a row: as columns if it has several and all their names are texts, else as a whole row."""
        if len(row) < 2 or set(map(type, row)) != {str}:  # noqa: PLR2004 - itemgetter of one returns no tuple
            self._mix(row)
            return
        self._names, self._width, self._values = tuple(row), len(row), itemgetter(*row)
        self._cells.append(self._values(row))

    def _mix(self, row: Mapping[str, Any]) -> None:
        """Adds a row with other columns than the first one of the line, whose rows are then stored whole."""
        self._rows += [dict(zip(self._names, cells, strict=True)) for cells in self._cells]
        self._names, self._width, self._cells = (), -1, []
        self._rows.append(dict(row))

    def finish(self) -> None:
        """Stores what is left, and passes it to `learn`. Raises as `write`."""
        self._keep()
        self._learn_rest()

    def _learn_rest(self) -> None:
        for each in block.of_rows(self._unlearnt) if self._unlearnt else ():
            self._learn(each)
        self._unlearnt = []

    def _keep(self) -> None:
        first, count, names = self._first, self._next - self._first, self._names
        columns = list(zip(*self._cells, strict=True))
        rows, cells = self._rows, self._cells
        self._first, self._width, self._rows, self._cells = self._next, -1, [], []
        if not count:
            return
        line = self._spool.write_together(first, [names, *columns] if cells else rows, count)
        if not line:
            whole = rows or (dict(zip(names, each, strict=True)) for each in cells)
            self._unlearnt += [numbers.loads(self._spool.write(first + place, row)) for place, row in enumerate(whole)]
            if len(self._unlearnt) >= self._most:
                self._learn_rest()
            return
        self._most = max(1, min(_BYTES * count // len(line), _TOGETHER))
        self._learn_rest()
        is_told = not rows and all(_is_json(values, line) for values in columns)
        for each in (block.of_columns(names, columns),) if is_told else _read(line):
            self._learn(each)

    def blocks(self) -> Iterator[Block]:
        """Yields all rows. Decoding many lines at once takes a third of the time."""
        lines: list[bytes] = []
        size = 0
        for line in self._spool.lines():
            if line.startswith(b"["):
                if lines:
                    yield from _decoded(lines)
                    lines, size = [], 0
                yield from _read(line)
                continue
            lines.append(line)
            size += len(line)
            if len(lines) == _ROWS or size > _BYTES:
                yield from _decoded(lines)
                lines, size = [], 0
        if lines:
            yield from _decoded(lines)


def _is_json(values: Sequence[Any], line: bytes) -> bool:
    """Returns whether the values of a column equal those that will be read back from the line."""
    types = set(map(type, values))
    others = types - _PLAIN
    if others == {float}:
        return math.isfinite(sum(values if types == {float} else [each for each in values if type(each) is float]))
    return not others or (others <= {float, list} and b"null" not in line)


def _read(line: bytes) -> Iterator[Block]:
    """Yields the rows of a shared line."""
    may_have_nul = b"\\u0000" in line
    found = orjson.loads(line)
    if isinstance(found[0], dict):
        yield from block.of_rows(found, may_have_nul=may_have_nul)
    else:
        yield block.of_columns(found[0], found[1:], may_have_nul=may_have_nul)


def _decoded(lines: list[bytes]) -> Iterator[Block]:
    text = b"[%b]" % b",".join(lines)
    return block.of_rows(numbers.loads(text), may_have_nul=b"\\u0000" in text)
