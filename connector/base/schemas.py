"""Operations on JSON Schemas: make nullable, reduce to what every platform understands, compile to check values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from itertools import count
from typing import Any, Final, Protocol

from connector.base.errors import ConfigError, Problem
from connector.base.records import ANY, JSON, Schema

_KINDS: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_TYPES: Final = {"enum": list, "format": str, "description": str}
_DEEPEST: Final = 100  # levels, and definitions that lead to each other: no reply has more
_MOST: Final = 10_000  # schemas within one, as definitions that refer to others twice unfold exponentially


class Checker(Protocol):
    """Checks values against one schema; see `connector.base.reply_schema.ReplySchema`."""

    def problem(self, value: JSON, size: int) -> str | None:
        """Returns where and how a value of `size` characters does not fit; `None` if it fits."""


def checker_of(schema: Schema) -> Checker:
    """Returns a checker for a schema. Its library is large, so it is imported only here.

    Raises:
        ValueError: The schema is invalid; the message says where and what.
    """
    opened: Any = import_module("connector.base.reply_schema")
    checker: Checker = opened.ReplySchema(schema)
    return checker


def of_given(given: Any) -> JSON:
    """Returns the schema of a config option, which may be the class of a pydantic model.

    Raises:
        ConfigError: It is another class, or an object that is not JSON.
    """
    if isinstance(given, type) and hasattr(given, "model_json_schema"):
        return of_model(given)
    if given is None or isinstance(given, Mapping | Sequence | int | float):  # JSON, which the spec checks
        known: JSON = given
        return known
    name = f"the class {given.__name__}" if isinstance(given, type) else f"an object of {type(given).__name__}"
    what = f"is {name}: give a JSON Schema, or the class of a pydantic model, whose fields are the columns"
    raise ConfigError([Problem("output_schema", what)])


def of_model(model: Any) -> Schema:
    """Returns the JSON Schema of a pydantic model class, without other keys, as strict modes require."""
    schema: Schema = model.model_json_schema()
    for each in (schema, *schema.get("$defs", {}).values()):
        if each.get("type") == "object" and "properties" in each:
            each.setdefault("additionalProperties", False)
    return schema


def nullable(schema: Schema) -> Schema:
    """Returns the schema with null allowed, since every mapped column is null if its row failed."""
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

    `$ref`s are resolved. What cannot be expressed (unions other than with null, recursion), is nested too deeply, or is
    not JSON Schema, accepts anything.
    """
    return _portable(schema, root, frozenset(), count(), 0)


def _portable(schema: JSON, root: Schema, inside: frozenset[str], seen: count[int], level: int) -> Schema:
    if not isinstance(schema, dict) or next(seen) >= _MOST or level >= _DEEPEST:
        return ANY
    if "$ref" in schema:
        name = str(schema["$ref"])
        return ANY if name in inside else _portable(_target(name, root), root, inside | {name}, seen, level + 1)
    lists = (schema.get(key) for key in ("anyOf", "oneOf", "allOf"))
    branches = [each for some in lists if isinstance(some, list) for each in some]
    some = [each for each in branches if each != {"type": "null"}]
    if len(some) == 1:
        found = _portable(some[0], root, inside, seen, level + 1)
        return nullable(found) if len(branches) > 1 else found
    kind = schema.get("type")
    kinds = [each for each in kind if each != "null"] if isinstance(kind, list) else [kind]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        return ANY
    result: Schema = {"type": kind}
    result |= {name: schema[name] for name, type_ in _TYPES.items() if isinstance(schema.get(name), type_)}
    if kinds[0] == "object":
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        result["properties"] = {
            name: _portable(each, root, inside, seen, level + 1) for name, each in properties.items()
        }
    if kinds[0] == "array":
        result["items"] = _portable(schema.get("items"), root, inside, seen, level + 1)
    return result


def _target(name: str, root: Schema) -> Any:
    """Returns the target of a `$ref` into the same schema (RFC 6901)."""
    target: Any = root
    for part in filter(None, name.removeprefix("#").split("/")):
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target


def conformed(value: JSON, schema: Schema) -> JSON:
    """Returns a value that fits a portable schema, with 5.0 as 5 if the schema says integer."""
    if isinstance(value, dict) and schema.get("properties"):
        return {key: conformed(each, schema["properties"].get(key, ANY)) for key, each in value.items()}
    if isinstance(value, list) and schema.get("items"):
        return [conformed(each, schema["items"]) for each in value]
    if isinstance(value, float) and value.is_integer():
        kinds = schema.get("type", ())
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        return int(Decimal(str(value))) if "integer" in kinds and "number" not in kinds else value
    return value
