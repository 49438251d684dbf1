"""Marks of appends: they tell a run that is started again that its rows are in the table already.

A table does not show whether the same rows were appended before. So an append leaves a mark in an auxiliary table, in
the same transaction: a hash of the job and of the rows as they came. The run removes the mark when it has finished; a
run that was killed before that finds it when it is started again, and adds nothing. A mark does not know of rows that
were deleted since: it is ignored if the table is empty, and an overwrite removes all marks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.records import JSON
from connector.stores.databases.loading.base import Writer
from connector.stores.databases.loading.block import Block

_ENDING: Final = "__commit"
_SIZE: Final = 16  # bytes


class Marks:
    """The marks of a writer's table, over its connection and in its transaction."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._place = place = writer.auxiliary_place(_ENDING)
        self._uses = (f"INSERT INTO {place} SELECT id FROM {place} WHERE 1 = 0", f"DELETE FROM {place} WHERE 1 = 0")
        """Statements that need all rights on their table: another user may own it, and a commit must not fail on it."""

    def are_there(self) -> bool:
        """Returns whether their table exists, with the columns that we give it, and this user may use it."""
        found = self._writer.auxiliary(_ENDING).table()
        columns = found and [(column.name, column.kind.name) for column in found.columns.values()]
        return columns in ([("id", "text")], [("id", "ascii")]) and self._writer.try_run(*self._uses)

    def make(self) -> bool:
        """Creates their table if need be; returns whether it can be used."""
        create = f"CREATE TABLE IF NOT EXISTS {self._place} (id CHAR(32)){self._writer.IN_TRANSACTIONS}"
        return self._writer.try_run(create) and self.are_there()

    def has(self, mark: str) -> bool:
        """Returns whether this mark was left."""
        return self.are_there() and bool(self._writer.run(f"SELECT 1 FROM {self._place} WHERE id = '{mark}'"))

    def leave(self, mark: str) -> None:
        """Leaves a mark."""
        self._writer.run(f"INSERT INTO {self._place} VALUES ('{mark}')")

    def remove(self, mark: str) -> None:
        """Removes a mark, and with the last one their table."""
        self._writer.run(f"DELETE FROM {self._place} WHERE id = '{mark}'")
        if not self._writer.run(f"SELECT 1 FROM {self._place}"):
            self.remove_all()

    def remove_all(self) -> None:
        """Removes all marks with their table, if this user may."""
        self._writer.try_run(f"DROP TABLE IF EXISTS {self._place}")


class Fingerprint:
    """Identifies rows: equal for the same rows in the same order, however they are cut into blocks.

    Args:
        job: What the run was asked to do.
        added: The columns that the run adds. Only their names count: their values differ from run to run.
    """

    def __init__(self, job: str, added: Collection[str]) -> None:
        self._whole = blake2b(repr((job, sorted(added))).encode(), digest_size=_SIZE)
        self._added = frozenset(added)
        self._count = 0
        self._columns: dict[str, Any] = {}

    def of(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yields the blocks unchanged, and adds their rows to the fingerprint."""
        for block in blocks:
            self._add(block)
            yield block

    def _add(self, block: Block) -> None:
        for name in block.columns:
            if name not in self._added and name not in self._columns:
                self._columns[name] = blake2b(b"null," * self._count, digest_size=_SIZE)
        for name, column in self._columns.items():
            column.update(_written(block.columns[name]) if name in block.columns else b"null," * block.size)
        self._count += block.size

    def mark(self) -> str:
        """Returns the mark for the rows so far."""
        whole = self._whole.copy()
        whole.update(repr(self._count).encode())
        for name, column in sorted(self._columns.items()):
            whole.update(repr((name, column.digest())).encode())
        return whole.hexdigest()


def _written(values: Sequence[JSON]) -> bytes:
    try:
        text = orjson.dumps(values)
    except TypeError:  # a number with more digits than a double has
        text = numbers.dumps(values)
    return text[1:-1] + b","
