"""The kinds of columns: which values each holds unchanged, and which kind holds the values of two.

A kind says what a column means; how a database calls it is a matter of that database's module.
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
from connector.stores.staging.shapes import DECIMAL as DECIMAL_FORMAT


class Kind(NamedTuple):
    """What a column holds.

    `size` is the most characters of a text, which keeps no blanks at its end if `scale` is 1; or all bytes, the bits of
    an integer or of a float's fraction, the numbers of a vector, or the digits before a decimal's point; `scale` those
    after it; 0 is no limit. Of a time, `size` is one more than the digits of its seconds' fraction, or 0 for six of
    them. `item` is what an array consists of; if `scale` is 1, it may have several dimensions, in each of which all
    lists have the same length.
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
                return f"{self.name} of {self.size} bits"
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
"""Integers that a double holds, too."""
DOUBLE: Final = Kind("double", 53)
FLOAT: Final = Kind("double", 24)
SIX_DIGITS: Final = Kind("double", 20)
"""Floats of which a database tells no more."""
DECIMAL: Final = Kind("decimal")
DIGIT: Final = Kind("decimal", 1)
"""Decimals whose values tell how many digits they have."""
TEXT: Final = Kind("text")
ASCII: Final = Kind("ascii")
JSON_TEXT: Final = Kind("json")
DATE: Final = Kind("date")
TIME: Final = Kind("time")
TIME_TZ: Final = Kind("time_tz")
TIMESTAMP: Final = Kind("timestamp")
TIMESTAMP_TZ: Final = Kind("timestamp_tz")
DATETIME: Final = Kind("datetime")
"""A timestamp in a database that has no zones: one with a zone is stored in UTC."""
VECTOR: Final = Kind("vector")
"""An embedding; the values tell how many numbers it has. Its numbers have 32 bits, whatever the values have."""
FLOATS: Final = Kind("array", item=DOUBLE)
UUID: Final = Kind("uuid")
BYTES: Final = Kind("bytes")
ANY: Final = Kind("any")
"""A column of SQLite without a type: it keeps each number and text as it is."""
NUMERIC: Final = Kind("numeric")
"""A column of SQLite of a type that makes numbers of texts that look like numbers."""
OTHER: Final = Kind("other")
"""A type that we never make, such as an enumeration: it is given text, and its database decides.

One that would make something else of some texts has an `item`: a pattern of those that it keeps, or the kind that does.
"""

GENERATED: Final = Kind("generated")
"""A column whose values the database computes: nothing is written there."""

_NUMBERS: Final = ("integer", "double", "decimal")
SCALARS: Final = ("boolean", "text", *_NUMBERS)
_EXACT: Final = 1 << 53
_INT64: Final = 1 << 63
_FORMS: Final = ("%.6g", "%.7g", "%.8g", "%.9g")
_DAY: Final = r"(?!0000)\d{4}-\d\d-\d\d"
_CLOCK: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_ZONE: Final = r"(?:Z|[+-]\d\d:\d\d)"
_PATTERNS: Final = {
    "date": re.compile(_DAY),
    "time": re.compile(_CLOCK),
    "time_tz": re.compile(_CLOCK + _ZONE),
    "timestamp": re.compile(f"{_DAY}[T ]{_CLOCK}"),
    "timestamp_tz": re.compile(f"{_DAY}[T ]{_CLOCK}{_ZONE}"),
    "datetime": re.compile(f"{_DAY}[T ]{_CLOCK}{_ZONE}?"),
}
_FAR: Final = re.compile(r"(?P<year>[+-]\d{4,7})(?P<rest>-\d\d-\d\d.*)")
"""A date of any year (ISO 8601, "expanded representations"): what PostgreSQL and DuckDB hold, and Python does not."""
_FAR_SIGNS: Final = frozenset("+-i")
_FIRST: Final = itemgetter(0)
_INFINITE: Final = ("infinity", "-infinity")
_FORM: Final = bytes.maketrans(b"0123456789", b"1111111111")
"""Makes of a date or time its form: a valid one, if there is any of this form."""
_MIDNIGHT: Final = ("\n24:", "T24:", " 24:")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FRACTION: Final = re.compile(r"\.(\d+)")
_CLOCKS: Final = ("time", "time_tz")
MOMENTS: Final = tuple(_PATTERNS)
"""Kinds of dates and times."""
TEXTS: Final = (*_PATTERNS, "uuid")
"""Kinds whose values, once found to fit, are handed on as they are."""
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
    """Returns the narrowest kind that holds these values, as JSON types tell; `NULL` where all are null."""
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
    """Returns the decimals that hold these numbers."""
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
    """Returns how many bits exact numbers have, more than a double holds for decimals."""
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
            return True  # or another type would take its place
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
    """Returns whether these values are, all of them, what `converter` would make of them: quick, and no too often."""
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
    """Returns whether texts are dates or times of this kind: their forms, of which there are few, match its pattern.

    The second half is a matter of the calendar, and of midnight, which some versions of Python take as 24:00.
    """
    whole = "\n".join(["", *values])
    is_odd = not whole.isascii() or ("24:" in whole and any(midnight in whole for midnight in _MIDNIGHT))
    try:
        deque(map(_PARSERS.get(name, dt.datetime.fromisoformat), values), maxlen=0)
    except ValueError:
        return False
    return all(map(_PATTERNS[name].fullmatch, set(values if is_odd else _forms(whole))))


def _forms(whole: str) -> list[str]:
    """Returns the forms of texts, each behind a line break: one of them where all are the same, as they mostly are."""
    forms = whole.encode().translate(_FORM)
    first = forms[: forms.find(b"\n", 1)]
    if first and len(forms) % len(first) == 0 and forms == first * (len(forms) // len(first)):
        forms = first
    return forms.decode().split("\n")[1:]


def column_of(kind: Kind, values: Sequence[JSON]) -> Sequence[Any]:
    """Returns the values of a column in the form of `converter`, and nulls as they are.

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
    """Returns values as JSON, and nulls as they are."""
    try:
        return [None if value is None else orjson.dumps(value).decode() for value in values]
    except TypeError:  # a number with more digits than a double has
        return [None if value is None else written(value) for value in values]


def converter(kind: Kind) -> Callable[[JSON], Any]:
    """Returns what makes of a JSON value, not null, the one form that all databases are handed for a kind.

    Booleans, integers, floats and lists stay; decimals become digits, objects JSON, bytes `bytes`; all others are text.
    What it returns raises `ValueError`, with the reason, for a value that the kind does not hold unchanged.
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
    """Returns a value, or what it has become for a database, as an error shows it."""
    is_json = value is None or isinstance(value, str | bool | int | float | list | dict)
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else written(value) if is_json else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"  # noqa: PLR2004 - enough to find it


def vector_of(values: Sequence[JSON]) -> Kind:
    """Returns the kind for embeddings: a vector if they are all of one length, else an array."""
    lists = [value for value in values if value is not None]
    sizes = {len(value) if type(value) is list else 0 for value in lists}
    kind = Kind("vector", max(sizes, default=0))
    return kind if len(sizes) == 1 and fits(kind, lists) else natural(lists)


def base64_of(value: bytes) -> str:
    """Returns bytes as base64."""
    return base64.b64encode(value).decode()


def written(value: JSON) -> str:
    """Returns a value as JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number with more digits than a double has
        return numbers.dumps(value).decode()


def _text(kind: Kind) -> Callable[[JSON], str]:
    def text(value: JSON) -> str:
        result = value if type(value) is str else written(value)
        if kind.size and len(result) > kind.size:
            raise ValueError(f"a text of {len(result)} characters does not fit into {kind.size}")
        if kind.scale and result.endswith(" "):
            raise ValueError(f"{quoted(value)} ends with a blank, which the column does not keep")
        if kind.name == "ascii" and not result.isascii():
            raise ValueError(f"{quoted(value)} does not fit into the character set of the column")
        return result

    return text


def _word(value: JSON) -> str:
    """Returns a text of an array. What else there is among texts would lose its type: it needs JSON."""
    if type(value) is str:
        return value
    raise ValueError(f"{quoted(value)} is no text")


def _integer(least: int, end: int) -> Callable[[JSON], int]:
    def integer(value: JSON) -> int:
        if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
            value = int(value)
        if type(value) is not int or not least <= value < end:
            raise ValueError(f"{quoted(value)} is no integer from {least} to {end - 1}")
        return value

    return integer


def _double(value: JSON) -> float:
    if type(value) is float or (type(value) is int and -_EXACT <= value <= _EXACT):
        return value
    if isinstance(value, Number) and value.is_double:
        return float(value)
    raise ValueError(f"{quoted(value)} is no number that a double holds")


def _float(forms: Sequence[str]) -> Callable[[JSON], float]:
    """Returns what takes the numbers that floats of 32 bits are told as: each in the first form that is the float."""

    def as_float(value: JSON) -> float:
        number = _double(value)
        try:
            packed = struct.pack("f", number)
            tellings = [float(form % struct.unpack("f", packed)) for form in forms]
            if next((told for told in tellings if struct.pack("f", told) == packed), None) == number:
                return number
        except OverflowError:
            pass
        raise ValueError(f"{quoted(value)} is no number that a float of 32 bits holds")

    return as_float


def _exact(kind: Kind) -> Callable[[JSON], str]:
    def exact(value: JSON) -> str:
        if type(value) is bool or not isinstance(value, int | float):
            raise ValueError(f"{quoted(value)} is no number")
        if kind != DECIMAL:
            before, after = _digits(value)
            if before > kind.size or after > kind.scale:
                raise ValueError(f"{quoted(value)} does not fit into {kind.size}.{kind.scale} digits")
        return format(Decimal(str(value)), "f")

    return exact


def _boolean(value: JSON) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{quoted(value)} is neither true nor false")
    return value


def _array(convert: Callable[[JSON], Any]) -> Callable[[JSON], list[Any]]:
    def array(value: JSON) -> list[Any]:
        if type(value) is not list:
            raise ValueError(f"{quoted(value)} is no list")
        return [None if each is None else convert(each) for each in value]

    return array


def _deep(flat: Callable[[JSON], list[Any]]) -> Callable[[JSON], list[Any]]:
    def deep(value: JSON) -> list[Any]:
        if type(value) is not list or not value or type(value[0]) is not list:
            return flat(value)
        parts = [deep(each) for each in value]
        if len(set(map(_lengths, parts))) > 1 or not parts[0]:
            raise ValueError(f"{quoted(value)} has lists of several lengths, or empty ones")
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
            raise ValueError(f"{quoted(value)} is no vector of {size} numbers")
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
                raise ValueError(f"{quoted(value)} has a fraction of more than {digits} digits")
            try:
                parse(near)
            except ValueError:
                pass
            else:
                return str(value)
        raise ValueError(f"{quoted(value)} is no {name.replace('_tz', ' with a time zone')}")

    return moment


def has_far(moments: Iterable[str | None]) -> bool:
    """Returns whether one of these moments is infinite, or of a year that has a sign: before 1, or after 9999."""
    return not _FAR_SIGNS.isdisjoint(map(_FIRST, filter(None, moments)))


def _near(value: str) -> str:
    """Returns the same moment in a year that Python knows, since the calendar is the same again after 400 years."""
    found = _FAR.fullmatch(value)
    return f"{2000 + int(found['year']) % 400}{found['rest']}" if found else value


def beyond(moments: Sequence[str | None], years: range) -> list[int]:
    """Returns the places of those that are of none of these years and of none from 1 to 9999.

    What is infinite is beyond no years but an empty range.
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
    raise ValueError(f"{quoted(value)} is no UUID in small letters")


def _bytes(value: JSON) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if type(value) is str else b""
        if type(value) is str and base64.b64encode(found).decode() == value:
            return found
    except (binascii.Error, ValueError):
        pass
    raise ValueError(f"{quoted(value)} is no base64")


def _binary(size: int) -> Callable[[JSON], bytes]:
    def binary(value: JSON) -> bytes:
        found = _bytes(value)
        if len(found) != size:
            raise ValueError(f"{len(found):,} bytes are not the {size} that the column takes")
        return found

    return binary


def _other(value: JSON) -> str:
    return value if type(value) is str else written(value)


def _other_like(item: str | Kind) -> Callable[[JSON], str]:
    """Returns what takes the texts that a pattern matches, or values of a kind as texts."""
    if isinstance(item, Kind):
        convert = converter(item)
        return lambda value: _other(convert(value))
    matches = re.compile(item, re.DOTALL).fullmatch

    def like(value: JSON) -> str:
        text = _other(value)
        if matches(text):
            return text
        raise ValueError(f"{quoted(value)} is none of the values that the column keeps as they are")

    return like


def _any(value: JSON) -> Any:
    if type(value) is int and not -_INT64 <= value < _INT64:
        raise ValueError(f"{quoted(value)} is no integer of 64 bits")
    if isinstance(value, Number):
        return _double(value)
    return value if isinstance(value, str | int | float) else written(value)


def _numeric(value: JSON) -> Any:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return value
        raise ValueError(f"{quoted(value)} is a text, of which the column makes a number")
    if isinstance(value, bool | dict | list):
        raise ValueError(f"{quoted(value)} is no number")  # noqa: TRY004 - as all converters
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
