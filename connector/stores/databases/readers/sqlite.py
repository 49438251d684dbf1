"""SQLite. A column has the type that it is declared with, where SQLite converts values to that; else any type.

`INTEGER` and `REAL` columns may hold other values, too, in a table that is not STRICT: such a value ends the read
before anything is paid for (`Column.holds`), since the column then has no type.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Final

import sqlalchemy as sa

from connector.base.lines import MOST
from connector.base.records import JSON
from connector.base.regex import regex
from connector.base.values import json_form
from connector.stores.databases.affinity import affinity
from connector.stores.databases.readers import Column, known, portions, row_too_large
from connector.stores.staging import schemas

DRIVER: Final = "pysqlite"
_AGAIN: Final = regex(r"(.+):\d+", re.DOTALL)
"""The name that SQLite gives a column whose name another one has already."""


def prepare(connection: sa.Connection) -> None:
    """See `Reader.prepare`. Bytes of a text that are not UTF-8 become U+FFFD.

    A cell of more bytes than a row may have is refused unread.
    """
    driver = _driver(connection)
    driver.text_factory = lambda data: str(data, "utf-8", "replace")
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST)


def columns(connection: sa.Connection, query: str) -> list[Column]:
    """See `Reader.columns`."""
    with closing(_driver(connection).cursor()) as cursor:
        cursor.execute(f"CREATE TEMP VIEW connector_query AS {query}")
        rows = cursor.execute("PRAGMA temp.table_info(connector_query)").fetchall()
        cursor.execute("DROP VIEW connector_query")
        cursor.execute("PRAGMA query_only = 1")
    found: list[Column] = []
    for _, name, declared, *_ in rows:
        again = _AGAIN.fullmatch(name)
        is_again = again and again[1].casefold() in {each.name.casefold() for each in found}
        found.append(_column(again[1] if again and is_again else name, declared))
    return found


def key(connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
    """See `Reader.key`. A rowid is no substitute: a VACUUM may change it."""
    with closing(_driver(connection).cursor()) as cursor:
        rows = cursor.execute(
            "SELECT name FROM pragma_table_info(?, ?) WHERE pk > 0 ORDER BY pk", (table, schema or "main")
        )
        return [name for (name,) in rows]


def batches(
    connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """See `Reader.batches`."""
    with closing(_driver(connection).cursor()) as cursor:
        try:
            yield from portions(cursor.execute(query, parameters), size)
        except sqlite3.DataError as error:
            raise row_too_large() from error


def _column(name: str, declared: str) -> Column:
    """Returns the column for a declared type."""
    match affinity(declared):
        case "integer":
            return Column(name, schemas.INTEGER, order="{0}", holds=_is_integer)
        case "text":
            return Column(name, schemas.TEXT, _text, "{0} COLLATE BINARY")
        case "blob":
            return Column(name, schemas.BASE64, _text)
        case "real":
            return Column(name, schemas.NUMBER, known, "{0}", holds=_is_real)
    return Column(name, {}, _any, "{0} COLLATE BINARY")


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_real(value: Any) -> bool:
    return type(value) is float


def _text(value: Any) -> JSON:
    """Returns a value as text; a TEXT column may hold bytes, and a BLOB column anything."""
    if isinstance(value, bytes):
        form: JSON = json_form(value)
        return form
    return value if value is None or isinstance(value, str) else str(value)


def _any(value: Any) -> JSON:
    if isinstance(value, bytes):
        return _text(value)
    return known(value) if isinstance(value, float) else value


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection
