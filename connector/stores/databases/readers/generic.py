"""Any other database, through SQLAlchemy: the types of columns are inferred from the first rows of the query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from connector.base.records import JSON, Schema
from connector.base.values import json_form
from connector.stores.databases.readers import Column, number, portions
from connector.stores.staging import schemas

DRIVER: Final = ""
_LOOKED_AT: Final = 1_000  # rows
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_BIND: Final[Mapping[type, Callable[[Any], Any]]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    Decimal: lambda value: Decimal(str(value)),
    UUID: UUID,
}
_SCHEMAS: Final[Mapping[Any, Schema]] = {
    bool: schemas.BOOLEAN,
    int: schemas.INTEGER,
    float: schemas.NUMBER,
    Decimal: schemas.NUMBER,
    dt.datetime: schemas.TIMESTAMP,
    (dt.datetime, True): schemas.TIMESTAMP_TZ,
    dt.date: schemas.DATE,
    dt.time: schemas.TIME,
    bytes: schemas.BASE64,
    memoryview: schemas.BASE64,
    dict: {"type": ["null", "object"]},
    list: {"type": ["null", "array"], "items": {}},
    type(None): {},
}


def prepare(connection: sa.Connection) -> None:
    """See `Reader.prepare`."""


def columns(connection: sa.Connection, query: str) -> list[Column]:
    """See `Reader.columns`. The query is started: no other way works for all databases."""
    result = _streamed(connection, query, ())
    with closing(result):
        names = list(result.keys())
        kinds: list[dict[Any, Any]] = [{} for _ in names]
        for row in result.fetchmany(_LOOKED_AT):
            for place, value in enumerate(row):
                if value is not None:
                    kinds[place].setdefault(kind_of(value), value)
    return [_column(name, found) for name, found in zip(names, kinds, strict=True)]


def key(connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:  # noqa: ARG001 - the contract's
    """See `Reader.key`. Always empty, since it is unknown how such a database compares values."""
    return ()


def batches(
    connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """See `Reader.batches`."""
    with closing(_streamed(connection, query, parameters)) as result:
        for rows in portions(result, size):
            yield [tuple(map(_plain, row)) for row in rows]


def _streamed(connection: sa.Connection, query: str, parameters: Sequence[Any]) -> sa.CursorResult[Any]:
    options = {"stream_results": True, "max_row_buffer": _LOOKED_AT, "no_parameters": not parameters}
    return connection.execution_options(**options).exec_driver_sql(query, tuple(parameters) or None)


def _column(name: str, kinds: Mapping[Any, Any]) -> Column:
    sample = next(iter(kinds.values()), None)
    schema = column_schema(kinds)
    convert = _number if set(kinds) & {Decimal} else None
    is_ordered = len(kinds) <= 1 and not isinstance(sample, bool | bytes | memoryview | dict | list)
    return Column(name, schema, convert, "{0}" if is_ordered else "", bind=_BIND.get(type(sample)))


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    return format(value, "f") if isinstance(value, Decimal) else json_form(value)


def _number(value: Any) -> JSON:
    return number(value) if isinstance(value, str) else value


def kind_of(value: Any) -> Any:
    """Returns what decides the schema of a value: its type, and whether a timestamp has a time zone."""
    kind = type(value)
    return (kind, True) if kind is dt.datetime and value.tzinfo else kind


def column_schema(kinds: Iterable[Any]) -> Schema:
    """Returns the schema of a column whose values are of these kinds; `{}` if all are null."""
    found: list[Schema] = []
    for kind in kinds:
        schema = _SCHEMAS.get(kind, schemas.TEXT)
        if schema and schema not in found:
            found.append(schema)
    if len(found) < 2:  # noqa: PLR2004 - all are alike
        return dict(found[0]) if found else {}
    types = {kind for schema in found for kind in schema["type"]} - {"null"}
    return {"type": ["null", *sorted(types - {"integer"} if "number" in types else types)]}
