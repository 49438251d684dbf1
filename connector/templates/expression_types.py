"""Infers the type of a column from its expression and from the schema of what the expression reads."""

from __future__ import annotations

from typing import Final

from jinja2 import nodes

from connector.base.records import ANY, Schema
from connector.templates.plain import member_schema
from connector.templates.schema_inference import schema_of_value

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


def schema_of_expression(node: nodes.Node, names: Schema) -> Schema:
    """Returns the schema of an expression; `{}` if it cannot be inferred.

    `names`, an object schema, describes the names that the expression reads.
    """
    match node:
        case nodes.Const(value=value):
            return schema_of_value(value)
        case nodes.Name(name=name):
            return member_schema(names, name)
        case nodes.Getattr(node=owner, attr=name):
            return member_schema(schema_of_expression(owner, names), name)
        case nodes.Getitem(node=owner, arg=nodes.Const(value=key)):
            return member_schema(schema_of_expression(owner, names), key if isinstance(key, int) else str(key))
        case nodes.Filter(name=name, node=inner) if name in _SAME and inner is not None:
            schema = schema_of_expression(inner, names)
            return schema.get("items", ANY) if name in ("first", "last", "max", "min") else schema
        case nodes.Filter(name=name):
            return _FILTERS.get(name, ANY)
        case nodes.CondExpr(expr1=first, expr2=second):
            schema = schema_of_expression(first, names)
            return schema if second is None or schema_of_expression(second, names) == schema else ANY
        case nodes.Compare() | nodes.Not() | nodes.Test():
            return {"type": "boolean"}
        case nodes.Div():
            return {"type": "number"}
        case _:
            return ANY
