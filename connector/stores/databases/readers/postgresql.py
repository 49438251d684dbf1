"""PostgreSQL, through psycopg: types that Python cannot hold in full are read as text.

Python's dates go from year 1 to 9999 and have no infinity, its intervals have no months. So dates, times, intervals,
ranges and decimals are read as the text that the server writes, and become ISO 8601 or numbers later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.pq import ExecStatus

from connector.base import numbers
from connector.base.records import JSON, Schema
from connector.base.regex import regex
from connector.base.values import iso_written, json_form
from connector.stores.databases.readers import Column, fetched, known, number, portions
from connector.stores.databases.syntax import quoted
from connector.stores.staging import schemas

DRIVER: Final = "psycopg"
SETTINGS: Final = (
    "datestyle = 'ISO, YMD'",
    "intervalstyle = 'iso_8601'",
    "timezone = 'UTC'",
    "extra_float_digits = 3",
)
"""Fix how values are written as text, whatever the server, the database or the user has set."""
_MOMENT: Final = regex(r"(\d{4,})-(\d\d-\d\d)(?: ([\d:.]+))?([+-]\d\d(?::\d\d)*)?( BC)?")
_ISO: Final = regex(r"([+-]\d{4,})(-\d\d-\d\d.*)")
_PART: Final = regex(r"\d+(?:\.\d+)?")
_QUOTED: Final = regex(r'"([^"]*)"')
_RANGES: Final = ("int4", "int8", "num", "ts", "tstz", "date")


_SCHEMAS: Final[Mapping[str, Schema]] = {
    "bool": schemas.BOOLEAN,
    **dict.fromkeys(("int2", "int4", "int8", "oid"), schemas.INTEGER),
    **dict.fromkeys(("float4", "float8", "numeric"), schemas.NUMBER),
    "json": {},
    "jsonb": {},
    "bytea": schemas.BASE64,
    "date": schemas.DATE,
    "time": schemas.TIME,
    "timetz": schemas.TIME_TZ,
    "timestamp": schemas.TIMESTAMP,
    "timestamptz": schemas.TIMESTAMP_TZ,
}


def _iso(text: str) -> str:
    """Returns a date or timestamp as ISO 8601: a year of more than four digits, or before year 1, has a sign."""
    found = _MOMENT.fullmatch(text)
    if found is None:  # infinity
        return text
    year, day, time, zone, is_before = found.groups()
    if is_before:
        year = f"{1 - int(year):+05d}"
    elif int(year) > 9999:  # noqa: PLR2004 - the last with four digits
        year = f"+{int(year)}"
    return f"{year}-{day}{f'T{time}' if time else ''}{_zone(zone) if zone else ''}"


def _zone(zone: str) -> str:
    return "Z" if zone == "+00" else zone if ":" in zone else f"{zone}:00"


def _range(text: str) -> str:
    """Returns a range in the form [2024-01-01T10:00:00,): the server quotes the ends of one of timestamps."""
    return _QUOTED.sub(lambda found: _iso(found[1]), text)


_TEXTS: Final = (
    *("numeric", "date", "timestamp", "timestamptz", "time", "timetz", "interval", "record", "json", "jsonb"),
    *("uuid", "inet", "cidr"),
    *(f"{name}{kind}" for name in _RANGES for kind in ("range", "multirange")),
)
"""The types whose values are read as text."""


def _loaded(text: str) -> JSON:
    value: JSON = numbers.loads(text)
    return value


_CONVERT: Final[Mapping[str, Callable[[Any], JSON]]] = {
    "date": _iso,
    "timestamp": _iso,
    "timestamptz": _iso,
    "timetz": iso_written,
    "interval": iso_written,
    **{f"{name}{kind}": _range for name in _RANGES for kind in ("range", "multirange")},
    "numeric": number,
    "float4": known,
    "float8": known,
    "json": _loaded,
    "jsonb": _loaded,
    "bytea": json_form,
}
_ORDERED: Final = frozenset(
    {
        *("int2", "int4", "int8", "oid", "float4", "float8", "numeric", "date", "time", "timestamp", "timestamptz"),
        *("uuid", "text", "varchar", "bpchar", "name"),
    }
)
_ORDERED_IN_KEYS: Final = frozenset({"bool", "bytea", "inet", "cidr", "macaddr", "macaddr8", "timetz", "interval"})
_AS_BYTES: Final = '{0}::text COLLATE "C"'
_WORDS: Final = frozenset({"text", "varchar", "bpchar", "name"})


class _Text(Loader):
    def load(self, data: Any) -> str:
        return bytes(data).decode()


def prepare(connection: sa.Connection) -> None:
    """See `Reader.prepare`."""
    driver = _driver(connection)
    for name in _TEXTS:
        if driver.adapters.types.get(name) is not None:
            driver.adapters.register_loader(name, _text_loader(driver))
    with driver.cursor() as cursor:
        cursor.execute("; ".join(f"SET {setting}" for setting in SETTINGS))
    driver.commit()
    driver.read_only = True


def columns(connection: sa.Connection, query: str) -> list[Column]:
    """See `Reader.columns`."""
    driver = _driver(connection)
    raw = driver.pgconn
    for result in (raw.prepare(b"", query.encode()), raw.describe_prepared(b"")):
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
    places = range(result.nfields)
    return [_column(driver, (result.fname(place) or b"").decode(), result.ftype(place)) for place in places]


def key(connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
    """See `Reader.key`."""
    named = ".".join(quoted(name, connection.dialect) for name in (schema, table) if name)
    with _driver(connection).cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
            "WHERE indrelid = to_regclass(%s) AND indisprimary ORDER BY array_position(indkey::int2[], attnum)",
            [named],
        )
        return [name for (name,) in cursor]


def batches(
    connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """See `Reader.batches`."""
    with _driver(connection).cursor("connector_rows") as cursor:
        cursor.execute(query, parameters or None)
        yield from portions(fetched(cursor.fetchmany, size), size)


def _column(driver: Any, name: str, oid: int) -> Column:
    info = driver.adapters.types.get(oid)
    if info is None:  # an enumeration, or a type of an extension
        return Column(name, schemas.TEXT, order=_AS_BYTES, value=_AS_BYTES, is_cursor=False)
    if info.array_oid == oid:
        inner = _CONVERT.get(info.name)
        return Column(name, {"type": ["null", "array"], "items": {}}, inner and _each(inner))  # of any depth
    schema, convert = dict(_SCHEMAS.get(info.name, schemas.TEXT)), _CONVERT.get(info.name)
    if info.name not in _ORDERED | _ORDERED_IN_KEYS:
        return Column(name, schema, convert and _unless_null(convert))
    order, value = "{0}", f"CAST({{0}}::text AS {info.regtype})"
    if info.name == "bytea":
        value = "decode({0}::text, 'base64')"
    elif info.name in _WORDS:  # by "C", in which no two texts are equal; char(n) without its padding
        order = _AS_BYTES
        value = f"rtrim({order[:9]}){order[9:]}" if info.name == "bpchar" else order
    is_cursor = info.name in _ORDERED
    bind = _duration if info.name == "interval" else server_text
    return Column(name, schema, convert and _unless_null(convert), order, value, bind, is_cursor=is_cursor)


def _unless_null(convert: Callable[[Any], JSON]) -> Callable[[Any], JSON]:
    def converted(value: Any) -> JSON:
        return None if value is None else convert(value)

    return converted


def _each(convert: Callable[[Any], JSON]) -> Callable[[Any], JSON]:
    def converted(value: Any) -> JSON:
        if isinstance(value, list):
            return [converted(each) for each in value]
        return None if value is None else convert(value)

    return converted


def _text_loader(driver: Any) -> Any:
    """Returns psycopg's loader that keeps a text as it is: the one in C, where psycopg has it."""
    return driver.adapters.get_loader(driver.adapters.types["text"].oid, psycopg.pq.Format.TEXT) or _Text


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def _duration(value: str) -> str:
    """Returns a record's duration as the server reads it: with the sign at each part instead of in front."""
    return _PART.sub(r"-\g<0>", value[1:]) if value.startswith("-") else value


def server_text(value: Any) -> str:
    """Returns a record's value as the text that the server reads: a year before 1 becomes one BC."""
    found = _ISO.fullmatch(value) if isinstance(value, str) and value[:1] in ("+", "-") else None
    if found is None:
        return str(value)
    year, rest = int(found[1]), found[2]
    return f"{year:04d}{rest}" if year > 0 else f"{1 - year:04d}{rest} BC"
