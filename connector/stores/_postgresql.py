"""PostgreSQL's values by way of psycopg: every type has one text, also where Python has no value for it.

Python's dates end with the years 1 and 9999, know no infinity, and its intervals no months. So what is a date, time,
interval or range is taken as the text that the server writes, and made ISO 8601.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads

from connector.base import numbers
from connector.base.records import Schema
from connector.base.values import iso_written

_SETTINGS: Final = ("datestyle = 'ISO, YMD'", "intervalstyle = 'iso_8601'", "timezone = 'UTC'")
_MOMENT: Final = re.compile(r"(\d{4,})-(\d\d-\d\d)(?: ([\d:.]+))?([+-]\d\d(?::\d\d)*)?( BC)?")
_ISO: Final = re.compile(r"([+-])(\d{4,})(-\d\d-\d\d.*)")
_QUOTED: Final = re.compile(r'"([^"]*)"')
_RANGES: Final = ("int4", "int8", "num", "ts", "tstz", "date")


def _string(**more: str) -> Schema:
    return {"type": ["null", "string"], **more}


_SCHEMAS: Final[Mapping[str, Schema]] = {
    "bool": {"type": ["null", "boolean"]},
    **{name: {"type": ["null", "integer"]} for name in ("int2", "int4", "int8", "oid")},
    **{name: {"type": ["null", "number"]} for name in ("float4", "float8", "numeric")},
    "json": {},
    "jsonb": {},
    "bytea": _string(contentEncoding="base64"),
    "date": _string(format="date"),
    "time": _string(format="time", airbyte_type="time_without_timezone"),
    "timetz": _string(format="time", airbyte_type="time_with_timezone"),
    "timestamp": _string(format="date-time", airbyte_type="timestamp_without_timezone"),
    "timestamptz": _string(format="date-time", airbyte_type="timestamp_with_timezone"),
}


def _iso(text: str) -> str:
    """Returns a date or timestamp as ISO 8601: a year beyond four digits, or before year 1, has a sign."""
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
    """Returns a range of timestamps, whose ends the server quotes, as one of other values: [2024-01-01T10:00:00,)."""
    return _QUOTED.sub(lambda found: _iso(found[1]), text)


def _same(text: str) -> str:
    return text


_TEXTS: Final[Mapping[str, Callable[[str], str]]] = {
    "date": _iso,
    "timestamp": _iso,
    "timestamptz": _iso,
    "time": _same,
    "timetz": iso_written,
    "interval": iso_written,
    "record": _same,
    **{f"{name}{kind}": _range for name in _RANGES for kind in ("range", "multirange")},
}


def _loader(make: Callable[[str], str]) -> type[Loader]:
    class AsText(Loader):
        def load(self, data: Any) -> str:
            return make(bytes(data).decode())

    return AsText


def prepare(connection: Any) -> None:
    """Makes a new connection of psycopg give every value as it is described above."""
    for name, text in _TEXTS.items():
        if connection.adapters.types.get(name) is not None:
            connection.adapters.register_loader(name, _loader(text))
    set_json_loads(numbers.loads, connection)
    with connection.cursor() as cursor:
        for setting in _SETTINGS:
            cursor.execute(f"SET {setting}")
    connection.commit()


def schema(connection: Any, oid: int) -> Schema:
    """Returns the schema of the values of a type, by the number that the server gives it."""
    info = connection.adapters.types.get(oid)
    if info is None:
        return _string()
    if info.array_oid == oid:
        return {"type": ["null", "array"], "items": {}}  # its depth is in no type
    return dict(_SCHEMAS.get(info.name, _string()))


def cursor(value: Any) -> Any:
    """Returns a value of a record as the server reads it: a year before 1 is one BC."""
    found = _ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    sign, year, rest = found.groups()
    return f"{1 + int(year):04d}{rest} BC" if sign == "-" else f"{year}{rest}"
