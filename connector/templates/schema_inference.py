"""Infers the type of a column from a sample of its values."""

from __future__ import annotations

from connector.base.records import ANY, JSON, Schema


def schema_of_value(value: JSON) -> Schema:
    """Returns the schema of a sample value: `31` is an integer, `{"a": "b"}` an object with a string."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer"}
    if isinstance(value, float):
        return {"type": "number"}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, list):
        items = [schema_of_value(item) for item in value]
        return {"type": "array", "items": items[0] if items and all(item == items[0] for item in items) else ANY}
    if isinstance(value, dict):
        return {"type": "object", "properties": {key: schema_of_value(item) for key, item in value.items()}}
    return ANY
