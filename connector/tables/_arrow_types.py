"""From JSON Schema to Arrow: the type of a column, and the function that converts JSON values to it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa

from connector.base import numbers
from connector.base.decoding import joined
from connector.base.records import JSON, Schema

_SHOWN: Final = 80
_INT64: Final = range(-(1 << 63), 1 << 63)


class MisfitError(ValueError):
    """A value that does not have the type that its schema declares."""


class ArrowColumn(NamedTuple):
    """An Arrow type, and the function that converts a JSON value (not null) to it.

    `fit` raises `MisfitError` if that would change the value's meaning.
    """

    type: pa.DataType
    fit: Callable[[JSON], Any]


def arrow_column(schema: Schema) -> ArrowColumn:
    """Returns the column for a schema. A schema that leaves the type open makes it text, with other values as JSON.

    An object keeps only the keys that its schema declares.
    """
    kinds = schema.get("type", [])
    match sorted({kinds} - {"null"} if isinstance(kinds, str) else set(kinds) - {"null"}):
        case ["boolean"]:
            return ArrowColumn(pa.bool_(), _boolean)
        case ["integer"]:
            return ArrowColumn(pa.int64(), _integer)
        case ["number"] | ["integer", "number"]:
            return ArrowColumn(pa.float32() if schema.get("format") == "float" else pa.float64(), _number)
        case ["array"] if isinstance(schema.get("items", {}), dict):
            item = arrow_column(schema.get("items", {}))
            return ArrowColumn(pa.list_(item.type), _numbers if item.fit is _number else _list(item))
        case ["object"] if schema.get("properties"):
            parts = {name: arrow_column(part) for name, part in schema["properties"].items()}
            return ArrowColumn(pa.struct([(name, part.type) for name, part in parts.items()]), _struct(parts))
    return ArrowColumn(pa.string(), _text)


def _boolean(value: JSON) -> bool:
    if type(value) is not bool:
        raise _misfit(value, "boolean")
    return value


def _integer(value: JSON) -> int:
    whole = int(Decimal(str(value))) if isinstance(value, float) and value.is_integer() else value
    if type(whole) is not int or whole not in _INT64:
        raise _misfit(value, "64-bit integer")
    return whole


def _number(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _misfit(value, "number")
    try:
        number = float(value)
    except OverflowError:
        raise _misfit(value, "number of double precision") from None
    if number != value or (isinstance(value, numbers.Number) and not value.is_double):
        raise _misfit(value, "number of double precision, which would lose its last digits")
    return number


def _numbers(value: JSON) -> Any:
    """Returns a list of numbers, without a copy if all are floats, as in most vectors."""
    if type(value) is array or (type(value) is list and set(map(type, value)) == {float}):
        return value
    return [None if each is None else _number(each) for each in _items(value)]


def _list(item: ArrowColumn) -> Callable[[JSON], list[Any]]:
    return lambda value: [None if each is None else item.fit(each) for each in _items(value)]


def _items(value: JSON) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _misfit(value, "array")
    return value


def _struct(parts: Mapping[str, ArrowColumn]) -> Callable[[JSON], dict[str, Any]]:
    def fit(value: JSON) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _misfit(value, "object")
        given = ((name, part, value.get(name)) for name, part in parts.items())
        return {name: None if each is None else part.fit(each) for name, part, each in given}

    return fit


def _text(value: JSON) -> str:
    # Arrow's text is UTF-8, which cannot hold lone surrogates: they become U+FFFD.
    if isinstance(value, str):
        return joined([value])
    try:
        return numbers.dumps(value).decode()
    except TypeError:  # a lone surrogate
        return joined([json.dumps(value, ensure_ascii=False)])


def _misfit(value: JSON, kind: str) -> MisfitError:
    shown = str(value) if isinstance(value, numbers.Number) else json.dumps(value)
    return MisfitError(f"{shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}…'} is not a valid {kind}")
