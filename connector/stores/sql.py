"""SQL databases, by way of SQLAlchemy 2: a query or a table is read, and a table is appended to.

The rows of a query are read all at once and wait in a private file: an endpoint takes them over hours, and no server
keeps a cursor or a transaction open that long. Output rows wait, too, and enter their table in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connector.base import numbers
from connector.base.errors import ConfigError, StorageError
from connector.base.records import JSON, Checkpoint, Record, Schema
from connector.base.streams import Target
from connector.stores import Source
from connector.stores._sql_types import (
    column_schema,
    cursor_of,
    existing_table,
    masked,
    new_table,
    sql_value,
    widen,
)
from connector.stores.staging.position import INTERVAL, Position, numbered, state_mismatch
from connector.stores.staging.private_directory import private_directory
from connector.stores.staging.shapes import Shape, check_names
from connector.stores.staging.spool import Spool

_READS: Final = re.compile(
    r"(\s|\(|--[^\n]*\n|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL
)
_FROM: Final = re.compile(r"\bfrom\s+[`\"\[]?(?:\w+[`\"\]]?\.[`\"\[]?)*(\w+)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r"(?<![:\w\\]):(?=\w)")
"""A colon that SQLAlchemy would take for a parameter."""

_STREAMING: Final = {"stream_results": True, "max_row_buffer": INTERVAL}


class Options(BaseModel):
    """A table of a database, or a query."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="SQL database", hide_input_in_errors=True)

    type: Literal["sql"] = Field(default="sql", title="Type")
    url: SecretStr = Field(
        title="Database URL",
        description="The database as an SQLAlchemy URL; its driver has to be installed.",
        examples=["postgresql+psycopg://user:password@host/database", "sqlite:///reviews.db"],
        json_schema_extra={"airbyte_secret": True, "multiwoven_secret": True, "writeOnly": True},
    )
    query: str = Field(
        default="", title="Query", description="The SELECT whose rows are read. Or name a table instead."
    )
    table: str = Field(
        default="",
        title="Table",
        description="The table to read, or to append rows to: its name, or schema.name.",
    )
    name: str = Field(
        default="", title="Stream name", description="The name of the stream. Default: the name of the table."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.query) == bool(self.table):
            raise ValueError("give either a query or a table")
        if self.query and not _READS.match(self.query):
            raise ValueError("the query has to be a SELECT")
        return self


class Query:
    """A `Source` over the rows of a query. `rows` is known once they have been read."""

    def __init__(self, options: Options, engine: sa.Engine, limit: int | None, cursor_field: str | None) -> None:
        self._options = options
        self._engine = engine
        self._limit = limit
        self._cursor_field = cursor_field
        self.rows: int | None = None
        found = _FROM.search(options.query)
        self.name = options.name or options.table or (found[1] if found else "query")
        names, rows = self._look()
        check_names(names, "query")
        if cursor_field is not None and cursor_field not in names:
            raise ConfigError(f'cursor_field: there is no column "{cursor_field}": name one of {", ".join(names)}')
        self._samples = {
            name: next((row[place] for row in rows if row[place] is not None), None) for place, name in enumerate(names)
        }
        self.columns = {name: column_schema(sample) for name, sample in self._samples.items()}

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """See `Source.read`. Of rows with one cursor value, those that the database returns first count as read."""
        return self._read(Position.of(state, self._cursor_field), state)

    def _read(self, start: Position, state: JSON) -> Iterator[Record | Checkpoint]:
        with private_directory() as directory, Spool(Path(directory) / "rows.jsonl") as spool:
            with masked(self._options.url, ConfigError), self._engine.connect() as connection:
                result = connection.execution_options(**_STREAMING).execute(self._statement(start))
                for index, row in enumerate(islice(result, self._limit and self._limit + start.ties)):
                    spool.write(index, dict(zip(self.columns, row, strict=True)))
            if self._cursor_field is None:
                self.rows = len(spool)
                if self.rows < start.rows:
                    raise state_mismatch(state, None)
            left = None if self._limit is None else max(self._limit - start.rows, 0)
            rows = islice(_unread(map(numbers.loads, spool.lines()), start), left)
            yield from numbered(iter(lambda: list(islice(rows, INTERVAL)), []), start, self.name)

    def _look(self) -> tuple[list[str], list[Any]]:
        """Returns the names of the columns, and the first rows."""
        with masked(self._options.url, ConfigError), self._engine.connect() as connection:
            result = connection.execution_options(**_STREAMING).execute(self._whole())
            return list(result.keys()), list(result.fetchmany(INTERVAL))

    def _whole(self) -> sa.Executable:
        if self._options.query:
            return sa.text(_PARAMETER.sub(r"\\:", self._options.query.rstrip().rstrip(";")))
        return sa.select(sa.literal_column("*")).select_from(existing_table(self._options.table))

    def _statement(self, start: Position) -> sa.Executable:
        """Returns the query as it is, or with a cursor the query of what comes from there on, nulls first."""
        whole = self._whole()
        if start.field is None:
            return whole
        if isinstance(whole, sa.TextClause):
            rows: sa.FromClause = whole.columns(*map(sa.column, self.columns)).subquery("t")
        else:
            rows = existing_table(self._options.table, *self.columns)
        cursor = rows.c[start.field]
        chosen = sa.select(rows)
        if start.cursor is not None:
            try:
                chosen = chosen.where(cursor >= cursor_of(self._samples[start.field], start.cursor))
            except (ArithmeticError, TypeError, ValueError):
                raise state_mismatch(start.state, start.field) from None
        return chosen.order_by(sa.case((cursor.is_(None), 0), else_=1), cursor)


class Appender:
    """A `Sink` that puts rows into a table, which it makes if there is none.

    They are appended, or, as `target` says, replace all rows that are there, or those of the same key.
    """

    def __init__(
        self,
        options: Options,
        engine: sa.Engine,
        spool: Spool,
        columns: Mapping[str, Schema],
        target: Target | None,
    ) -> None:
        self._options = options
        self._engine = engine
        self._spool = spool
        self._columns = columns
        self._widens = target is not None
        self._overwrites = target is not None and target.mode == "overwrite"
        self._key = target.primary_key if target else ()
        check_names(columns, options.table)

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        self._spool.write(record.index, None if added is None else {**record.data, **added})

    def flush(self) -> None:
        """Does nothing: the rows enter the table together."""

    def commit(self) -> None:
        """See `Sink.commit`."""
        learned = self._spool.shape.columns if self._spool.shape else {}
        columns = {**learned, **self._columns}
        rows = map(numbers.loads, self._spool.lines())
        insert = sa.insert(existing_table(self._options.table, *columns))
        with masked(self._options.url, StorageError), self._engine.begin() as connection:
            new_table(self._options.table, columns).create(connection, checkfirst=True)
            if self._widens:
                widen(connection, self._options.table, columns)
            if self._overwrites:
                connection.execute(sa.delete(insert.table))
            while batch := [{name: sql_value(row.get(name)) for name in columns} for row in islice(rows, INTERVAL)]:
                connection.execute(insert, self._replacing(connection, insert.table, batch) if self._key else batch)

    def _replacing(self, connection: sa.Connection, table: Any, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Deletes rows whose keys come again; returns the last row of each key, and all rows without one."""
        keys = [tuple(row.get(name) for name in self._key) for row in batch]
        last = {key: number for number, key in enumerate(keys) if None not in key}
        if last:
            same = sa.and_(*(table.c[name] == sa.bindparam(f"key_{place}") for place, name in enumerate(self._key)))
            values = [{f"key_{place}": value for place, value in enumerate(key)} for key in last]
            connection.execute(sa.delete(table).where(same), values)
        return [row for number, row in enumerate(batch) if last.get(keys[number], number) == number]


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Query]:
    """Opens a query for reading, see `Store.source`; its types come from its first rows."""
    with _connected(options) as engine:
        yield Query(options, engine, limit, cursor_field)


@contextmanager
def sink(
    options: Options, added: Mapping[str, Schema], *, source: Source | None = None, target: Target | None = None
) -> Iterator[Appender]:
    """Opens a table for writing, see `Store.sink`. Objects and lists become JSON text, times ISO 8601 text."""
    if not options.table:
        raise ConfigError("output.query: a query cannot be written to: name the `table` that the rows go into")
    shape = None if source and source.columns else Shape.of_table()
    with _connected(options) as engine, private_directory() as directory:
        with masked(options.url, ConfigError), engine.connect():
            pass
        with Spool(Path(directory) / "rows.jsonl", shape) as spool:
            yield Appender(options, engine, spool, {**(source.columns if source else {}), **added}, target)


@contextmanager
def _connected(options: Options) -> Iterator[sa.Engine]:
    with masked(options.url, ConfigError):
        engine = sa.create_engine(options.url.get_secret_value(), poolclass=sa.NullPool, hide_parameters=True)
    try:
        yield engine
    finally:
        engine.dispose()


def _unread(rows: Iterator[dict[str, Any]], start: Position) -> Iterator[dict[str, Any]]:
    """Yields the rows that have not been handed out before."""
    if start.field is None:
        yield from islice(rows, start.rows, None)
        return
    ties = start.ties
    for row in rows:
        if ties and row[start.field] == start.cursor:
            ties -= 1
        else:
            ties = 0
            yield row
