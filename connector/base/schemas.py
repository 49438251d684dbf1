"""JSON Schemas changed: made to admit null, and cut down to what every platform understands."""

from __future__ import annotations

from typing import Any

from connector.base.records import ANY, JSON, Schema


def nullable(schema: Schema) -> Schema:
    """Returns the schema, admitting null: every mapped column is null where its row failed."""
    kind: Any = schema.get("type")
    if kind is None:
        return schema
    kinds = kind if isinstance(kind, list) else [kind]
    result = {**schema, "type": ["null", *(each for each in kinds if each != "null")]}
    if "enum" in schema and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result


def portable(schema: Schema, root: Schema) -> Schema:
    """Returns the part of a schema that every platform understands: types, properties, items and enumerations.

    `$ref`s are resolved. What has no such form (unions of anything but null, recursion) admits anything.
    """
    return _portable(schema, root, frozenset())


def _portable(schema: JSON, root: Schema, inside: frozenset[str]) -> Schema:
    if not isinstance(schema, dict):
        return ANY
    if "$ref" in schema:
        name = str(schema["$ref"])
        return ANY if name in inside else _portable(_target(name, root), root, inside | {name})
    branches = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    some = [each for each in branches if each != {"type": "null"}]
    if len(some) == 1:
        found = _portable(some[0], root, inside)
        return nullable(found) if len(branches) > 1 else found
    kind = schema.get("type")
    kinds = [each for each in kind if each != "null"] if isinstance(kind, list) else [kind]
    if len(kinds) != 1 or kinds[0] is None:
        return ANY
    result: Schema = {"type": kind}
    result |= {name: schema[name] for name in ("enum", "format", "description") if name in schema}
    if kinds[0] == "object":
        properties = schema.get("properties", {})
        result["properties"] = {name: _portable(each, root, inside) for name, each in properties.items()}
    if kinds[0] == "array":
        result["items"] = _portable(schema.get("items"), root, inside)
    return result


def _target(name: str, root: Schema) -> Any:
    """Returns what a `$ref` into the same schema points to (RFC 6901)."""
    target: Any = root
    for part in filter(None, name.removeprefix("#").split("/")):
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target
