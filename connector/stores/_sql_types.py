"""The values of a database in JSON, and JSON's types in a database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from connector.base import numbers
from connector.base.records import Schema
from connector.stores.staging.shapes import DECIMAL

_SCHEMAS: Final[Mapping[type, Schema]] = {
    bool: {"type": ["null", "boolean"]},
    int: {"type": ["null", "integer"]},
    float: {"type": ["null", "number"]},
    Decimal: {"type": ["null", "number"]},
    dt.datetime: {
        "type": ["null", "string"],
        "format": "date-time",
        "airbyte_type": "timestamp_without_timezone",
    },
    dt.date: {"type": ["null", "string"], "format": "date"},
    dt.time: {"type": ["null", "string"], "format": "time", "airbyte_type": "time_without_timezone"},
    bytes: {"type": ["null", "string"], "contentEncoding": "base64"},
    memoryview: {"type": ["null", "string"], "contentEncoding": "base64"},
    dict: {"type": ["null", "object"]},
    list: {"type": ["null", "array"], "items": {}},
    type(None): {},
}
_ZONED: Final = {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
_TEXT: Final = {"type": ["null", "string"]}
_CURSORS: Final[Mapping[type, Callable[[Any], Any]]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    Decimal: lambda value: Decimal(str(value)),
    UUID: UUID,
}
_SQL: Final = {"boolean": sa.Boolean, "integer": sa.BigInteger, "number": sa.Double}


def kind_of(value: Any) -> Any:
    """Returns what decides the schema of a value: its type, and of a time whether it has a zone."""
    kind = type(value)
    return (kind, True) if kind is dt.datetime and value.tzinfo else kind


def column_schema(kinds: Iterable[Any]) -> Schema:
    """Returns the schema of a column whose values are of these kinds; `{}` if all are null."""
    schemas: list[Schema] = []
    for kind in kinds:
        schema = _ZONED if isinstance(kind, tuple) else _SCHEMAS.get(kind, _TEXT)
        if schema and schema not in schemas:
            schemas.append(schema)
    if len(schemas) < 2:  # noqa: PLR2004 - all are alike
        return dict(schemas[0]) if schemas else {}
    types = {kind for schema in schemas for kind in schema["type"]} - {"null"}
    return {"type": ["null", *sorted(types - {"integer"} if "number" in types else types)]}


def cursor_of(sample: Any, value: Any) -> Any:
    """Returns a cursor from a state in the type of its column, of which `sample` is a value.

    Raises:
        ArithmeticError, TypeError, ValueError: It is not a value of that type.
    """
    convert = _CURSORS.get(type(sample))
    return convert(value) if convert else value


def sql_value(value: Any) -> Any:
    """Returns a JSON value as a database takes it: objects and lists as JSON text."""
    return numbers.dumps(value).decode() if isinstance(value, dict | list) else value


def existing_table(name: str, *columns: str) -> sa.TableClause:
    """Returns a table that exists, by its name or `schema.name`."""
    schema, _, table = name.rpartition(".")
    return sa.table(table, *map(sa.column, columns), schema=schema or None)


def new_table(name: str, columns: Mapping[str, Schema]) -> sa.Table:
    """Returns a table to be made: booleans, integers and numbers in their types, everything else as text."""
    schema, _, table = name.rpartition(".")
    made = [sa.Column(column, _column_type(type_)) for column, type_ in columns.items()]
    return sa.Table(table, sa.MetaData(), *made, schema=schema or None)


def widen(connection: sa.Connection, name: str, columns: Mapping[str, Schema]) -> None:
    """Adds the columns that an existing table lacks; names that differ only in case are one column."""
    wanted = new_table(name, columns)
    known = {each["name"].casefold() for each in sa.inspect(connection).get_columns(wanted.name, wanted.schema)}
    quoted = connection.dialect.identifier_preparer
    for column in wanted.columns:
        if column.name.casefold() not in known:
            kind = column.type.compile(connection.dialect)
            add = f"ALTER TABLE {quoted.format_table(wanted)} ADD COLUMN {quoted.format_column(column)} {kind}"
            connection.exec_driver_sql(add)


def _column_type(schema: Schema) -> type[sa.types.TypeEngine[Any]]:
    if schema.get("format") == DECIMAL:
        return sa.Text
    kinds = schema.get("type", ())
    kind = {kinds} if isinstance(kinds, str) else set(kinds)
    return _SQL.get("".join(kind - {"null"}), sa.Text)
