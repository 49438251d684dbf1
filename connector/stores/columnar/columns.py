"""The columns of a snapshot: their types in DuckDB and in JSON Schema, and the SQL that converts between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from connector.base import numbers
from connector.base.records import JSON, Part, Schema
from connector.stores.staging import schemas
from connector.stores.staging.shapes import DECIMAL

Structure: TypeAlias = str | list[Any] | dict[str, Any] | None
"""A type as `from_json` reads it: a name, `[item]` or `{key: value}`; `None` where all values are null."""


class DuckType(Protocol):
    """The part of duckdb's type objects that is used here: it is the same in every version."""

    @property
    def id(self) -> str:
        """The type's name, in lower case."""
        ...

    @property
    def children(self) -> list[tuple[str, Any]]:
        """The names and types that it is made of, or the names and numbers that describe it."""
        ...


ROW: Final = "whole_row"
"""The column that holds each row as JSON text, with all digits of its numbers, which typed columns could not hold."""


class SnapshotDatabase(Protocol):
    """The part of `database.Database` that a format needs to fill the table `input`."""

    @property
    def directory(self) -> Path:
        """A private directory."""
        ...

    @property
    def parts(self) -> list[Part]:
        """Which rows of that table come from which file, if there are several: filled by the format."""
        ...

    def expect(self, columns: int, where: str) -> None:
        """Raises the memory limit to what rows of so many columns need. Raises `ConfigError` if they are too many."""
        ...

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement and returns all of its rows."""
        ...

    def stream(self, statement: Callable[[int], str]) -> Iterator[list[tuple[Any, ...]]]:
        """Yields the rows of a query in batches; `statement` skips as many rows as it is given."""
        ...

    def count(self, table: str) -> int:
        """Returns how many rows a table has."""
        ...

    def types(self, table: str) -> dict[str, Any]:
        """Returns the columns of a table and their types, as duckdb's own objects."""
        ...


class SnapshotColumn(NamedTuple):
    """A column of the snapshot, and the SQL of its values.

    Attributes:
        name: The column's name in the input.
        schema: The JSON Schema of its values in records.
        exact: SQL for the value in its own type, for Parquet and for sorting.
        json: SQL for a value that JSON can hold, for records.
        text: SQL for the text of a CSV cell.
        cursor_type: DuckDB's type of the values if they have an order, else empty.
        parse: Converts a value of `json` into that of a record; raises `ValueError`.
        key: The key in the JSON of the column `ROW`, where records are read from that.
    """

    name: str
    schema: Schema
    exact: str
    json: str
    text: str
    cursor_type: str = ""
    parse: Callable[[Any], JSON] | None = None
    key: str | None = None


def identifier(name: str) -> str:
    """Returns a name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Returns a text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(structure: Structure) -> str:
    """Returns a type as SQL."""
    if isinstance(structure, list):
        return f"{sql_type(structure[0])}[]"
    if isinstance(structure, dict):
        return f"STRUCT({', '.join(f'{identifier(key)} {sql_type(value)}' for key, value in structure.items())})"
    return structure or "VARCHAR"


_INTEGERS = dict.fromkeys(
    ("tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
    ("{0}", schemas.INTEGER),
)
_FLOATS = dict.fromkeys(
    ("float", "double"),
    ("CASE WHEN NOT isnan({0}) THEN {0} END", schemas.NUMBER),
)
_IN_UTC: Final = "make_timestamp(epoch_us({0}))"  # whatever the time zone of the session


def _iso(sql: str, time: str = "", zone: str = "") -> str:
    """Returns SQL for a finite date as ISO 8601: a year of more than four digits, or before year 1, has a sign.

    `time` is SQL for what follows the day, beginning with `||`.
    """
    day = f"CASE WHEN year({sql}) BETWEEN 1 AND 9999 THEN '' ELSE format('{{:+05d}}', year({sql})) END"
    rest = f"substr(strftime({sql}, '%Y-%m-%d'), CASE WHEN year({sql}) BETWEEN 1 AND 9999 THEN 1 ELSE -6 END)"
    return f"{day} || {rest}{time} || '{zone}'"


def _moment(sql: str, zone: str = "") -> str:
    """Returns the same for a timestamp."""
    return _iso(sql, f" || 'T' || string_split(CAST({sql} AS VARCHAR), ' ')[-1]", zone)


def _finite(iso: str) -> str:
    return f"CASE WHEN isfinite({{0}}) THEN {iso} ELSE CAST({{0}} AS VARCHAR) END"


def _interval(sql: str) -> str:
    """Returns SQL for an interval as ISO 8601, as `connector.base.values.duration_text` writes it."""
    parts = {
        name: f"CASE WHEN datepart('{part}', {sql}) <> 0 THEN datepart('{part}', {sql}) || '{name[-1]}' ELSE '' END"
        for part, name in {"year": "Y", "month": "M", "day": "D", "hour": "TH", "minute": "TM"}.items()
    }
    seconds = f"datepart('microsecond', {sql})"
    parts["TS"] = (
        f"CASE WHEN {seconds} <> 0 THEN rtrim(rtrim(format('{{:.6f}}', {seconds} / 1e6), '0'), '.') || 'S' ELSE '' END"
    )
    days = " || ".join(sql for name, sql in parts.items() if name[0] != "T")
    clock = " || ".join(sql for name, sql in parts.items() if name[0] == "T")
    text = f"'P' || {days} || coalesce('T' || nullif({clock}, ''), '')"
    is_negative = f"regexp_matches({text}, '-') AND NOT regexp_matches({text}, '[A-Z][0-9]')"
    signed = f"CASE WHEN {is_negative} THEN '-' || replace({text}, '-', '') ELSE {text} END"
    return f"CASE WHEN {sql} IS NOT NULL THEN coalesce(nullif({signed}, 'P'), 'PT0S') END"


_TIMESTAMPS = dict.fromkeys(
    ("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"), (_finite(_moment("{0}")), schemas.TIMESTAMP)
)
_SCALARS: Final[Mapping[str, tuple[str, Schema]]] = {
    "boolean": ("{0}", schemas.BOOLEAN),
    **_INTEGERS,
    **_FLOATS,
    **_TIMESTAMPS,
    "varchar": ("{0}", schemas.TEXT),
    "date": (_finite(_iso("{0}")), schemas.DATE),
    "time": ("CAST({0} AS VARCHAR)", schemas.TIME),
    "time_ns": ("CAST({0} AS VARCHAR)", schemas.TIME),
    "time with time zone": (
        "regexp_replace(regexp_replace(CAST({0} AS VARCHAR), '[+]00$', 'Z'), '([+-][0-9][0-9])$', '\\1:00')",
        schemas.TIME_TZ,
    ),
    "timestamp with time zone": (_finite(_moment(_IN_UTC, "Z")), schemas.TIMESTAMP_TZ),
    "timestamptz_ns": (_moment("make_timestamp_ns(epoch_ns({0}))", "Z"), schemas.TIMESTAMP_TZ),
    "interval": (_interval("{0}"), schemas.TEXT),
    "blob": ("to_base64({0})", schemas.BASE64),
}
_OTHER: Final = ("CAST({0} AS VARCHAR)", schemas.TEXT)


NESTED: Final = frozenset({"list", "array", "struct", "map"})
"""The types that are composed of others."""


def json_value(sql: str, type_: DuckType, depth: int = 0) -> tuple[str, Schema]:
    """Returns SQL that converts a value into one that JSON can hold, and the schema of that.

    Timestamps and dates become ISO 8601 text (in UTC if they have a time zone; infinity stays a word), intervals
    ISO 8601 text, bytes base64, NaN null. Decimals stay, for `with_numbers`. All other types become text.
    """
    match type_.id:
        case "list" | "array":
            inner, items = json_value(f"x{depth}", dict(type_.children)["child"], depth + 1)
            mapped = sql if inner == f"x{depth}" else f"[{inner} FOR x{depth} IN {sql}]"
            return mapped, {"type": ["null", "array"], "items": items}
        case "struct":
            fields = {
                name: (field, *json_value(field, child, depth))
                for name, child in type_.children
                for field in (f"struct_extract({sql}, {literal(name)})",)
            }
            packed = ", ".join(f"{identifier(name)}: {inner}" for name, (_, inner, _) in fields.items())
            same = all(field == inner for field, inner, _ in fields.values())
            properties = {name: schema for name, (_, _, schema) in fields.items()}
            return (
                sql if same else f"CASE WHEN {sql} IS NOT NULL THEN {{{packed}}} END",
                {"type": ["null", "object"], "properties": properties},
            )
        case "map":
            inner, values = json_value(f"x{depth}", dict(type_.children)["value"], depth + 1)
            keys = f"CAST(map_keys({sql}) AS VARCHAR[])"
            mapped = f"map({keys}, [{inner} FOR x{depth} IN map_values({sql})])"
            return (
                f"CASE WHEN {sql} IS NOT NULL THEN {mapped} END",
                {"type": ["null", "object"], "additionalProperties": values},
            )
        case "decimal":  # Python gets it with all its digits
            return sql, {"type": ["null", "number" if dict(type_.children)["scale"] else "integer"]}
    return scalar(sql, type_.id)


def has_decimals(type_: DuckType) -> bool:
    """Returns whether a type is, or contains, a decimal."""
    inner = type_.children if type_.id in NESTED else []
    return type_.id == "decimal" or any(hasattr(child, "id") and has_decimals(child) for _, child in inner)


def with_numbers(value: Any) -> JSON:
    """Returns a value in which decimals have become JSON numbers, digit for digit."""
    if isinstance(value, Decimal):
        return numbers.of_decimal(value)
    if isinstance(value, list):
        return [with_numbers(each) for each in value]
    if isinstance(value, dict):
        return {key: with_numbers(each) for key, each in value.items()}
    return value


def scalar(sql: str, type_: str) -> tuple[str, Schema]:
    """Returns what `json_value` returns, for a type that is not nested, given by its name in lower case."""
    template, schema = _SCALARS.get(type_, _OTHER)
    return template.replace("{0}", sql), dict(schema)


def orderable(type_: DuckType) -> str:
    """Returns the type's name if its values have an order that a cursor can follow, else an empty string."""
    return (
        str(type_) if type_.id == "decimal" or (type_.id in _SCALARS and type_.id not in ("blob", "interval")) else ""
    )


def structure(schema: Schema) -> Structure:
    """Returns the type that `from_json` reads values of a schema as: JSON where the schema says too little."""
    if schema.get("format") == DECIMAL:
        return "VARCHAR"
    types = schema.get("type", [])
    kinds = sorted({types} if isinstance(types, str) else set(types)) if types else []
    match [kind for kind in kinds if kind != "null"]:
        case []:
            return None
        case ["string"]:
            return "VARCHAR"
        case ["boolean"]:
            return "BOOLEAN"
        case ["integer"]:
            return "BIGINT"
        case ["number"] | ["integer", "number"]:
            return "FLOAT" if schema.get("format") == "float" else "DOUBLE"
        case ["array"] if isinstance(schema.get("items", {}), dict):
            return [structure(schema.get("items", {}))]
        case ["object"] if schema.get("properties"):
            return {key: structure(value) for key, value in schema["properties"].items()}
    return "JSON"


def settle(declared: Structure, learned: Structure) -> Structure:
    """Returns the declared type if the values fit it, else the type learnt from them, so that no value is lost."""
    if learned is None or declared in ("JSON", "VARCHAR", learned):
        return _whole(declared)
    if isinstance(declared, list) and isinstance(learned, list):
        return [settle(declared[0], learned[0])]
    if isinstance(declared, dict) and isinstance(learned, dict):
        return {key: settle(declared.get(key), learned.get(key)) for key in {**declared, **learned}}
    if declared in ("DOUBLE", "FLOAT") and learned in ("BIGINT", "DOUBLE"):
        return declared
    return _whole(learned)


def _whole(type_: Structure) -> Structure:
    """Returns the type with its unknown parts as text."""
    if isinstance(type_, list):
        return [_whole(type_[0])]
    if isinstance(type_, dict):
        return {key: _whole(value) for key, value in type_.items()}
    return type_ or "VARCHAR"
