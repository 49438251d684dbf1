"""JSON whose numbers keep their digits: integers of any size, and decimals with more digits than a double holds.

orjson reads and writes almost all of it. It makes a float of an integer beyond 64 bits and of every decimal, so text
that may hold a longer number is found first, and read by the standard library, which hands numbers over as text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Self

import orjson

_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64

_LOOKS: Final = bytes.maketrans(b"123456789.E+", b"000000000" + b"0e-")
_IDLE: Final = bytes(set(range(256)) - set(b'0123456789.eE+-",:[]{}\\\n'))
_LONG: Final = b"0" * 17
"""Sixteen digits and a point: shorter decimals come back from a double as they were, and shorter integers anyway."""
_EXPONENTS: Final = (b"0e000", b"0e-000")


class Number(float):
    """A number with all of its digits. It counts as the double nearest to it; as text, and in JSON, it keeps them."""

    __slots__ = ("digits",)

    digits: str

    def __new__(cls, digits: str) -> Self:
        """Makes a number of a JSON literal, or a text like one."""
        self = super().__new__(cls, digits)
        self.digits = digits
        return self

    def __str__(self) -> str:
        return self.digits

    __repr__ = __str__
    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Number) and self.json != other.json:
            return float.__eq__(self, other) and Decimal(self.json) == Decimal(other.json)
        return float.__eq__(self, other)

    @property
    def json(self) -> str:
        """The number as JSON."""
        return self.digits

    @property
    def is_double(self) -> bool:
        """Whether the double nearest to it is the same number."""
        return Decimal(float.__repr__(self)) == Decimal(self.digits)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.digits,)


class Truth(Number):
    """A truth value that is not written as JSON writes it, such as `TRUE`. It counts as 1 or 0, and keeps its text."""

    __slots__ = ()

    def __new__(cls, digits: str) -> Self:
        """Makes a truth value of its text."""
        self = float.__new__(cls, digits.lower() == "true")
        self.digits = digits
        return self

    @property
    def json(self) -> str:
        """The truth value as JSON."""
        return self.digits.lower()


def exact(literal: str) -> float:
    """Returns the number that a JSON literal with a point or an exponent is: a float where that is the same number.

    Raises:
        ValueError: It is beyond the range of a double.
    """
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"the number {literal[:40]} is out of range: write it as a text")
    if repr(value) == literal or Decimal(repr(value)) == Decimal(literal):
        return value
    return Number(literal)


def written(digits: str) -> int | float:
    """Returns the number that is written so, without an exponent: what its text is, is part of it, as in 1.50.

    Raises:
        ValueError: It is beyond the range of a double, and not a whole number.
    """
    if "." not in digits:
        return int(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is out of range: write it as a text")
    return value if repr(value) == digits else Number(digits)


def of_decimal(value: Decimal) -> int | float | None:
    """Returns a decimal as a JSON number with the same digits; `None` for NaN and infinity.

    Raises:
        ValueError: It is beyond the range of a double, and not a whole number.
    """
    if not value.is_finite():
        return None
    return written(format(value, "f"))


def may_be_long(text: bytes) -> bool:
    """Returns whether JSON may hold a number that a double or 64 bits do not: quick, and true a little too often."""
    looks = text.translate(_LOOKS, _IDLE)
    return _LONG in looks or any(exponent in looks for exponent in _EXPONENTS)


def loads(text: bytes | str) -> Any:
    """Decodes JSON, every number exactly.

    Raises:
        ValueError: It is not JSON, or holds a number out of range. `orjson.JSONDecodeError` says where.
    """
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        value = orjson.loads(text)
        if not may_be_long(encoded):
            return value
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:  # so it calls an integer of hundreds of digits, too
            raise
        value = None
    try:
        return json.loads(encoded, parse_float=exact)
    except RecursionError:  # orjson reads more levels; no caller keeps that many
        return value


def dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """Encodes as JSON, every number with all of its digits. Otherwise as `orjson.dumps`.

    Raises:
        TypeError: It is not JSON.
    """

    def other(each: Any) -> Any:
        if isinstance(each, Number):
            return orjson.Fragment(each.json)
        if default is None:
            raise TypeError(f"{type(each).__name__} is not JSON")
        made = default(each)
        return orjson.Fragment(str(made)) if isinstance(made, int) and is_big(made) else made

    try:
        return orjson.dumps(value, other, option)
    except TypeError as error:
        try:
            has_big = _has_big(value)
        except RecursionError:  # a list within itself
            raise error from None
        if not has_big:
            raise
    return orjson.dumps(_packed(value), other, option)


def doubles(value: Any) -> Any:
    """Returns a value with each `Number` as the double nearest to it, for libraries that know no other."""
    if isinstance(value, Number):
        return float(value)
    if isinstance(value, dict):
        return {key: doubles(each) for key, each in value.items()}
    return [doubles(each) for each in value] if isinstance(value, list) else value


def is_big(value: int) -> bool:
    """Returns whether an integer has more than 64 bits."""
    return not -_INT64 <= value < _UINT64


def _has_big(value: Any) -> bool:
    if isinstance(value, int):
        return is_big(value)
    if isinstance(value, Mapping):
        return any(map(_has_big, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_big, value))


def _packed(value: Any) -> Any:
    """Returns the value with integers that orjson refuses as the JSON that they are."""
    if isinstance(value, int) and is_big(value):
        return orjson.Fragment(str(value))
    if isinstance(value, Mapping):
        return {key: _packed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(each) for each in value]
    return value
