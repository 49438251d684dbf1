"""The snapshot of an input: a table that cannot change while it is read, with its rows in the order of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import BAD_INPUT, JSON, Checkpoint, Record, Schema
from connector.base.suggestions import there_are
from connector.stores.columnar.columns import ROW, SnapshotColumn
from connector.stores.columnar.database import Database
from connector.stores.formats import File, FileInput, FromFiles, unreadable
from connector.stores.staging.compression import BROKEN
from connector.stores.staging.position import Position, numbered, state_mismatch
from connector.stores.staging.shapes import check_names
from connector.stores.staging.spool import is_full, no_room


class Snapshot(FromFiles):
    """A `Source` of the table `input`; row n of the table is the record with index n."""

    def __init__(self, name: str, files: Sequence[File], database: Database, fields: Sequence[SnapshotColumn]) -> None:
        self.name = name
        self.files = files
        self.parts = database.parts
        self.database = database
        self.fields = fields
        self.columns: dict[str, Schema] = {field.name: field.schema for field in fields if field.name != BAD_INPUT}
        self.rows = database.count("input")
        self._cursor: SnapshotColumn | None = None

    def sort(self, cursor_field: str, limit: int | None) -> None:
        """Sorts the rows by a column, stably and with nulls first, and keeps the first `limit` of them.

        Raises:
            ConfigError: There is no such column, or its values have no order.
        """
        self._cursor = next((field for field in self.fields if field.name == cursor_field), None)
        if self._cursor is None:
            raise ConfigError(
                f'cursor_field: there is no column "{cursor_field}"; {there_are(cursor_field, self.columns)}'
            )
        if not self._cursor.cursor_type:
            raise ConfigError(f'cursor_field: the values of "{cursor_field}" have no order: name another column')
        last = "" if limit is None else f" LIMIT {limit}"
        self.parts = []
        self.database.run(f"CREATE TABLE sorted AS FROM input ORDER BY {_key(self._cursor)} NULLS FIRST, rowid{last}")
        self.database.run("DROP TABLE input")
        self.database.run("ALTER TABLE sorted RENAME TO input")
        self.rows = self.database.count("input")

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """See `Source.read`."""
        position = Position.of(state, self._cursor.name if self._cursor else None)
        if self._cursor and state:
            position = position._replace(rows=self._resume(self._cursor, position, state))
        elif position.rows > self.rows:
            raise state_mismatch(state, None)
        has_bad = len(self.columns) < len(self.fields)
        return numbered(self._batches(position.rows), position, self.name, has_bad=has_bad)

    def _resume(self, cursor: SnapshotColumn, position: Position, state: JSON) -> int:
        """Returns how many rows precede the first unread one."""
        key = _key(cursor)
        value = f"CAST($1 AS {cursor.cursor_type})"
        try:
            ((nulls, less, equal),) = self.database.run(
                f"FROM input SELECT count(*) FILTER (WHERE {key} IS NULL), count(*) FILTER (WHERE {key} < {value}), "
                f"count(*) FILTER (WHERE {key} = {value})",
                # DuckDB neither reads nor writes a plus sign before a five-digit year.
                [cursor_value.removeprefix("+") if isinstance(cursor_value := position.cursor, str) else cursor_value],
            )
        except duckdb.Error as error:
            raise state_mismatch(state, cursor.name) from error
        if position.cursor is None:
            return int(min(position.ties, nulls))
        return int(nulls + less + min(position.ties, equal))

    def _batches(self, start: int) -> Iterator[list[dict[str, Any]]]:
        keys = {field.name: field.key for field in self.fields if field.key is not None}
        with _explained(self.files, self.database):  # a value may be found to have no form in JSON only here
            yield from self._whole(start, keys) if keys else self._cells(start)

    def _whole(self, start: int, keys: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        for rows in self.database.rows(ROW, start):
            given = [numbers.loads(text) for (text,) in rows]
            yield [{name: row.get(key) for name, key in keys.items()} for row in given]

    def _cells(self, start: int) -> Iterator[list[dict[str, Any]]]:
        names = [field.name for field in self.fields]
        parsed = [(field.name, field.parse) for field in self.fields if field.parse]
        cells = ", ".join(field.json for field in self.fields) or "NULL"
        for rows in self.database.rows(cells, start):
            batch = [dict(zip(names, row, strict=False)) for row in rows]
            for name, parse in parsed:
                for data in batch:
                    if data[name] is not None:
                        data[name] = self._parsed(name, parse, data[name])
            yield batch

    def _parsed(self, name: str, parse: Callable[[Any], JSON], given: Any) -> JSON:
        try:
            return parse(given)
        except ValueError as error:
            where = ", ".join(str(file.path) for file in self.files)
            raise ConfigError(
                f'{where}: the column "{name}" holds a value that is not JSON ({error}): write it as text'
            ) from error


def _key(cursor: SnapshotColumn) -> str:
    """Returns SQL to order by. Values that a state holds as null, such as NaN and infinity, are null here, too."""
    if cursor.cursor_type in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isfinite({cursor.exact}) THEN {cursor.exact} END"
    return f"CASE WHEN {cursor.json} IS NOT NULL THEN {cursor.exact} END"


@contextmanager
def opened(given: FileInput) -> Iterator[Snapshot]:
    """Reads all files once, and keeps a copy of what they hold now in a database.

    Raises:
        ConfigError: A file cannot be read; the message names the file and the place in it.
        StorageError: There is no room for the snapshot.
    """
    files, limit = given.files, given.limit
    with Database(given.directory) as database:
        with _explained(files, database):
            fields = files[0].format.load(database, files, limit if given.cursor_field is None else None)
            read = ((given.read_as(field.name), field) for field in fields)
            kept = [field._replace(name=name) for name, field in read if name is not None]
            check_names((field.name for field in kept), ", ".join(str(file.path) for file in files), keeps_case=True)
            snapshot = Snapshot(given.name, files, database, kept)
            if given.cursor_field is not None:
                snapshot.sort(given.cursor_field, limit)
        yield snapshot


@contextmanager
def reading(files: Sequence[File], directory: Path) -> Iterator[Database]:
    """Opens a database for reading files, in a private directory. Raises as `opened`."""
    with Database(directory) as database, _explained(files, database):
        yield database


@contextmanager
def _explained(files: Sequence[File], database: Database) -> Iterator[None]:
    """Raises DuckDB's errors as ours, in plain words and with the name of the file."""
    try:
        yield
    except (duckdb.Error, *BROKEN) as error:
        if is_full(error):
            raise no_room(error, database.directory.parent) from error
        raise unreadable(files, error, files[0].format.explain(str(error))) from error
