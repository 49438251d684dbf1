"""From JSON Schema to Arrow: the type of a column, and what makes a JSON value fit it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from connector.base.decoding import joined
from connector.base.records import JSON, Schema

_SHOWN: Final = 80
_INT64: Final = range(-(1 << 63), 1 << 63)


class MisfitError(ValueError):
    """A value is not of the type that its schema declares."""


class Column(NamedTuple):
    """An Arrow type, and the function that turns a JSON value (not null) into one that fits.

    Raises:
        MisfitError: By `fit`, where that would change the value's meaning.
    """

    type: pa.DataType
    fit: Callable[[JSON], Any]


def column(schema: Schema) -> Column:
    """The type of values of a schema. Where it leaves the type open: text, of JSON for all that is no text.

    An object has the keys that its schema declares, and no others.
    """
    kinds = schema.get("type", [])
    match sorted({kinds} - {"null"} if isinstance(kinds, str) else set(kinds) - {"null"}):
        case ["boolean"]:
            return Column(pa.bool_(), _boolean)
        case ["integer"]:
            return Column(pa.int64(), _integer)
        case ["number"] | ["integer", "number"]:
            return Column(pa.float32() if schema.get("format") == "float" else pa.float64(), _number)
        case ["array"] if isinstance(schema.get("items", {}), dict):
            item = column(schema.get("items", {}))
            return Column(pa.list_(item.type), _numbers if item.fit is _number else _list(item))
        case ["object"] if schema.get("properties"):
            parts = {name: column(part) for name, part in schema["properties"].items()}
            return Column(pa.struct([(name, part.type) for name, part in parts.items()]), _struct(parts))
    return Column(pa.string(), _text)


def _boolean(value: JSON) -> bool:
    if type(value) is not bool:
        raise _misfit(value, "boolean")
    return value


def _integer(value: JSON) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if type(whole) is not int or whole not in _INT64:
        raise _misfit(value, "integer of 64 bits")
    return whole


def _number(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _misfit(value, "number")
    try:
        return float(value)
    except OverflowError:
        raise _misfit(value, "number of double precision") from None


def _numbers(value: JSON) -> Any:
    """A vector of floats is long, and most often fits as it is."""
    if isinstance(value, list) and set(map(type, value)) == {float}:
        return value
    return [None if each is None else _number(each) for each in _items(value)]


def _list(item: Column) -> Callable[[JSON], list[Any]]:
    return lambda value: [None if each is None else item.fit(each) for each in _items(value)]


def _items(value: JSON) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _misfit(value, "array")
    return value


def _struct(parts: Mapping[str, Column]) -> Callable[[JSON], dict[str, Any]]:
    def fit(value: JSON) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _misfit(value, "object")
        given = ((name, part, value.get(name)) for name, part in parts.items())
        return {name: None if each is None else part.fit(each) for name, part, each in given}

    return fit


def _text(value: JSON) -> str:
    # Arrow's text is UTF-8, which has no halves of characters: they become U+FFFD.
    return joined([value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)])


def _misfit(value: JSON, kind: str) -> MisfitError:
    shown = json.dumps(value)
    return MisfitError(f"{shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}…'} is no {kind}")
