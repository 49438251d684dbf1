"""JSON whose numbers keep their digits: integers of any size, and decimals with more digits than a double holds.

orjson decodes and encodes almost everything. But it turns an integer beyond 64 bits and every decimal into a float, so
text that may contain a longer number, or one with trailing zeros, is found first. If orjson would not encode the same
digits again, the standard library decodes it, which passes numbers as text.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Self

import orjson

from connector.base.regex import regex

_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64

_LOOKS: Final = bytes.maketrans(b"123456789.E+", b"000000000" + b"0e-")
_IDLE: Final = bytes(set(range(256)) - set(b'0123456789.eE+-",:[]{}\\\n'))
_LONG: Final = "0" * 17
"""Sixteen digits and a point: shorter decimals survive the conversion to a double and back, as do shorter integers."""
_LONG_MANTISSA: Final = "0" * 16 + "e"  # sixteen digits without a point may not survive, as in 9007199254740993e0
_EXPONENT, _NEGATIVE_EXPONENT = "0e000", "0e-000"
_ZEROS: Final = regex(rb"\.[0-9]+0(?![0-9])")  # orjson encodes 1.0 as 1.0
_ALL_BUT_NUMBERS: Final = bytes(set(range(256)) - set(b"0123456789.eE+-"))
_WIDEST: Final = 10_000  # the most zeros with which a decimal is written instead of an exponent


class Number(float):
    """A number with all of its digits. It computes as the nearest double, and keeps its digits as text and in JSON."""

    __slots__ = ("digits",)

    digits: str

    def __new__(cls, digits: str) -> Self:
        """Makes a number from a JSON literal or a similar text."""
        self = super().__new__(cls, digits)
        self.digits = digits
        return self

    def __str__(self) -> str:
        return self.digits

    __repr__ = __str__
    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Number) and self.json != other.json:
            return float.__eq__(self, other) and _are_same(self.json, other.json)
        return float.__eq__(self, other)

    @property
    def json(self) -> str:
        """The number as JSON."""
        return self.digits

    @property
    def is_double(self) -> bool:
        """Whether the nearest double is the same number."""
        return math.isfinite(self) and _are_same(float.__repr__(self), self.digits)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.digits,)


class Truth(Number):
    """A truth value that is not written as in JSON, such as `TRUE`. It computes as 1 or 0, and keeps its text."""

    __slots__ = ()

    def __new__(cls, digits: str) -> Self:
        """Makes a truth value from its text."""
        self = float.__new__(cls, digits.lower() == "true")
        self.digits = digits
        return self

    @property
    def json(self) -> str:
        """The truth value as JSON."""
        return self.digits.lower()


def exact(literal: str) -> float:
    """Returns the number of a JSON literal with a point or an exponent: a float if that is the same number.

    Trailing zeros of a decimal are part of it, as in prices and versions: 1.10. A number beyond the range of a double
    computes as infinity, and keeps its digits.
    """
    value = float(literal)
    if repr(value) == literal:
        return value
    has_zeros = literal.endswith("0") and "." in literal and not literal.endswith(".0") and "e" not in literal.lower()
    if not has_zeros and math.isfinite(value) and _are_same(repr(value), literal):
        return value
    return Number(literal)


def whole(literal: str) -> int | float:
    """Returns the integer of a JSON literal; a `Number` if it has more digits than Python converts."""
    try:
        return int(literal)
    except ValueError:
        return Number(literal)


def written(digits: str) -> int | float:
    """Returns the number of a text without an exponent, keeping its digits, as in 1.50."""
    if "." not in digits:
        return whole(digits)
    value = float(digits)
    return value if repr(value) == digits else Number(digits)


def of_decimal(value: Decimal) -> int | float | None:
    """Returns a decimal as a JSON number with the same digits; `None` for NaN and infinity."""
    if not value.is_finite():
        return None
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > _WIDEST:
        return Number(str(value))
    return written(format(value, "f"))


def _are_same(left: str, right: str) -> bool:
    try:
        return Decimal(left) == Decimal(right)
    except InvalidOperation:  # an exponent of twenty digits
        return left == right


def may_be_long(text: bytes) -> bool:
    """Returns whether JSON may contain a number that orjson would encode differently. Fast; few false positives."""
    looks = text.translate(_LOOKS, _IDLE).decode("ascii")  # bytes take three times as long to search
    return (
        _LONG in looks
        or ("0e" in looks and (_EXPONENT in looks or _NEGATIVE_EXPONENT in looks or _LONG_MANTISSA in looks))
        or _ZEROS.search(text) is not None
    )


def is_kept(text: bytes, value: Any) -> bool:
    """Returns whether orjson, which decoded `value` from this JSON, would encode all of its numbers the same way."""
    try:
        again = orjson.dumps(value)
    except TypeError:  # nested too deeply for it
        return False
    return _numbers_in(text) == _numbers_in(again)


def _numbers_in(text: bytes) -> bytes:
    """Returns the characters of all numbers in a JSON text; an exponent of one digit as orjson writes it."""
    found = text.translate(None, _ALL_BUT_NUMBERS)
    return found.replace(b"e-0", b"e-") if b"e-0" in found else found


def loads(text: bytes | str) -> Any:
    """Decodes JSON without lone surrogates, with the exact value of every number.

    Raises:
        ValueError: It is not JSON, or has a lone surrogate. `orjson.JSONDecodeError` says where.
    """
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "infinity" in error.msg:  # orjson also says that of an integer with hundreds of digits
            with suppress(RecursionError, UnicodeEncodeError):
                return _encodable(exactly(encoded))
        raise
    if not may_be_long(encoded) or is_kept(encoded, value):
        return value
    try:
        return exactly(encoded)
    except RecursionError:  # orjson decodes more levels; no caller accepts that many
        return value


def _encodable(value: Any) -> Any:
    """Returns a value without lone surrogates. Raises `UnicodeEncodeError` if it has one."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


def exactly(text: bytes | str) -> Any:
    """Decodes JSON with the standard library, with the exact value of every number, and lone surrogates as they are.

    Raises:
        ValueError: It is not JSON. NaN and infinity are not.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, parse_float=exact, parse_int=whole, parse_constant=_refused)


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """Encodes as JSON, with all digits of every number; otherwise like `orjson.dumps`.

    Raises:
        TypeError: It is not JSON.
    """

    def other(each: Any) -> Any:
        if isinstance(each, Number):
            return orjson.Fragment(each.json)
        if type(each) is array:
            return each.tolist()
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
    """Returns a value with each `Number` as the nearest finite double, for libraries that accept no other."""
    if isinstance(value, Number):
        return max(-sys.float_info.max, min(float(value), sys.float_info.max))
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
    """Returns the value with integers that orjson refuses as fragments of JSON."""
    if isinstance(value, int) and is_big(value):
        return orjson.Fragment(str(value))
    if isinstance(value, Mapping):
        return {key: _packed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(each) for each in value]
    return value
