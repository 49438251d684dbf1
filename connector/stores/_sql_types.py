"""The values of a database in JSON, and JSON's types in a database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from connector.base.records import Schema

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


def existing_table(name: str, *columns: str) -> sa.TableClause:
    """Returns a table that exists, by its name or `schema.name`."""
    schema, _, table = name.rpartition(".")
    return sa.table(table, *map(sa.column, columns), schema=schema or None)
