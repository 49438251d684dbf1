"""DuckDB. Values are converted to JSON in SQL, as those of Parquet files are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Final, cast

import duckdb
import sqlalchemy as sa

from connector.base import numbers
from connector.base.records import JSON
from connector.stores.columnar.columns import (
    NESTED,
    DuckType,
    has_decimals,
    identifier,
    json_value,
    orderable,
    with_numbers,
)
from connector.stores.databases.readers import Column, fetched, number, portions

DRIVER: Final = "duckdb_engine"
_AS_TEXT: Final = ("uuid", "hugeint", "uhugeint")  # types with an order whose values are text in records


def prepare(connection: sa.Connection) -> None:
    """See `Reader.prepare`."""


def columns(connection: sa.Connection, query: str) -> list[Column]:
    """See `Reader.columns`."""
    return [_column(name, type_) for name, type_ in _described(connection, query)]


def key(connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
    """See `Reader.key`."""
    with closing(_cursor(connection)) as cursor:
        cursor.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' "
            "AND lower(table_name) = lower(?) AND lower(schema_name) = lower(coalesce(?, current_schema())) "
            "AND database_name = current_database()",
            [table, schema],
        )
        found = cursor.fetchone()
    return cast("Sequence[str]", found[0]) if found else []


def batches(
    connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """See `Reader.batches`."""
    described = _described(connection, query, parameters)
    cells = ", ".join(_cell(f"c.{identifier(name)}", type_) for name, type_ in described)
    exact = [place for place, (_, type_) in enumerate(described) if _is_nested(type_) and has_decimals(type_)]
    with closing(_cursor(connection)) as cursor:
        cursor.execute(f"SELECT {cells} FROM ({query}\n) c", list(parameters))  # noqa: S608 - the user's own query
        for rows in portions(fetched(cursor.fetchmany, size), size):
            yield [_as_text(row, exact) for row in rows] if exact else rows


def _described(connection: sa.Connection, query: str, parameters: Sequence[Any] = ()) -> list[tuple[str, DuckType]]:
    with closing(_cursor(connection)) as cursor:
        cursor.execute(f"SELECT * FROM ({query}\n) c LIMIT 0", list(parameters))  # noqa: S608 - the user's own query
        return [(name, type_) for name, type_, *_ in cursor.description]


def _is_nested(type_: DuckType) -> bool:
    return type_.id in NESTED


def _cell(sql: str, type_: DuckType) -> str:
    """Returns SQL for a value that `marshal` can write, or for a nested one that holds decimals."""
    if type_.id == "float":  # by way of text: cast directly, the double shows other digits
        return json_value(f"CAST(CAST({sql} AS VARCHAR) AS DOUBLE)", duckdb.sqltype("DOUBLE"))[0]
    return f"CAST({sql} AS VARCHAR)" if type_.id == "decimal" else json_value(sql, type_)[0]


def _as_text(row: Sequence[Any], places: Sequence[int]) -> tuple[Any, ...]:
    """Returns a row with the values at these positions, which hold decimals, as JSON text."""
    cells = list(row)
    for place in places:
        if cells[place] is not None:
            cells[place] = numbers.dumps(with_numbers(cells[place])).decode()
    return tuple(cells)


def _column(name: str, type_: DuckType) -> Column:
    _, schema = json_value("x", type_)
    convert: Callable[[Any], JSON] | None = None
    if type_.id == "decimal":
        convert = number
    elif _is_nested(type_) and has_decimals(type_):
        convert = _parsed
    if type_.id == "blob":
        return Column(name, schema, convert, "{0}", "from_base64(CAST({0} AS VARCHAR))", is_cursor=False)
    if type_.id in ("varchar", "enum"):  # compared as bytes, whatever the column's collation
        text = "encode(CAST({0} AS VARCHAR))"
        return Column(name, schema, convert, text, text, is_cursor=type_.id == "varchar")
    ordered = orderable(type_) or (str(type_) if type_.id in _AS_TEXT else "")
    if not ordered:
        return Column(name, schema, convert)
    is_cursor = type_.id != "boolean"
    return Column(name, schema, convert, "{0}", f"CAST({{0}} AS {ordered})", _bound, is_cursor=is_cursor)


def _parsed(text: str | None) -> JSON:
    parsed: JSON = None if text is None else numbers.loads(text)
    return parsed


def _bound(value: Any) -> Any:
    """Returns a value as DuckDB reads it: a five-digit year without a sign, a decimal as text."""
    return value.removeprefix("+") if isinstance(value, str) else str(value) if isinstance(value, float) else value


def _cursor(connection: sa.Connection) -> Any:
    return cast("Any", connection.connection.driver_connection).cursor()
