"""Marks of appends: what tells a run that is started again that its rows are in the table already.

An append cannot be told from one that is to add the same rows once more. So it leaves a mark in a table beside, in the
same transaction: a hash of what was asked and of the rows as they came. The run takes the mark away when all of it is
done; one that was killed before that finds it when it is started again, and adds nothing. A mark says nothing of rows
that were removed since: it counts for no empty table, and an overwrite takes all of them away.
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
    """The marks of the table that a writer is for, over its connection and in its transaction."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._place = place = writer.table_beside(_ENDING)
        self._uses = (f"INSERT INTO {place} SELECT id FROM {place} WHERE 1 = 0", f"DELETE FROM {place} WHERE 1 = 0")
        """What needs every right to them: another user may have made their table, and a commit must not fail of it."""

    def are_there(self) -> bool:
        """Returns whether there is a table for them that this user may use, and no other one of that name."""
        found = self._writer.beside(_ENDING).table()
        columns = found and [(column.name, column.kind.name) for column in found.columns.values()]
        return columns in ([("id", "text")], [("id", "ascii")]) and self._writer.try_run(*self._uses)

    def make(self) -> bool:
        """Makes the table for them; returns whether it is there."""
        create = f"CREATE TABLE IF NOT EXISTS {self._place} (id CHAR(32)){self._writer.IN_TRANSACTIONS}"
        return self._writer.try_run(create) and self.are_there()

    def has(self, mark: str) -> bool:
        """Returns whether this one was left."""
        return self.are_there() and bool(self._writer.run(f"SELECT 1 FROM {self._place} WHERE id = '{mark}'"))

    def leave(self, mark: str) -> None:
        """Leaves one."""
        self._writer.run(f"INSERT INTO {self._place} VALUES ('{mark}')")

    def remove(self, mark: str) -> None:
        """Takes one away, and with the last one their table."""
        self._writer.run(f"DELETE FROM {self._place} WHERE id = '{mark}'")
        if not self._writer.run(f"SELECT 1 FROM {self._place}"):
            self.remove_all()

    def remove_all(self) -> None:
        """Takes all away, with their table, where this user may."""
        self._writer.try_run(f"DROP TABLE IF EXISTS {self._place}")


class Fingerprint:
    """What rows are known by again: equal for equal ones in the same order, however they are cut into blocks.

    Args:
        job: What was asked of them.
        added: The columns that they gained, of which the names alone count: what a run did, and when, is in them.
    """

    def __init__(self, job: str, added: Collection[str]) -> None:
        self._whole = blake2b(repr((job, sorted(added))).encode(), digest_size=_SIZE)
        self._added = frozenset(added)
        self._count = 0
        self._columns: dict[str, Any] = {}

    def of(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yields the blocks of the rows, and takes them in."""
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
        """Returns the mark of the rows so far."""
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
