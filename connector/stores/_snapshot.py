"""The snapshot of an input: a table that cannot change while it is read, row for row in the order of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from connector.base.errors import ConfigError
from connector.base.records import JSON, Checkpoint, Record, Schema
from connector.stores import _read_csv, _read_json, _read_parquet
from connector.stores._columns import Column
from connector.stores._database import Database
from connector.stores._formats import BROKEN, File, FromFiles, unreadable
from connector.stores._position import Position, misfit, numbered
from connector.stores.staging.spool import is_full, no_room

_LOADERS: Final[Mapping[str, Callable[[Database, Sequence[File], int | None], list[Column]]]] = {
    "csv": _read_csv.load,
    "tsv": _read_csv.load,
    "jsonl": _read_json.load,
    "parquet": _read_parquet.load,
}


class Snapshot(FromFiles):
    """A `Source` over the table `input`; row n of the table is the record with index n."""

    def __init__(self, name: str, files: Sequence[File], database: Database, fields: Sequence[Column]) -> None:
        self.name = name
        self.files = files
        self.database = database
        self.fields = fields
        self.columns: dict[str, Schema] = {field.name: field.schema for field in fields}
        self.rows = database.count("input")
        self._cursor: Column | None = None

    def sort(self, cursor_field: str, limit: int | None) -> None:
        """Put the rows in the order of a column, nulls first and equal ones as they were, and keep `limit` of them.

        Raises:
            ConfigError: there is no such column, or its values have no order.
        """
        self._cursor = next((field for field in self.fields if field.name == cursor_field), None)
        if self._cursor is None:
            raise ConfigError(
                f"There is no column {cursor_field!r} to be the cursor_field. Columns: {', '.join(self.columns)}."
            )
        if not self._cursor.kind:
            raise ConfigError(f"The column {cursor_field!r} cannot be the cursor_field: its values have no order.")
        last = "" if limit is None else f" LIMIT {limit}"
        self.database.run(f"CREATE TABLE sorted AS FROM input ORDER BY {_key(self._cursor)} NULLS FIRST, rowid{last}")
        self.database.run("DROP TABLE input")
        self.database.run("ALTER TABLE sorted RENAME TO input")
        self.rows = self.database.count("input")

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """As `Source.read` says."""
        position = Position.of(state, self._cursor.name if self._cursor else None)
        if self._cursor and state:
            position = position._replace(rows=self._resume(self._cursor, position, state))
        elif position.rows > self.rows:
            raise misfit(state, None)
        return numbered(self._batches(position.rows), position, self.name)

    def _resume(self, cursor: Column, position: Position, state: JSON) -> int:
        """How many rows come before those that have not been read."""
        key = _key(cursor)
        value = f"CAST($1 AS {cursor.kind})"
        try:
            ((nulls, less, equal),) = self.database.run(
                f"FROM input SELECT count(*) FILTER (WHERE {key} IS NULL), count(*) FILTER (WHERE {key} < {value}), "
                f"count(*) FILTER (WHERE {key} = {value})",
                [position.cursor],
            )
        except duckdb.Error as error:
            raise misfit(state, cursor.name) from error
        if position.cursor is None:
            return int(min(position.ties, nulls))
        return int(nulls + less + min(position.ties, equal))

    def _batches(self, start: int) -> Iterator[list[dict[str, Any]]]:
        names = list(self.columns)
        parsed = [field.name for field in self.fields if field.parse]
        cells = ", ".join(field.plain for field in self.fields) or "NULL"
        for rows in self.database.stream(lambda first: f"FROM input SELECT {cells} WHERE rowid >= {first}", start):
            batch = [dict(zip(names, row, strict=False)) for row in rows]
            for name in parsed:
                for data in batch:
                    if data[name] is not None:
                        data[name] = self._parsed(name, data[name])
            yield batch

    def _parsed(self, name: str, text: str) -> JSON:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            where = ", ".join(str(file.path) for file in self.files)
            raise ConfigError(f"{where}: the column {name!r} holds what is not JSON ({error.msg}).") from error


def _key(cursor: Column) -> str:
    """What to order by. What is null in the records, as NaN is, is null here."""
    return f"CASE WHEN {cursor.plain} IS NOT NULL THEN {cursor.exact} END"


@contextmanager
def opened(
    name: str,
    files: Sequence[File],
    directory: Path,
    *,
    limit: int | None = None,
    cursor_field: str | None = None,
    leaves_out: Callable[[str], bool] = lambda _: False,
) -> Iterator[Snapshot]:
    """Read all files once, and hold what they say now, in a database in `directory`; some columns may be left out.

    Raises:
        ConfigError: something in them cannot be read; it says what and where.
        StorageError: there is no room for the snapshot.
    """
    with Database(directory) as database:
        with explained(files, database):
            fields = _LOADERS[files[0].format](database, files, limit if cursor_field is None else None)
            kept = [field for field in fields if not leaves_out(field.name)]
            snapshot = Snapshot(name, files, database, kept)
            if cursor_field is not None:
                snapshot.sort(cursor_field, limit)
        yield snapshot


@contextmanager
def explained(files: Sequence[File], database: Database) -> Iterator[None]:
    """Say in plain words what is wrong with which file."""
    try:
        yield
    except (duckdb.Error, *BROKEN) as error:
        if is_full(error):
            raise no_room(error, database.directory.parent) from error
        raise unreadable(files, error, _read_csv.explain(str(error))) from error
