"""What type a column has: read off the expression that makes it and the schema of what the expression reads."""

from __future__ import annotations

from typing import Any, Final

from jinja2 import nodes

from connector.records import ANY, JSON, Schema

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
_FILTERS: Final[dict[str, Schema]] = {
    **dict.fromkeys(
        "capitalize center e escape forceescape format indent join lower replace safe string striptags title tojson "
        "trim truncate upper urlencode _concat".split(),
        _TEXT,
    ),
    **dict.fromkeys(("count", "int", "length", "wordcount"), _COUNT),
    **dict.fromkeys(("float", "round"), _NUMBER),
}
_SAME: Final = frozenset({"abs", "d", "default", "first", "last", "max", "min", "_slice"})


def of_value(value: JSON) -> Schema:
    """The schema of a sample value: `31` is an integer, `{"a": "b"}` an object with a text."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer"}
    if isinstance(value, float):
        return {"type": "number"}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, list):
        items = [of_value(item) for item in value]
        return {"type": "array", "items": items[0] if items and all(item == items[0] for item in items) else ANY}
    if isinstance(value, dict):
        return {"type": "object", "properties": {key: of_value(item) for key, item in value.items()}}
    return ANY


def of_expression(node: nodes.Node, names: Schema) -> Schema:
    """The schema of an expression over names that `names`, an object schema, describes; `{}` where it cannot tell."""
    match node:
        case nodes.Const(value=value):
            return of_value(value)
        case nodes.Name(name=name):
            return _property(names, name)
        case nodes.Getattr(node=owner, attr=name):
            return _property(of_expression(owner, names), name)
        case nodes.Getitem(node=owner, arg=nodes.Const(value=key)):
            schema = of_expression(owner, names)
            found: Schema = schema.get("items", ANY) if isinstance(key, int) else _property(schema, str(key))
            return found
        case nodes.Filter(name=name, node=inner) if name in _SAME and inner is not None:
            schema = of_expression(inner, names)
            return schema.get("items", ANY) if name in ("first", "last", "max", "min") else schema
        case nodes.Filter(name=name):
            return _FILTERS.get(name, ANY)
        case nodes.CondExpr(expr1=first, expr2=second):
            schema = of_expression(first, names)
            return schema if second is None or of_expression(second, names) == schema else ANY
        case nodes.Compare() | nodes.Not() | nodes.Test():
            return {"type": "boolean"}
        case nodes.Div():
            return {"type": "number"}
        case _:
            return ANY


def nullable(schema: Schema) -> Schema:
    """The same schema, admitting null: every mapped column is null where its row failed."""
    kind: Any = schema.get("type")
    if kind is None:
        return schema
    kinds = kind if isinstance(kind, list) else [kind]
    result = {**schema, "type": ["null", *(each for each in kinds if each != "null")]}
    if "enum" in schema and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result


def plain(schema: Schema, root: Schema) -> Schema:
    """The part of a schema that every platform understands: types, properties, items, enumerations; `$ref`s resolved.

    What cannot be said so (unions of anything but null, recursion) may be anything.
    """
    return _plain(schema, root, frozenset())


def _plain(schema: JSON, root: Schema, inside: frozenset[str]) -> Schema:
    if not isinstance(schema, dict):
        return ANY
    if "$ref" in schema:
        name = str(schema["$ref"])
        return ANY if name in inside else _plain(_target(name, root), root, inside | {name})
    branches = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    some = [each for each in branches if each != {"type": "null"}]
    if len(some) == 1:
        found = _plain(some[0], root, inside)
        return nullable(found) if len(branches) > 1 else found
    kind = schema.get("type")
    kinds = [each for each in kind if each != "null"] if isinstance(kind, list) else [kind]
    if len(kinds) != 1 or kinds[0] is None:
        return ANY
    result: Schema = {"type": kind}
    result |= {name: schema[name] for name in ("enum", "format", "description") if name in schema}
    if kinds[0] == "object":
        properties = schema.get("properties", {})
        result["properties"] = {name: _plain(each, root, inside) for name, each in properties.items()}
    if kinds[0] == "array":
        result["items"] = _plain(schema.get("items"), root, inside)
    return result


def _target(name: str, root: Schema) -> Any:
    """What a `$ref` into the same schema points to (RFC 6901)."""
    target: Any = root
    for part in filter(None, name.removeprefix("#").split("/")):
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target


def _property(schema: Schema, name: str) -> Schema:
    found: Schema = schema.get("properties", {}).get(name, ANY)
    return found
