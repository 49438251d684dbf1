"""The kinds of columns: which values each holds unchanged, and which kind holds the values of two others.

A kind says what a column means; what a database calls it is up to that database's module.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from operator import itemgetter
from types import NoneType
from typing import Any, Final, NamedTuple

import orjson

from connector.base import numbers
from connector.base.numbers import Number
from connector.base.records import JSON, Schema
from connector.base.regex import regex
from connector.stores.staging.shapes import DECIMAL as DECIMAL_FORMAT


class Kind(NamedTuple):
    """What a column holds.

    What `size`, `scale` and `item` mean depends on the kind; 0 is no limit:

    - text, ascii: `size` characters at most; with `scale` 1, trailing spaces are not kept
    - bytes: exactly `size` bytes
    - integer, unsigned: `size` bits; double: `size` bits of fraction
    - decimal: `size` digits before the point, `scale` after it
    - times and timestamps: `size - 1` digits of a second's fraction, six if `size` is 0
    - vector: `size` numbers
    - array: elements of the kind `item`; with `scale` 1, any number of dimensions, each with lists of one length
    """

    name: str
    size: int = 0
    scale: int = 0
    item: Any = None  # a Kind

    def __str__(self) -> str:
        match self.name:
            case "array":
                return f"array of {self.item}"
            case "integer" | "unsigned":
                return f"{self.size}-bit {self.name}" if self.name == "integer" else f"unsigned {self.size}-bit integer"
            case "decimal" if self.size:
                return f"decimal({self.size + self.scale}, {self.scale})"
            case "text" | "ascii" if self.size:
                return f"{self.name} of {self.size} characters"
            case "vector":
                return f"vector of {self.size} numbers"
        return self.name


NULL: Final = Kind("null")
BOOLEAN: Final = Kind("boolean")
INTEGER: Final = Kind("integer", 64)
SHORT: Final = Kind("integer", 54)
"""Integers that a double holds exactly, too."""
DOUBLE: Final = Kind("double", 53)
FLOAT: Final = Kind("double", 24)
SIX_DIGITS: Final = Kind("double", 20)
"""Floats of which a database shows six digits only."""
DECIMAL: Final = Kind("decimal")
DIGIT: Final = Kind("decimal", 1)
"""Decimals whose number of digits is learnt from the values."""
TEXT: Final = Kind("text")
ASCII: Final = Kind("ascii")
JSON_TEXT: Final = Kind("json")
DATE: Final = Kind("date")
TIME: Final = Kind("time")
TIME_TZ: Final = Kind("time_tz")
TIMESTAMP: Final = Kind("timestamp")
TIMESTAMP_TZ: Final = Kind("timestamp_tz")
DATETIME: Final = Kind("datetime")
"""A timestamp in a database without time zones: a value with a zone is stored in UTC."""
VECTOR: Final = Kind("vector")
"""An embedding. Its length is learnt from the values; its numbers are stored in 32 bits, whatever the values have."""
FLOATS: Final = Kind("array", item=DOUBLE)
UUID: Final = Kind("uuid")
BYTES: Final = Kind("bytes")
ANY: Final = Kind("any")
"""A SQLite column without a type: it keeps each number and text as it is."""
NUMERIC: Final = Kind("numeric")
"""A SQLite column of a type that converts texts that look like numbers."""
OTHER: Final = Kind("other")
"""A type that we never create, such as an enumeration: it is given text, and the database decides.

One that would alter some texts has an `item`: a pattern of those that it keeps, or the kind whose values it keeps.
"""

GENERATED: Final = Kind("generated")
"""A column whose values the database computes: it is never written."""

_NUMBERS: Final = ("integer", "double", "decimal")
SCALARS: Final = ("boolean", "text", *_NUMBERS)
_EXACT: Final = 1 << 53
_INT64: Final = 1 << 63
_FORMS: Final = ("%.6g", "%.7g", "%.8g", "%.9g")
_DAY: Final = r"(?!0000)\d{4}-\d\d-\d\d"
_CLOCK: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_ZONE: Final = r"(?:Z|[+-]\d\d:\d\d)"
_PATTERNS: Final = {
    "date": regex(_DAY),
    "time": regex(_CLOCK),
    "time_tz": regex(_CLOCK + _ZONE),
    "timestamp": regex(f"{_DAY}[T ]{_CLOCK}"),
    "timestamp_tz": regex(f"{_DAY}[T ]{_CLOCK}{_ZONE}"),
    "datetime": regex(f"{_DAY}[T ]{_CLOCK}{_ZONE}?"),
}
_FAR: Final = regex(r"(?P<year>[+-]\d{4,7})(?P<rest>-\d\d-\d\d.*)")
"""A date with a signed year (ISO 8601, "expanded representations"): PostgreSQL and DuckDB hold it, Python does not."""
_FAR_SIGNS: Final = frozenset("+-i")
_FIRST: Final = itemgetter(0)
_INFINITE: Final = ("infinity", "-infinity")
_FORM: Final = bytes.maketrans(b"0123456789", b"1111111111")
"""Maps a date or time to its form, every digit a 1: a valid date or time, if any of this form is valid."""
_MIDNIGHT: Final = ("\n24:", "T24:", " 24:")
_UUID: Final = regex(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FRACTION: Final = regex(r"\.(\d+)")
_CLOCKS: Final = ("time", "time_tz")
MOMENTS: Final = tuple(_PATTERNS)
"""Kinds of dates and times."""
TEXTS: Final = (*_PATTERNS, "uuid")
"""Kinds whose values, once found to fit, are passed on as they are."""
_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "time_tz": dt.time.fromisoformat,
}


def of_schema(schema: Schema) -> Kind:
    """Returns the kind that a JSON Schema asks for; `NULL` where only the values can tell."""
    types = schema.get("type", ())
    match sorted(({types} if isinstance(types, str) else set(types)) - {"null"}):
        case ["boolean"]:
            return BOOLEAN
        case ["integer"]:
            return DIGIT if schema.get("airbyte_type") == "big_integer" else INTEGER
        case ["number"] | ["integer", "number"]:
            is_long = schema.get("format") == DECIMAL_FORMAT or schema.get("airbyte_type") in ("integer", "big_number")
            return DIGIT if is_long else DOUBLE
        case ["string"]:
            return _of_string(schema)
        case ["object"]:
            return JSON_TEXT
        case ["array"]:
            items = schema.get("items")
            item = of_schema(items) if isinstance(items, dict) else NULL
            if item == DOUBLE and isinstance(items, dict) and items.get("format") == "float":
                return VECTOR
            return Kind("array", item=item) if item.name in SCALARS or item == NULL else JSON_TEXT
    return NULL


def _of_string(schema: Schema) -> Kind:
    is_plain = str(schema.get("airbyte_type", "")).endswith("_without_timezone")
    if schema.get("contentEncoding") == "base64":
        return BYTES
    match schema.get("format"):
        case "date-time":
            return TIMESTAMP if is_plain else TIMESTAMP_TZ
        case "time":
            return TIME_TZ if str(schema.get("airbyte_type", "")).endswith("_with_timezone") else TIME
        case "date":
            return DATE
        case "uuid":
            return UUID
    return TEXT


def natural(values: Sequence[JSON]) -> Kind:
    """Returns the narrowest kind that holds these JSON values; `NULL` where all are null."""
    types = set(map(type, values)) - {NoneType}
    if not types:
        return NULL
    if types == {bool}:
        return BOOLEAN
    if types == {str}:
        return TEXT
    if types <= {int, float, Number}:
        if types == {int} and fits(INTEGER, values):
            return SHORT if fits(SHORT, values) else INTEGER
        if Number not in types and float in types and fits(DOUBLE, values):
            return DOUBLE
        return decimal_of(values)
    if types == {list}:
        items = [each for value in values if value is not None for each in value]
        item = natural(items)
        is_array = set(map(type, items)) <= {str, NoneType} if item == TEXT else item.name in SCALARS or item == NULL
        return Kind("array", item=item) if is_array else JSON_TEXT
    return JSON_TEXT if types & {dict, list} else TEXT


def decimal_of(values: Sequence[JSON]) -> Kind:
    """Returns the smallest decimal kind that holds these numbers."""
    sizes = [_digits(value) for value in values if value is not None]
    return Kind("decimal", max(1, *(before for before, _ in sizes)), max(after for _, after in sizes))


def _digits(value: float) -> tuple[int, int]:
    """Returns how many digits a number has before and after its point."""
    _, digits, exponent = Decimal(str(value)).as_tuple()
    after = max(-int(exponent), 0)
    return max(len(digits) + int(exponent), 0), after


def merged(one: Kind, other: Kind) -> Kind:
    """Returns the narrowest kind that holds the values of both."""
    if other in (one, NULL):
        return one
    if one == NULL:
        return other
    if one.name == "unsigned":
        return merged(INTEGER if one.size < INTEGER.size else Kind("decimal", 20), other)
    names = {one.name, other.name}
    if len(names) == 1 and one.name in ("integer", "double", "text", "ascii"):
        return one if one.size == 0 or one.size >= other.size > 0 else other
    if names <= set(_NUMBERS):
        return _merged_numbers(one, other)
    if names == {"array"}:
        item = merged(one.item, other.item)
        same = {one.item.name, other.item.name}
        is_array = "null" in same or same <= set(_NUMBERS) or len(same) == 1
        is_deep = max(one.scale, other.scale)
        return Kind("array", 0, is_deep, item) if is_array and item.name in SCALARS else JSON_TEXT
    if names <= {"array", "vector"}:
        return Kind("array", item=DOUBLE)
    if "json" in names or "array" in names:
        return JSON_TEXT
    return TEXT


def _merged_numbers(one: Kind, other: Kind) -> Kind:
    wholes = [Kind("decimal", 19) if each.name == "integer" else each for each in (one, other)]
    if "double" in (one.name, other.name):
        return DOUBLE if max(_bits(one), _bits(other)) <= SHORT.size else DECIMAL
    if DECIMAL in wholes:
        return DECIMAL
    return Kind("decimal", max(each.size for each in wholes), max(each.scale for each in wholes))


def _bits(kind: Kind) -> int:
    """Returns how many bits a kind's exact numbers have; for decimals, more than a double holds."""
    return kind.size if kind.name in ("integer", "double") else INTEGER.size


def fits(kind: Kind, values: Sequence[JSON]) -> bool:
    """Returns whether a column of this kind holds all of these values unchanged."""
    if are_ready(kind, values):
        return True
    types = set(map(type, values)) - {NoneType}
    match kind.name:
        case "null":
            return not types
        case "other" | "generated":
            return True  # else the column would be changed to another type
        case "integer" if types <= {int}:
            return False
        case "boolean":
            return types <= {bool}
        case "json":
            return True
        case name if name in _PATTERNS and types <= {str} and not kind.size and not has_far(values):
            return False
    convert = converter(kind)
    try:
        for value in values:
            if value is not None:
                convert(value)
    except ValueError:
        return False
    return True


def are_ready(kind: Kind, values: Sequence[JSON]) -> bool:
    """Returns whether `converter` would return all of these values unchanged. Fast, and never wrongly true."""
    match kind.name:
        case "text" if kind.size == 0:
            return set(map(type, values)) <= {str, NoneType}
        case "double" if kind.size > FLOAT.size:
            return set(map(type, values)) <= {float, NoneType}
        case "boolean":
            return set(map(type, values)) <= {bool, NoneType}
        case "integer" if (types := set(map(type, values))) <= {int, NoneType}:
            most = 1 << (kind.size - 1)
            some: Any = [value for value in values if value is not None] if NoneType in types else values
            return not some or (-most <= min(some) and max(some) < most)
        case name if name in _PATTERNS and not kind.size and (types := set(map(type, values))) <= {str, NoneType}:
            return _are_moments(name, [value for value in values if value is not None] if NoneType in types else values)
    return False


def _are_moments(name: str, values: Sequence[Any]) -> bool:
    """Returns whether all texts are dates or times of this kind.

    The parser checks the calendar. The pattern is matched with the few forms of the texts; with the texts themselves
    where one is not ASCII, or has the hour 24, which some versions of Python accept.
    """
    whole = "\n".join(["", *values])
    is_odd = not whole.isascii() or ("24:" in whole and any(midnight in whole for midnight in _MIDNIGHT))
    try:
        deque(map(_PARSERS.get(name, dt.datetime.fromisoformat), values), maxlen=0)
    except ValueError:
        return False
    return all(map(_PATTERNS[name].fullmatch, set(values if is_odd else _forms(whole))))


def _forms(whole: str) -> list[str]:
    """Returns the forms of texts that each follow a line break: a single one where all are alike, as is usual."""
    forms = whole.encode().translate(_FORM)
    first = forms[: forms.find(b"\n", 1)]
    if first and len(forms) % len(first) == 0 and forms == first * (len(forms) // len(first)):
        forms = first
    return forms.decode().split("\n")[1:]


def column_of(kind: Kind, values: Sequence[JSON]) -> Sequence[Any]:
    """Returns the values of a column as `converter` makes them, nulls as they are.

    Raises:
        ValueError: The kind does not hold one of them unchanged.
    """
    if are_ready(kind, values):
        return values
    if kind.name == "json":
        return texts_of(values)
    convert = converter(kind)
    return [None if value is None else convert(value) for value in values]


def texts_of(values: Sequence[JSON]) -> list[str | None]:
    """Returns values as JSON text, nulls as they are."""
    try:
        return [None if value is None else orjson.dumps(value).decode() for value in values]
    except TypeError:  # a number with more digits than a double has
        return [None if value is None else written(value) for value in values]


def converter(kind: Kind) -> Callable[[JSON], Any]:
    """Returns the function that converts a JSON value, not null, into the form in which every database gets a kind.

    Booleans, integers, floats and lists stay; decimals become texts of digits, objects JSON text, base64 `bytes`; all
    others are text. The function raises `ValueError`, with the reason, for a value that the kind does not hold
    unchanged.
    """
    if kind.name in _PATTERNS:
        return _moment(kind)
    if kind.name == "array":
        flat = _array(_word if kind.item == TEXT else converter(kind.item))
        return _deep(flat) if kind.scale else flat
    if kind.name == "vector":
        return _vector(kind.size)
    if kind.name in ("text", "ascii"):
        return _text(kind)
    if kind.name == "integer":
        return _integer(-1 << (kind.size - 1), 1 << (kind.size - 1))
    if kind.name == "unsigned":
        return _integer(0, 1 << kind.size)
    if kind.name == "double":
        return _double if kind.size > FLOAT.size else _float(_FORMS if kind == FLOAT else _FORMS[:1])
    if kind.name == "decimal":
        return _exact(kind)
    if kind.name == "bytes" and kind.size:
        return _binary(kind.size)
    if kind.name == "other" and kind.item:
        return _other_like(kind.item)
    return _CONVERTERS[kind.name]


def quoted(value: Any) -> str:
    """Returns a value, be it converted for a database, as an error shows it."""
    is_json = value is None or isinstance(value, str | bool | int | float | list | dict)
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else written(value) if is_json else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"  # noqa: PLR2004 - enough to find it


def vector_of(values: Sequence[JSON]) -> Kind:
    """Returns the kind for embeddings: a vector if all have the same length, else an array."""
    lists = [value for value in values if value is not None]
    sizes = {len(value) if type(value) is list else 0 for value in lists}
    kind = Kind("vector", max(sizes, default=0))
    return kind if len(sizes) == 1 and fits(kind, lists) else natural(lists)


def base64_of(value: bytes) -> str:
    """Returns bytes as base64."""
    return base64.b64encode(value).decode()


def written(value: JSON) -> str:
    """Returns a value as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number with more digits than a double has
        return numbers.dumps(value).decode()


def _text(kind: Kind) -> Callable[[JSON], str]:
    def text(value: JSON) -> str:
        result = value if type(value) is str else written(value)
        if kind.size and len(result) > kind.size:
            raise ValueError(f"a text of {len(result)} characters is longer than {kind.size}")
        if kind.scale and result.endswith(" "):
            raise ValueError(f"{quoted(value)} ends with a space, which the column does not keep")
        if kind.name == "ascii" and not result.isascii():
            raise ValueError(f"{quoted(value)} has characters that the column's character set lacks")
        return result

    return text


def _word(value: JSON) -> str:
    """Returns a text that is an element of an array. Other values among texts would lose their type: they need JSON."""
    if type(value) is str:
        return value
    raise ValueError(f"{quoted(value)} is not a text")


def _integer(least: int, end: int) -> Callable[[JSON], int]:
    def integer(value: JSON) -> int:
        if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
            value = int(value)
        if type(value) is not int or not least <= value < end:
            raise ValueError(f"{quoted(value)} is not an integer from {least} to {end - 1}")
        return value

    return integer


def _double(value: JSON) -> float:
    if type(value) is float or (type(value) is int and -_EXACT <= value <= _EXACT):
        return value
    if isinstance(value, Number) and value.is_double:
        return float(value)
    raise ValueError(f"{quoted(value)} is not a number that a double holds exactly")


def _float(forms: Sequence[str]) -> Callable[[JSON], float]:
    """Returns a converter for numbers as a database shows 32-bit floats: in the first form that reads as that float."""

    def as_float(value: JSON) -> float:
        number = _double(value)
        try:
            packed = struct.pack("f", number)
            tellings = [float(form % struct.unpack("f", packed)) for form in forms]
            if next((told for told in tellings if struct.pack("f", told) == packed), None) == number:
                return number
        except OverflowError:
            pass
        raise ValueError(f"{quoted(value)} is not a number that a 32-bit float holds")

    return as_float


def _exact(kind: Kind) -> Callable[[JSON], str]:
    def exact(value: JSON) -> str:
        if type(value) is bool or not isinstance(value, int | float):
            raise ValueError(f"{quoted(value)} is not a number")
        if kind != DECIMAL:
            before, after = _digits(value)
            if before > kind.size or after > kind.scale:
                raise ValueError(
                    f"{quoted(value)} has more than {kind.size} digits before its point, or {kind.scale} after it"
                )
        return format(Decimal(str(value)), "f")

    return exact


def _boolean(value: JSON) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{quoted(value)} is neither true nor false")
    return value


def _array(convert: Callable[[JSON], Any]) -> Callable[[JSON], list[Any]]:
    def array(value: JSON) -> list[Any]:
        if type(value) is not list:
            raise ValueError(f"{quoted(value)} is not a list")
        return [None if each is None else convert(each) for each in value]

    return array


def _deep(flat: Callable[[JSON], list[Any]]) -> Callable[[JSON], list[Any]]:
    def deep(value: JSON) -> list[Any]:
        if type(value) is not list or not value or type(value[0]) is not list:
            return flat(value)
        parts = [deep(each) for each in value]
        if len(set(map(_lengths, parts))) > 1 or not parts[0]:
            raise ValueError(f"{quoted(value)} has inner lists of different lengths, or empty ones")
        return parts

    return deep


def _lengths(value: list[Any]) -> tuple[int, ...]:
    """Returns how many items there are in each dimension."""
    return (len(value), *(_lengths(value[0]) if value and type(value[0]) is list else ()))


def _vector(size: int) -> Callable[[JSON], list[Any]]:
    def vector(value: JSON) -> list[Any]:
        if type(value) is list and len(value) == size and set(map(type, value)) == {float}:
            return value
        if type(value) is not list or len(value) != size or None in value:
            raise ValueError(f"{quoted(value)} is not a vector of {size} numbers")
        return [_double(each) for each in value]

    return vector


def _moment(kind: Kind) -> Callable[[JSON], str]:
    name, digits = kind.name, kind.size - 1
    matches, parse = _PATTERNS[name].fullmatch, _PARSERS.get(name, dt.datetime.fromisoformat)
    has_date = name not in _CLOCKS

    def moment(value: JSON) -> str:
        if has_date and value in _INFINITE:
            return str(value)
        near = _near(value) if has_date and type(value) is str else value
        if type(near) is str and matches(near):
            if digits >= 0 and (found := _FRACTION.search(near)) and len(found[1].rstrip("0")) > digits:
                raise ValueError(f"{quoted(value)} has more than {digits} digits after its seconds")
            try:
                parse(near)
            except ValueError:
                pass
            else:
                return str(value)
        raise ValueError(f"{quoted(value)} is not a valid {name.replace('_tz', ' with a time zone')}")

    return moment


def has_far(moments: Iterable[str | None]) -> bool:
    """Returns whether any of these dates or timestamps is infinite, or has a signed year: before 1 or after 9999."""
    return not _FAR_SIGNS.isdisjoint(map(_FIRST, filter(None, moments)))


def _near(value: str) -> str:
    """Returns the same date in a year that Python supports: the calendar repeats every 400 years."""
    found = _FAR.fullmatch(value)
    return f"{2000 + int(found['year']) % 400}{found['rest']}" if found else value


def beyond(moments: Sequence[str | None], years: range) -> list[int]:
    """Returns the positions of dates and timestamps whose year is neither in `years` nor from 1 to 9999.

    Infinity is among them only if `years` is empty.
    """
    if not has_far(moments):
        return []
    places = []
    for place, value in enumerate(moments):
        if value and value[0] in _FAR_SIGNS:
            found = _FAR.fullmatch(value)
            if int(found["year"]) not in years if found else not years:
                places.append(place)
    return places


def _uuid(value: JSON) -> str:
    if type(value) is str and _UUID.fullmatch(value):
        return value
    raise ValueError(f"{quoted(value)} is not a UUID in lower case")


def _bytes(value: JSON) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if type(value) is str else b""
        if type(value) is str and base64.b64encode(found).decode() == value:
            return found
    except (binascii.Error, ValueError):
        pass
    raise ValueError(f"{quoted(value)} is not base64")


def _binary(size: int) -> Callable[[JSON], bytes]:
    def binary(value: JSON) -> bytes:
        found = _bytes(value)
        if len(found) != size:
            raise ValueError(f"{len(found):,} bytes are not the {size:,} that the column holds")
        return found

    return binary


def _other(value: JSON) -> str:
    return value if type(value) is str else written(value)


def _other_like(item: str | Kind) -> Callable[[JSON], str]:
    """Returns a converter for the texts that a pattern matches, or for the values of a kind, as texts."""
    if isinstance(item, Kind):
        convert = converter(item)
        return lambda value: _other(convert(value))
    matches = re.compile(item, re.DOTALL).fullmatch

    def like(value: JSON) -> str:
        text = _other(value)
        if matches(text):
            return text
        raise ValueError(f"{quoted(value)} is not a value that the column keeps unchanged")

    return like


def _any(value: JSON) -> Any:
    if type(value) is int and not -_INT64 <= value < _INT64:
        raise ValueError(f"{quoted(value)} is not a 64-bit integer")
    if isinstance(value, Number):
        return _double(value)
    return value if isinstance(value, str | int | float) else written(value)


def _numeric(value: JSON) -> Any:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return value
        raise ValueError(f"{quoted(value)} is a text that the column would convert to a number")
    if isinstance(value, bool | dict | list):
        raise ValueError(f"{quoted(value)} is not a number")  # noqa: TRY004 - as all converters
    return _any(value)


def _null(value: JSON) -> None:
    raise ValueError(f"{quoted(value)} is not null")


_CONVERTERS: Final[dict[str, Callable[[JSON], Any]]] = {
    "null": _null,
    "boolean": _boolean,
    "json": written,
    "uuid": _uuid,
    "bytes": _bytes,
    "other": _other,
    "any": _any,
    "numeric": _numeric,
}
