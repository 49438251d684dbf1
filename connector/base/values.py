"""Values in text and in JSON: as text inside a text, with their own type alone, and the encoding of both."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import orjson
from jinja2 import ChainableUndefined, TemplateRuntimeError
from jinja2.runtime import Undefined

_NATIVE: Final = frozenset({str, int, bool, list, dict, type(None)})
_TAG: Final = re.compile(r"<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL)


class Json(str):
    """Text that is JSON already, as `tojson` returns it."""

    __slots__ = ()


class NullError(TemplateRuntimeError):
    """A null where a text is needed."""


def is_null(value: object) -> bool:
    """Returns whether `value` is null: `None`, or NaN, which data frames use for it."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, Decimal) and value.is_nan())


def text(value: object) -> str:
    """Returns a value as it is written inside a text: JSON for lists, objects and booleans; a null is an error."""
    if type(value) is str:
        return value
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if is_null(value) or isinstance(value, ChainableUndefined):
        raise NullError("a text has no place for null")
    if isinstance(value, Undefined):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes are neither text nor JSON: encode them as base64 first")
    if isinstance(value, bool | Iterable):
        return dumps(value).decode()
    if callable(value):
        raise TypeError("it is a method, not a value: put () after its name")
    return str(value)


def native(value: object) -> Any:
    """Returns a value as it is alone in JSON: with its own type; NaN and infinities, which JSON lacks, become null."""
    if type(value) in _NATIVE:
        return value
    if isinstance(value, ChainableUndefined):
        return None
    if isinstance(value, Undefined):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview) or callable(value):
        return text(value)  # which says why it cannot
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return native_list(value)
    return value


def native_list(values: Iterable[Any]) -> list[Any]:
    """Returns a list of the values, each as it is alone in JSON."""
    return [native(value) for value in values]


def dumps(value: object) -> bytes:
    """Encodes as compact JSON (UTF-8). Raises `TypeError` on what is not JSON, lone surrogates included."""
    return orjson.dumps(value, default=_json_form, option=orjson.OPT_NON_STR_KEYS)


def _json_form(value: object) -> object:
    """Returns a value that orjson does not know as one that it does. Raises `TypeError` on what is not JSON."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Undefined):
        return native(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    if hasattr(value, "item"):  # a NumPy scalar, as data frames hand them out
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja2's `default`, for nulls too: a table marks a missing value with null, not by leaving the column out."""
    if isinstance(value, Undefined) or is_null(value) or (boolean and not value):
        return default_value
    return value


def tojson(value: object, indent: int | None = None) -> Json:
    """Returns a value as JSON text. Unlike Jinja2's own filter it does not escape for HTML: this is not a web page."""
    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    return Json(orjson.dumps(native(value), default=_json_form, option=option).decode())


def in_string(value: object) -> str:
    """Returns a value as it is written inside a JSON string."""
    return dumps(text(value)).decode()[1:-1]


def json_value(value: object) -> str:
    """Returns a value as it is written in JSON outside of strings."""
    return str(value) if isinstance(value, Json | Undefined) else dumps(native(value)).decode()


def unsendable(body: Any, name: str, error: TypeError) -> str:
    """Returns which value of a structure, called `name`, cannot be JSON, after `dumps` has failed with `error`."""
    for path, value in _leaves(body, name):
        try:
            dumps(value)
        except TypeError:
            if isinstance(value, str):
                return f"{path}: the text holds half of a character (a lone surrogate), which is not valid Unicode"
            if isinstance(value, int):
                return f"{path}: the number has more than 64 bits; make it a text"
            return f"{path}: {type(value).__name__} is not JSON"
    return f"{name}: {error}"


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"{path} (a key)", key
            yield from _leaves(each, f"{path}.{key}")
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _leaves(each, f"{path}[{i}]")
    else:
        yield path, value


def without_tags(value: str) -> str:
    """Returns a text without HTML tags, comments and entities, white space folded. Unlike Jinja2's, in linear time."""
    return " ".join(html.unescape(_TAG.sub("", value)).split())
