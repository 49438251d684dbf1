"""SQL databases, by way of SQLAlchemy 2: a query or a table is read, and rows are brought into a table.

The rows of a query are read all at once and wait in a private file: an endpoint takes them over hours, and no server
keeps a cursor or a transaction open that long. Output rows wait, too, and enter their table in one transaction.

What `sink` does with the rows that the table has, is the mode of its `Target`: `append` adds to them, `overwrite` puts
the new rows in their place, `append_dedup` (an upsert) those of the same `primary_key`. Without a target it appends.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.json_schema import SkipJsonSchema

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import JSON, Checkpoint, Record, Schema, remaining
from connector.base.streams import Target
from connector.base.suggestions import there_are
from connector.stores import Source
from connector.stores._sql_types import (
    column_schema,
    cursor_of,
    existing_table,
    kind_of,
)
from connector.stores.databases.connection import Database, opened, persistent
from connector.stores.loading.table import Appender
from connector.stores.staging.kept import kept
from connector.stores.staging.position import INTERVAL, Position, numbered, state_mismatch
from connector.stores.staging.private_directory import private_directory
from connector.stores.staging.shapes import check_names
from connector.stores.staging.spool import Spool

_READS: Final = re.compile(
    r"(\s|\(|--[^\n]*\n|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL
)
_FROM: Final = re.compile(r"\bfrom\s+[`\"\[]?(?:\w+[`\"\]]?\.[`\"\[]?)*(\w+)", re.IGNORECASE)
_STREAMING: Final = {"stream_results": True, "max_row_buffer": INTERVAL}


class Options(BaseModel):
    """A table of a database, or a query."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="SQL database", hide_input_in_errors=True)

    KEEPS_CASE: ClassVar[bool] = True
    """Names that differ only in case are columns of their own."""

    type: Literal["sql"] = Field(default="sql", title="Type")
    url: SecretStr = Field(
        title="Database URL",
        description="The database as a URL; its driver is an extra: `postgresql`, `mariadb`, `duckdb`. "
        "`${NAME}` is read from the environment.",
        examples=["postgresql://user:${DB_PASSWORD}@host/database", "sqlite:///reviews.db"],
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
    keep_llm_as: SkipJsonSchema[str] = ""  # the config has it for every input

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.query) == bool(self.table):
            raise ValueError("give either a query or a table")
        if self.query and not _READS.match(self.query):
            raise ValueError("the query has to be a SELECT")
        return self


class Query:
    """A `Source` over the rows of a query. `rows` is known once they have been read."""

    def __init__(self, options: Options, database: Database, limit: int | None, cursor_field: str | None) -> None:
        self._options = options
        self._database = database
        self._engine = database.engine
        self._limit = limit
        self._cursor_field = cursor_field
        self.rows: int | None = None
        found = _FROM.search(options.query)
        self.name = options.name or options.table or (found[1] if found else "query")
        self._samples: dict[str, Any] = {}
        self.columns: dict[str, Schema] = {}
        self._look()
        if cursor_field is not None and cursor_field not in self.columns:
            raise ConfigError(
                f'cursor_field: there is no column "{cursor_field}"; {there_are(cursor_field, self.columns)}'
            )

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """See `Source.read`. Of rows with one cursor value, those that the database returns first count as read."""
        return self._read(Position.of(state, self._cursor_field), state)

    def _read(self, start: Position, state: JSON) -> Iterator[Record | Checkpoint]:
        with private_directory() as directory, ExitStack() as stack:
            spool = persistent(lambda: self._spooled(stack, directory, start))
            if self._cursor_field is None:
                self.rows = len(spool)
                if self.rows < start.rows:
                    raise state_mismatch(state, None)
            left = None if self._limit is None else max(self._limit - start.rows, 0)
            rows = islice(_unread(map(_with_numbers, spool.lines()), start), left)
            yield from numbered(iter(lambda: list(islice(rows, INTERVAL)), []), start, self.name)

    def _spooled(self, stack: ExitStack, directory: Path, start: Position) -> Spool:
        """Returns all rows from `start` on; after an attempt that broke off, all of them anew."""
        spool = stack.enter_context(Spool(directory / "rows.jsonl"))
        with self._database.connect() as connection, closing(self._rows(connection, start)) as result:
            for index, row in enumerate(islice(result, self._limit and self._limit + start.ties)):
                spool.write(index, _with_texts(dict(zip(self.columns, row, strict=True))))
        return spool

    def _look(self) -> None:
        """Learns the columns: from the server if it tells types, else from the first rows, or all of a local file."""
        with (
            self._database.connect() as connection,
            closing(self._rows(connection, Position())) as result,
        ):
            names = list(result.keys())
            check_names(names, "query")
            told = [each[1] for each in result.cursor.description] if result.cursor else []
            samples: list[Any] = [None] * len(names)
            kinds: list[dict[Any, None]] = [{} for _ in names]
            for row in result if self._engine.dialect.name == "sqlite" else islice(result, INTERVAL):
                for place, value in enumerate(row):
                    if value is not None:
                        samples[place] = value if samples[place] is None else samples[place]
                        kinds[place][kind_of(value)] = None
            if _is_psycopg(self._engine):
                columns = [_psycopg().schema(connection.connection.dbapi_connection, oid) for oid in told]
            else:
                columns = [column_schema(each) for each in kinds]
        self._samples = dict(zip(names, samples, strict=True))
        self.columns = dict(zip(names, columns, strict=True))

    def _rows(self, connection: sa.Connection, start: Position) -> sa.CursorResult[Any]:
        """Runs the query as it is written, or with a cursor the query of what comes from there on, nulls first."""
        connection = connection.execution_options(**_STREAMING)
        query = self._options.query.rstrip().rstrip(";")
        if start.field is None and query:
            return connection.execution_options(no_parameters=True).exec_driver_sql(query)
        return connection.execute(self._statement(start, query))

    def _statement(self, start: Position, query: str) -> sa.Select[Any]:
        if query:
            if self._engine.dialect.paramstyle in ("format", "pyformat"):
                query = query.replace("%", "%%")
            rows = sa.table(sa.quoted_name(f"({query}\n) t", quote=False))
        else:
            rows = existing_table(self._options.table)
        chosen: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(rows)
        if start.field is None:
            return chosen
        cursor: sa.ColumnElement[Any] = sa.column(start.field)
        if start.cursor is not None:
            try:
                value = cursor_of(self._samples[start.field], start.cursor)
            except (ArithmeticError, TypeError, ValueError):
                raise state_mismatch(start.state, start.field) from None
            if _is_psycopg(self._engine):  # the server knows the type, which is not that of a text
                value = sa.bindparam("cursor", _psycopg().cursor(value), type_=sa.types.NullType())
            chosen = chosen.where(cursor >= value)
        return chosen.order_by(sa.case((cursor.is_(None), 0), else_=1), cursor)


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Source]:
    """Opens a query for reading, see `Store.source`; its types come from its first rows."""
    with _connected(options) as database:
        database.require_file()
        yield kept(Query(options, database, limit, cursor_field), options.keep_llm_as)


@contextmanager
def sink(
    options: Options, added: Mapping[str, Schema], *, source: Source | None = None, target: Target | None = None
) -> Iterator[Appender]:
    """Opens a table for writing, see `Store.sink`. It is made, or its columns widened, so that it holds the values.

    Raises:
        ConfigError: A commit would be refused, as far as can be found out without rows: no right, no schema, no key.
    """
    if not options.table:
        raise ConfigError("output.query: a query cannot be written to: name the `table` that the rows go into")
    given = source.columns if source else target.columns if target else {}
    with (
        _connected(options) as database,
        private_directory() as directory,
        Spool(Path(directory) / "rows.jsonl") as spool,
    ):
        appender = Appender(database, options.table, spool, {**remaining(given, added), **added}, target)
        if target is None or not target.is_open:
            appender.rehearse()
        yield appender


@contextmanager
def _connected(options: Options) -> Iterator[Database]:
    with opened(options.url) as database:
        if _is_psycopg(database.engine):
            sa.event.listen(database.engine, "connect", lambda connection, _: _psycopg().prepare(connection))
        yield database


def _is_psycopg(engine: sa.Engine) -> bool:
    """Returns whether values come from PostgreSQL by way of psycopg."""
    return engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg"


def _psycopg() -> Any:
    """Returns the module that needs psycopg."""
    return importlib.import_module("connector.stores._postgresql")


_DECIMALS: Final = "\0decimals"
"""The key, in a waiting row, of the columns whose texts are decimals: JSON's numbers have no zeros at their end."""


def _with_texts(row: dict[str, Any]) -> dict[str, Any]:
    decimals = [name for name, value in row.items() if isinstance(value, Decimal) and value.is_finite()]
    return {**row, **{name: format(row[name], "f") for name in decimals}, _DECIMALS: decimals} if decimals else row


def _with_numbers(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = numbers.loads(line)
    for name in row.pop(_DECIMALS, ()):
        row[name] = numbers.of_decimal(Decimal(row[name]))
    return row


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
