"""The rows of a query, which is run once: all are read into a private file, and handed out from there.

An endpoint takes hours for the rows, and no server keeps a cursor or a transaction open that long.
"""

from __future__ import annotations

import logging
import marshal
from collections.abc import Iterator, Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from connector.base.errors import ConfigError
from connector.base.records import JSON, Checkpoint, Record, Schema
from connector.base.suggestions import there_are
from connector.stores.databases import readers
from connector.stores.databases.connection import RESTART, Database, persistent
from connector.stores.databases.readers import Column
from connector.stores.databases.reading.position import SqlPosition
from connector.stores.databases.syntax import PARAMETER, quoted, with_parameters
from connector.stores.staging.position import INTERVAL, numbered
from connector.stores.staging.shapes import check_names
from connector.stores.staging.spool import no_room

_LOG: Final = logging.getLogger(__name__)
_BYTES: Final = 8  # of the length of a batch


class Asked(NamedTuple):
    """What to read: a query, or a table by its name or `schema.name`; and the name of the stream."""

    query: str
    table: str
    name: str


class Query:
    """A `Source` of the rows of a query or a table. `rows` is known once they have been read.

    The rows are kept in `directory`, so that reading them again does not query the database.

    Attributes:
        primary_key: The columns of the table's primary key, if it is read in that order.
    """

    def __init__(
        self, asked: Asked, database: Database, directory: Path, limit: int | None, cursor_field: str | None
    ) -> None:
        self._asked = asked
        self._database = database
        self._directory = directory
        self._taken: dict[SqlPosition, tuple[Path, int]] = {}
        self._limit = limit
        self._selected = "*"
        self._reader = readers.load(database.kind, database.engine.dialect.driver)
        self.rows: int | None = None
        self.name = asked.name
        with database.connect() as connection:
            self._reader.prepare(connection)
            described = self._reader.columns(connection, self._query)
            check_names([each.name for each in described], "query" if asked.query else asked.table, keeps_case=True)
            self._fields = {each.name: each for each in described}
            self._selected = ", ".join(map(self._quoted, self._fields))  # another column may be added before it is read
            self.primary_key = () if asked.query or cursor_field else self._ordered_key(connection)
        self.columns: dict[str, Schema] = {name: dict(each.schema) for name, each in self._fields.items()}
        self._cursor = None if cursor_field is None else self._ordered(cursor_field)

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """See `Source.read`. A table is read, and resumed, in the order of its primary key.

        A query without a cursor and a table without a key have no order to resume in: they are read from the start.
        """
        start = SqlPosition.of(state, self._cursor and self._cursor.name, self.primary_key)
        if state and self._cursor is None and not start.key:
            _LOG.warning(
                "%s: the rows have no primary key to resume from, so they are read from the first one again: "
                "set cursor_field, or name a table that has a primary key",
                self.name,
            )
        return self._read(start)

    def _read(self, start: SqlPosition) -> Iterator[Record | Checkpoint]:
        left = None if self._limit is None else max(self._limit - start.rows, 0)
        if start not in self._taken:
            path = self._directory / f"rows_{len(self._taken)}"
            self._taken[start] = path, persistent(lambda: self._fetch(path, start, left), more=RESTART)
        path, count = self._taken[start]
        if self._cursor is None:
            self.rows = start.rows + count
        yield from numbered(_first(start.unread(self._batches(path)), left), start, self.name)

    def _fetch(self, path: Path, start: SqlPosition, left: int | None) -> int:
        """Reads all rows from `start` on into a file; returns how many there are. Each attempt starts over."""
        query, parameters = self._statement(start)
        most = None if left is None else left + len(start.seen or ()) + len(start.nulls or ())
        strict = [(place, each) for place, each in enumerate(self._fields.values()) if each.holds]
        size, count = min(INTERVAL, most or INTERVAL), 0
        with self._database.connect() as connection, path.open("wb") as file:
            self._reader.prepare(connection)
            with closing(self._reader.batches(connection, query, parameters, size)) as batches:
                for batch in () if most == 0 else batches:
                    rows = batch if most is None else batch[: most - count]
                    if rows and len(rows[0]) != len(self._fields):
                        raise ConfigError(f"{self.name}: the query has other columns than a moment ago: run it again")
                    for place, column in strict:
                        _require(column, map(itemgetter(place), rows))
                    count += len(rows)
                    _append(file, rows, path)
                    if count == most:
                        break
        return count

    def _batches(self, path: Path) -> Iterator[list[dict[str, Any]]]:
        """Yields the rows of the file in the form of records."""
        names = tuple(self._fields)
        made = [(each.name, each.convert) for each in self._fields.values() if each.convert]
        with path.open("rb") as file:
            while head := file.read(_BYTES):
                rows = marshal.loads(file.read(int.from_bytes(head)))  # noqa: S302 - our own file, which is private
                batch = [dict(zip(names, row, strict=True)) for row in rows]
                for name, convert in made:
                    for row in batch:
                        row[name] = convert(row[name])
                yield batch

    @property
    def _query(self) -> str:
        if self._asked.query:
            return self._asked.query.rstrip().rstrip(";")
        schema, _, table = self._asked.table.rpartition(".")
        return f"SELECT {self._selected} FROM {f'{self._quoted(schema)}.' if schema else ''}{self._quoted(table)}"  # noqa: S608 - quoted

    @property
    def _within(self) -> str:
        """The start of a query for the same rows in another order."""
        return self._query if self._asked.table else f"SELECT * FROM ({self._query}\n) connector_rows"  # noqa: S608 - the user's own

    def _statement(self, start: SqlPosition) -> tuple[str, Sequence[Any]]:
        """Returns the query as it is written, or one for the rows from `start` on in order; and its parameters."""
        if self._cursor is not None:
            column = self._quoted(self._cursor.name)
            order = self._cursor.order.format(column)
            where = f"{order} >= {self._cursor.value.format(PARAMETER)}"
            where += f" OR {column} IS NULL" if start.reads_nulls else ""
            values = [] if start.cursor is None else [self._bound(self._cursor, start.cursor)]
            first = f"CASE WHEN {column} IS NULL THEN 0 ELSE 1 END, "
        elif self.primary_key:
            fields = [self._fields[name] for name in self.primary_key]
            order = ", ".join(each.order.format(self._quoted(each.name)) for each in fields)
            where = f"({order}) > ({', '.join(each.value.format(PARAMETER) for each in fields)})"
            values = [self._bound(each, value) for each, value in zip(fields, start.key, strict=False)]
            first = ""
        else:
            return self._query, ()
        sql = f"{self._within} {f'WHERE {where} ' if values else ''}ORDER BY {first}{order}"
        return with_parameters(sql, self._database.engine.dialect) if values else sql, values

    @staticmethod
    def _bound(column: Column, value: Any) -> Any:
        return value if column.bind is None else column.bind(value)

    def _ordered(self, name: str) -> Column:
        """Returns the column of the cursor.

        Raises:
            ConfigError: It does not exist, or its values have no order that a later read could resume in.
        """
        column = self._fields.get(name)
        if column is None:
            raise ConfigError(f'cursor_field: there is no column "{name}"; {there_are(name, self._fields)}')
        if not (column.order and column.is_cursor):
            others = [each.name for each in self._fields.values() if each.order and each.is_cursor]
            raise ConfigError(
                f'cursor_field: the values of "{name}" have no order that a later read could resume in: '
                f"name another column, such as {', '.join(others[:5]) or 'none of these, with a CAST in a query'}"
            )
        return column

    def _ordered_key(self, connection: Any) -> tuple[str, ...]:
        """Returns the primary key of the table; empty if a column of it has no such order."""
        schema, _, table = self._asked.table.rpartition(".")
        found = tuple(self._reader.key(connection, table, schema or None))
        return found if all(name in self._fields and self._fields[name].order for name in found) else ()

    def _quoted(self, name: str) -> str:
        dialect = self._database.engine.dialect
        if self._database.kind in readers.MEMBERS or "%" in name:
            return quoted(name, dialect)
        return str(dialect.identifier_preparer.quote(name))  # in SQLAlchemy, capitals of a warehouse are small letters


def _first(batches: Iterator[list[dict[str, Any]]], left: int | None) -> Iterator[list[dict[str, Any]]]:
    """Yields the first `left` rows, in batches."""
    for batch in batches:
        if left is None or len(batch) < left:
            yield batch
            left = None if left is None else left - len(batch)
            continue
        if left:
            yield batch[:left]
        return


def _append(file: Any, rows: list[tuple[Any, ...]], path: Path) -> None:
    data = marshal.dumps(rows)
    try:
        file.write(len(data).to_bytes(_BYTES) + data)
    except OSError as error:
        raise no_room(error, path.parent.parent) from error


def _require(column: Column, values: Iterator[Any]) -> None:
    """Raises `ConfigError` if a value is not of the column's declared type."""
    holds = column.holds or bool
    for value in values:
        if value is not None and not holds(value):
            name = column.name
            raise ConfigError(
                f'the column "{name}" is declared as {" or ".join(set(column.schema["type"]) - {"null"})} and holds '
                f"{value!r:.40}: correct the value, or read a query in which a CAST gives {name} another type"
            )
