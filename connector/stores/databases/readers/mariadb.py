"""MariaDB and MySQL, through PyMySQL: numbers as Python's, everything else as the text that the server writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.cursors import SSCursor

from connector.base import numbers
from connector.base.records import JSON, Schema
from connector.base.values import json_form
from connector.stores.databases.readers import Column, number, portions
from connector.stores.staging import schemas

DRIVER: Final = "pymysql"
_BINARY: Final = 63  # the character set of bytes
_ZERO: Final = "0000-00-00"
_INTEGERS: Final = ("TINY", "SHORT", "LONG", "LONGLONG", "INT24", "YEAR")
_TEXTS: Final = ("VAR_STRING", "STRING", "VARCHAR", "TINY_BLOB", "BLOB", "MEDIUM_BLOB", "LONG_BLOB", "ENUM", "SET")


def _of(*names: str) -> frozenset[int]:
    return frozenset(getattr(FIELD_TYPE, name) for name in names)


_KINDS: Final[Mapping[str, frozenset[int]]] = {
    "integer": _of(*_INTEGERS),
    "decimal": _of("DECIMAL", "NEWDECIMAL"),
    "single": _of("FLOAT"),
    "double": _of("DOUBLE"),
    "date": _of("DATE", "NEWDATE"),
    "time": _of("TIME"),
    "datetime": _of("DATETIME"),
    "timestamp": _of("TIMESTAMP"),
    "json": _of("JSON"),
    "bit": _of("BIT"),
    "text": _of(*_TEXTS),
    "geometry": _of("GEOMETRY"),
}
_DECODERS: Final[Mapping[int, Callable[[Any], Any]]] = {
    **dict.fromkeys(_KINDS["integer"], int),
    **dict.fromkeys(_KINDS["single"] | _KINDS["double"], float),
}


_SCHEMAS: Final[Mapping[str, Schema]] = {
    "integer": schemas.INTEGER,
    "decimal": schemas.NUMBER,
    "single": schemas.NUMBER,
    "double": schemas.NUMBER,
    "date": schemas.DATE,
    "time": schemas.TIME,
    "datetime": schemas.TIMESTAMP,
    "timestamp": schemas.TIMESTAMP_TZ,
    "json": {},
    "bytes": schemas.BASE64,
}


def prepare(connection: sa.Connection) -> None:
    """See `Reader.prepare`."""
    driver = _driver(connection)
    driver.decoders = dict(_DECODERS)
    with driver.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
    driver.commit()


def columns(connection: sa.Connection, query: str) -> list[Column]:
    """See `Reader.columns`. MariaDB does not execute a query that is limited to no rows."""
    with _driver(connection).cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({query}\n) connector_query LIMIT 0")  # noqa: S608 - the user's own query
        return [_column(field) for field in cursor._result.fields]  # noqa: SLF001 - the description has no character set


def key(connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
    """See `Reader.key`."""
    with _driver(connection).cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.key_column_usage WHERE constraint_name = 'PRIMARY' "
            "AND table_name = %s AND table_schema = coalesce(%s, database()) ORDER BY ordinal_position",
            [table, schema],
        )
        return [name for (name,) in cursor]


def batches(
    connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """See `Reader.batches`. A result not read to its end costs the connection: closing it would read all the rest."""
    driver = _driver(connection)
    cursor = driver.cursor(SSCursor)
    is_whole = False
    try:
        cursor.execute(query, parameters or None)
        yield from portions(iter(cursor.fetchone, None), size)
        is_whole = True
    finally:
        if not is_whole and (result := cursor._result) is not None:  # noqa: SLF001 - PyMySQL has no other way
            result.unbuffered_active = False
            connection.invalidate()
        cursor.close()


def _column(field: Any) -> Column:
    kind = next((kind for kind, types in _KINDS.items() if field.type_code in types), "text")
    if field.type_code == FIELD_TYPE.TINY and field.length == 1:  # which BOOLEAN stands for
        holds = (0, 1).__contains__
        return Column(field.name, schemas.BOOLEAN, _boolean, "{0}", bind=int, holds=holds, is_cursor=False)
    if kind == "geometry" or (kind == "text" and field.charsetnr == _BINARY):
        kind = "bytes"
    schema, convert = dict(_SCHEMAS.get(kind, schemas.TEXT)), _CONVERT.get(kind)
    if kind == "bytes" and field.type_code != FIELD_TYPE.GEOMETRY:
        return Column(field.name, schema, convert, "{0}", "FROM_BASE64({0})", is_cursor=False)
    if kind in ("json", "bit", "bytes", "single"):
        return Column(field.name, schema, convert)
    if kind == "text":  # compared as bytes, whatever its collation
        collated = "CONVERT({0} USING utf8mb4) COLLATE utf8mb4_nopad_bin"
        is_listed = field.flags & (FLAG.ENUM | FLAG.SET)
        return Column(field.name, schema, convert, collated, collated, is_cursor=not is_listed)
    value = {"decimal": "CAST({0} AS DECIMAL(65, 30))", "double": "CAST({0} AS DOUBLE)"}.get(kind, "{0}")
    return Column(field.name, schema, convert, "{0}", value, _bound)


def _bound(value: Any) -> Any:
    return value.removesuffix("Z").replace("T", " ") if isinstance(value, str) else numbers.dumps(value).decode()


def _boolean(value: int | None) -> JSON:
    return None if value is None else bool(value)


def _moment(text: str | None) -> JSON:
    """Returns a timestamp in ISO 8601; the zero date, which is not a date, stays as it is."""
    if text is None or text.startswith(_ZERO):
        return text
    return f"{text[:10]}T{text[11:]}" if "." not in text else f"{text[:10]}T{text[11:].rstrip('0').rstrip('.')}"


def _instant(text: str | None) -> JSON:
    moment = _moment(text)
    return moment if text is None or text.startswith(_ZERO) else f"{moment}Z"


def _time(text: str | None) -> JSON:
    return text if text is None or "." not in text else text.rstrip("0").rstrip(".")


def _bits(value: bytes | None) -> JSON:
    return None if value is None else f"{int.from_bytes(value):b}"


def _bytes(value: bytes | None) -> JSON:
    form: JSON = json_form(value)
    return form


def _json(text: str | None) -> JSON:
    value: JSON = None if text is None else numbers.loads(text)
    return value


_CONVERT: Final[Mapping[str, Callable[[Any], JSON]]] = {
    "decimal": number,
    "time": _time,
    "datetime": _moment,
    "timestamp": _instant,
    "json": _json,
    "bit": _bits,
    "bytes": _bytes,
}


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection
