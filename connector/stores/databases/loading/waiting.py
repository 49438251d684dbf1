"""Rows that wait for their commit in a file, and what is to be learnt from them on their way there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from connector.base import numbers
from connector.base.records import JSON
from connector.stores.staging.spool import Spool

_ROWS: Final = 1_000
_TOGETHER: Final = 256
_FIRST: Final = 16
_BYTES: Final = 1 << 22
_PLAIN: Final = frozenset({str, int, bool, dict, type(None)})


class Rows(NamedTuple):
    """Some rows, and whether a text in them may hold the character NUL."""

    values: list[dict[str, JSON]]
    may_have_nul: bool = False


class Waiting:
    """Rows that come in any order and are read in the order of their index. Those that come in order share a line.

    Args:
        learn: Is told all rows, as they will be read, in any order.
    """

    def __init__(self, spool: Spool, learn: Callable[[Sequence[Mapping[str, JSON]]], None]) -> None:
        self._spool = spool
        self._learn = learn
        self._first = 0
        self._rows: list[dict[str, Any]] = []
        self._most = _FIRST
        self._unlearnt: list[dict[str, JSON]] = []

    def write(self, index: int, row: dict[str, Any] | None) -> None:
        """Keeps a row at `index`; `None` is left out. Raises as `Spool.write`."""
        if row is None:
            self._keep()
            self._spool.write(index, None)
            return
        if index != self._first + len(self._rows):
            self._keep()
        if not self._rows:
            self._first = index
        self._rows.append(row)
        if len(self._rows) >= self._most:
            self._keep()

    def finish(self) -> None:
        """Keeps, and hands on to be learnt, what has come. Raises as `write`."""
        self._keep()
        if self._unlearnt:
            self._learn(self._unlearnt)
            self._unlearnt = []

    def _keep(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        line = self._spool.write_together(self._first, rows)
        if line:
            self._most = max(1, min(_BYTES * len(rows) // len(line), _TOGETHER))
            made = rows if _is_json(rows, line) else orjson.loads(line)
        else:
            made = [numbers.loads(self._spool.write(self._first + place, row)) for place, row in enumerate(rows)]
        self._unlearnt += made
        if len(self._unlearnt) >= self._most:
            self._learn(self._unlearnt)
            self._unlearnt = []

    def batches(self) -> Iterator[Rows]:
        """Yields the rows; decoding many at once takes a third of the time."""
        lines: list[bytes] = []
        size = 0
        for line in self._spool.lines():
            if line.startswith(b"["):
                if lines:
                    yield _decoded(lines)
                    lines, size = [], 0
                yield Rows(orjson.loads(line), b"\\u0000" in line)
                continue
            lines.append(line)
            size += len(line)
            if len(lines) == _ROWS or size > _BYTES:
                yield _decoded(lines)
                lines, size = [], 0
        if lines:
            yield _decoded(lines)


def _is_json(rows: Sequence[Mapping[str, Any]], line: bytes) -> bool:
    """Returns whether rows are what they are read as, from the line that they have become."""
    types = set(map(type, chain.from_iterable(row.values() for row in rows))) - _PLAIN
    if not types or (types <= {float, list} and b"null" not in line):
        return True
    return types == {float} and math.isfinite(
        sum(value for row in rows for value in row.values() if type(value) is float)
    )


def _decoded(lines: list[bytes]) -> Rows:
    text = b"[%b]" % b",".join(lines)
    return Rows(numbers.loads(text), b"\\u0000" in text)
