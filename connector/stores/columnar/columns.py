"""The columns of a snapshot: their types in DuckDB and in JSON Schema, and the SQL that leads from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from connector.base.records import JSON, Schema
from connector.stores.staging.shapes import DECIMAL

Structure: TypeAlias = str | list[Any] | dict[str, Any] | None
"""A type as `from_json` reads it: a name, `[item]` or `{key: value}`; `None` where all values are null."""


class DuckType(Protocol):
    """The part of duckdb's own type objects that is used here, the same in every version."""

    @property
    def id(self) -> str:
        """The type's name, in lower case."""
        ...

    @property
    def children(self) -> list[tuple[str, Any]]:
        """The names and types that it is made of, or the names and numbers that describe it."""
        ...


class SnapshotDatabase(Protocol):
    """The part of `database.Database` that a format needs to fill the table `input`."""

    @property
    def directory(self) -> Path:
        """A private directory."""
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
        exact: SQL of the value in its own type, for Parquet and to sort by.
        json: SQL of a value that JSON can hold, for records.
        text: SQL of the text in a CSV cell.
        cursor_type: DuckDB's type of the values if they have an order, else empty.
        parse: Makes the value of a record of what `json` gives, which then is text; raises `ValueError`.
    """

    name: str
    schema: Schema
    exact: str
    json: str
    text: str
    cursor_type: str = ""
    parse: Callable[[str], JSON] | None = None


def identifier(name: str) -> str:
    """Returns a name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Returns a text, quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def _string(**more: str) -> Schema:
    return {"type": ["null", "string"], **more}


_INTEGERS = dict.fromkeys(
    ("tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
    ("{0}", {"type": ["null", "integer"]}),
)
_FLOATS = dict.fromkeys(
    # JSON has no NaN and no infinity.
    ("float", "double"),
    ("CASE WHEN isfinite({0}) THEN {0} END", {"type": ["null", "number"]}),
)
_TIMESTAMPS = dict.fromkeys(
    ("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    (
        "replace(CAST({0} AS VARCHAR), ' ', 'T')",
        _string(format="date-time", airbyte_type="timestamp_without_timezone"),
    ),
)
_SCALARS: Final[Mapping[str, tuple[str, Schema]]] = {
    "boolean": ("{0}", {"type": ["null", "boolean"]}),
    **_INTEGERS,
    **_FLOATS,
    **_TIMESTAMPS,
    "varchar": ("{0}", _string()),
    "date": ("CAST({0} AS VARCHAR)", _string(format="date")),
    "time": ("CAST({0} AS VARCHAR)", _string(format="time", airbyte_type="time_without_timezone")),
    "timestamp with time zone": (
        # In UTC, whatever the time zone of the session is.
        "replace(CAST(make_timestamp(epoch_us({0})) AS VARCHAR), ' ', 'T') || 'Z'",
        _string(format="date-time", airbyte_type="timestamp_with_timezone"),
    ),
    "blob": ("to_base64({0})", _string(contentEncoding="base64")),
}
_OTHER: Final = ("CAST({0} AS VARCHAR)", _string())

_INT64_DIGITS: Final = 18
_DOUBLE_DIGITS: Final = 15
"""The digits of a decimal number that always survive the way through a double and back."""


def json_value(sql: str, type_: DuckType, depth: int = 0) -> tuple[str, Schema]:
    """Returns the SQL that turns a value into one that JSON can hold, and the schema of that.

    Timestamps and dates become ISO 8601 text (in UTC if they have a time zone), bytes base64, NaN and infinity null,
    decimals numbers if a number holds all their digits, else text. All other types become text.
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
        case "decimal":
            return decimal(sql, **_sizes(type_))
    return scalar(sql, type_.id)


def _sizes(type_: DuckType) -> dict[str, Any]:
    """`precision` and `scale` of a decimal."""
    return {name: int(value) for name, value in type_.children}


def scalar(sql: str, type_: str) -> tuple[str, Schema]:
    """Returns the same as `json_value` for a type that is not nested, given by its name in lower case."""
    template, schema = _SCALARS.get(type_, _OTHER)
    return template.format(sql), dict(schema)


def decimal(sql: str, *, precision: int, scale: int, fits: bool = False) -> tuple[str, Schema]:
    """Returns the same for a decimal. `fits` says that all values are known to fit a 64-bit integer or a double."""
    if scale == 0 and (fits or precision <= _INT64_DIGITS):
        return f"CAST({sql} AS BIGINT)", {"type": ["null", "integer"]}
    if scale > 0 and (fits or precision <= _DOUBLE_DIGITS):
        return f"CAST({sql} AS DOUBLE)", {"type": ["null", "number"]}
    return f"CAST({sql} AS VARCHAR)", _string()


def orderable(type_: DuckType) -> str:
    """Returns the type's name if its values have an order that a cursor can follow, else an empty text."""
    return str(type_) if type_.id == "decimal" or (type_.id in _SCALARS and type_.id != "blob") else ""


def structure(schema: Schema) -> Structure:
    """Returns the type in which `from_json` reads values of a schema: JSON where the schema says too little."""
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
    """Returns the declared type if the values that came fit in it, else the type that they have: no value is lost."""
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
    """Returns the type with text in place of the parts that are not known."""
    if isinstance(type_, list):
        return [_whole(type_[0])]
    if isinstance(type_, dict):
        return {key: _whole(value) for key, value in type_.items()}
    return type_ or "VARCHAR"
