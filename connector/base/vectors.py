"""Vectors in single precision: an `array` is a buffer that goes to Arrow without becoming a list of Python floats.

Elsewhere, and in JSON, an `array` counts as a list of numbers.

A reply with its vector in base64 may hold it as `Packed`, with the bytes instead of their text.
"""

from __future__ import annotations

from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import CoreConfig, SchemaValidator, ValidationError, core_schema

from connector.base.records import Schema

_QUICKLY: Final = SchemaValidator(core_schema.bytes_schema(), CoreConfig(val_json_bytes="base64")).validate_json
"""Decodes base64 four times as fast as the standard library, but differs in what else it accepts."""


@dataclass(slots=True)
class Packed:
    """The bytes of a vector that came in base64, in place of that text."""

    content: bytes


def packed_in(body: dict[str, Any]) -> Packed | None:
    """Returns the first vector of a reply, `data[0].embedding`, if it is `Packed`; else `None`."""
    data = body.get("data")
    first = data[0] if type(data) is list and data else None
    found = first.get("embedding") if type(first) is dict else None
    return found if type(found) is Packed else None


def with_vector(body: dict[str, Any], vector: Packed | str | None) -> dict[str, Any]:
    """Returns a reply of one vector with that vector replaced."""
    return {**body, "data": [{**body["data"][0], "embedding": vector}]}


def opened(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a reply as it came, in JSON types: with a packed vector as base64 text."""
    vector = packed_in(body)
    return body if vector is None else with_vector(body, b2a_base64(vector.content, newline=False).decode())


def unpacked(text: str) -> bytes:
    """Decodes base64 (RFC 4648, section 4). Raises `ValueError` for any other text."""
    if len(text) % 4 == 0 and "-" not in text and "_" not in text and "\\" not in text:  # which it would also accept
        try:
            decoded: bytes = _QUICKLY(f'"{text}"')
        except ValidationError:
            pass  # the standard library decides
        else:
            return decoded
    return a2b_base64(text, strict_mode=True)


def is_vector(schema: Schema) -> bool:
    """Returns whether the schema of a column says that its values are lists of numbers in single precision."""
    items = schema.get("items")
    is_single = isinstance(items, dict) and items.get("format") == "float" and items.get("type") == "number"
    return is_single and "array" in schema.get("type", ())


def single(numbers: Iterable[Any]) -> array[float]:
    """Returns numbers rounded to single precision.

    Raises:
        TypeError: One of them is not a number.
    """
    if type(numbers) is array and numbers.typecode == "f":
        return numbers
    try:
        return array("f", numbers)
    except OverflowError:  # an integer beyond every float
        return array("f", (float(str(number)) for number in numbers))
