"""The types of columns: DuckDB's, JSON Schema's, and the SQL that leads from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from connector.base.records import Schema

Structure: TypeAlias = str | list[Any] | dict[str, Any] | None
"""What `from_json` reads: a type's name, `[item]`, `{key: value}`; `None` where there is nothing but nulls."""


class DuckType(Protocol):
    """The part of duckdb's own type objects that is needed, the same in every version."""

    @property
    def id(self) -> str: ...
    @property
    def children(self) -> list[tuple[str, Any]]: ...


class Column(NamedTuple):
    """A column of the snapshot and the SQL that gives its values.

    `exact` keeps the type (for Parquet, and to sort by), `plain` is what JSON can hold, `text` is a CSV cell. `parse`
    says that `plain` is JSON text. `kind` is the type that a cursor has, empty if the column cannot be one.
    """

    name: str
    schema: Schema
    exact: str
    plain: str
    text: str
    kind: str = ""
    parse: bool = False


def identifier(name: str) -> str:
    """A name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, quoted for SQL."""
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
"""Every decimal number of so many digits survives the way through a double and back."""


def plain(sql: str, kind: DuckType, depth: int = 0) -> tuple[str, Schema]:
    """The SQL that turns a value into one that JSON can hold, and its schema.

    Timestamps and dates become ISO 8601 text (with a time zone: in UTC), bytes base64, NaN and infinity null, decimals
    numbers where a number holds all their digits and text elsewhere, everything that JSON does not know text.
    """
    match kind.id:
        case "list" | "array":
            inner, items = plain(f"x{depth}", dict(kind.children)["child"], depth + 1)
            mapped = sql if inner == f"x{depth}" else f"[{inner} FOR x{depth} IN {sql}]"
            return mapped, {"type": ["null", "array"], "items": items}
        case "struct":
            fields = {
                name: (field, *plain(field, child, depth))
                for name, child in kind.children
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
            inner, values = plain(f"x{depth}", dict(kind.children)["value"], depth + 1)
            keys = f"CAST(map_keys({sql}) AS VARCHAR[])"
            mapped = f"map({keys}, [{inner} FOR x{depth} IN map_values({sql})])"
            return (
                f"CASE WHEN {sql} IS NOT NULL THEN {mapped} END",
                {"type": ["null", "object"], "additionalProperties": values},
            )
        case "decimal":
            return decimal(sql, **_sizes(kind))
    return scalar(sql, kind.id)


def _sizes(kind: DuckType) -> dict[str, Any]:
    """`precision` and `scale` of a decimal."""
    return {name: int(value) for name, value in kind.children}


def scalar(sql: str, kind: str) -> tuple[str, Schema]:
    """The same for a type that is no container, given by its name in lower case."""
    template, schema = _SCALARS.get(kind, _OTHER)
    return template.format(sql), dict(schema)


def decimal(sql: str, *, precision: int, scale: int, fits: bool = False) -> tuple[str, Schema]:
    """The same for a decimal. `fits` says that all of its values are known to fit a 64-bit integer or a double."""
    if scale == 0 and (fits or precision <= _INT64_DIGITS):
        return f"CAST({sql} AS BIGINT)", {"type": ["null", "integer"]}
    if scale > 0 and (fits or precision <= _DOUBLE_DIGITS):
        return f"CAST({sql} AS DOUBLE)", {"type": ["null", "number"]}
    return f"CAST({sql} AS VARCHAR)", _string()


def orderable(kind: DuckType) -> str:
    """The type's name if its values have an order that a cursor can follow, else nothing."""
    return str(kind) if kind.id == "decimal" or (kind.id in _SCALARS and kind.id != "blob") else ""


def structure(schema: Schema) -> Structure:
    """The type in which `from_json` reads values of a schema: JSON where it says too little to know a better one."""
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
    """The declared type if the values that came fit in it, else the type that they have: nothing is bent or lost."""
    if learned is None or declared in ("JSON", "VARCHAR", learned):
        return _whole(declared)
    if isinstance(declared, list) and isinstance(learned, list):
        return [settle(declared[0], learned[0])]
    if isinstance(declared, dict) and isinstance(learned, dict):
        return {key: settle(declared.get(key), learned.get(key)) for key in {**declared, **learned}}
    if declared in ("DOUBLE", "FLOAT") and learned in ("BIGINT", "DOUBLE"):
        return declared
    return _whole(learned)


def _whole(kind: Structure) -> Structure:
    """The type with text in the places of which nothing is known."""
    if isinstance(kind, list):
        return [_whole(kind[0])]
    if isinstance(kind, dict):
        return {key: _whole(value) for key, value in kind.items()}
    return kind or "VARCHAR"
