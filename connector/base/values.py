"""Values in text and in JSON: every type has one text and one JSON form, the same wherever a value comes from.

    null: None, NaN of any width, pandas' NaT and NA, a masked value     null; in a text, an error
    integers                                                             a number, however many digits it has
    Decimal                                                              a number with all its digits: 12.50
    bytes                                                                base64
    dates and times, of Python, pandas and NumPy                         ISO 8601, in UTC with "Z", else with the offset
    durations                                                            ISO 8601: P1DT2H3.5S
    ranges and intervals                                                 as their database or pandas writes them: [1,10)
    UUID, Enum                                                           its text, its value
    arrays, sets, iterators                                              lists
    mappings, dataclasses                                                objects whose keys are texts
    all else that has a text of its own                                  that text
    functions, and what would show its address in memory                 an error

Inside a text, lists, objects and booleans are JSON. NumPy, pandas and Arrow are recognized by the names of their types:
nothing here imports them.
"""

from __future__ import annotations

import math
import re
from array import array
from binascii import b2a_base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.regex import regex

NATIVE: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""The options by which orjson passes to `json_form` what it would encode in another form."""

_NATIVE: Final = frozenset({str, int, bool, list, dict, array, type(None)})
_NESTED: Final = frozenset({array, dict, list})
_SCALARS: Final = frozenset({str, bool, int, type(None)})
_UNDEFINED: Final = frozenset({"Undefined", "StrictUndefined", "ChainableUndefined"})  # of Jinja2
_NULLS: Final = frozenset({"NAType", "NaTType", "MaskedConstant"})  # of pandas and NumPy
_TAG: Final = regex(r"<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL)
_FRACTION: Final = regex(r"\.(\d+)")
_HOURS: Final = regex(r"[+-]\d\d$")
_POSITIVE: Final = regex(r"[A-Z]\d")
_UNIT: Final = regex(r"\[(\d*)([A-Za-z]+)\]")  # of NumPy's times: <M8[ns], <m8[25s]
_LAST_YEAR: Final = 9999  # of four digits
_DAY: Final = 86_400  # seconds
_SECONDS: Final = {"W": 7 * _DAY, "D": _DAY, "h": 3600, "m": 60}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}
_MONTHS: Final = {"Y": 12, "M": 1}
_ENDS: Final = {"left": "[)", "right": "(]", "both": "[]", "neither": "()"}


class Json(str):
    """Text that is JSON already, as `tojson` returns it."""

    __slots__ = ()


class NullError(Exception):
    """A null where a text is required."""


def is_null(value: object) -> bool:
    """Returns whether `value` is null: `None`, or a null of a data frame."""
    kind = type(value)
    if kind in _NATIVE:
        return value is None
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    if kind.__name__ in _NULLS:
        return True
    if _library(value) == "numpy":
        return getattr(value, "ndim", 1) == 0 and (_is_unequal_to_itself(value) or _is_null_inside(value))
    return _library(value) == "pyarrow" and getattr(value, "is_valid", True) is False


def _is_unequal_to_itself(value: Any) -> bool:
    return value.dtype.kind in "fcmM" and bool(value != value)  # noqa: PLR0124 - true only for NaN and NaT


def _is_null_inside(value: Any) -> bool:
    return value.dtype.kind == "O" and is_null(value.item())


def text(value: object) -> str:
    """Returns the form of a value inside a text.

    Raises:
        NullError: It is null.
        TypeError: It has no text.
    """
    if type(value) is str:
        return value
    if is_null(value) or _is_lenient(value):
        raise NullError("a text cannot contain null")
    if isinstance(value, Decimal) and value.is_infinite():
        return str(float(value))
    form = json_form(value)
    return dumps(form).decode() if isinstance(form, bool | list | dict) else str(form)


def native(value: object) -> Any:
    """Returns a value as a JSON value of its own type; NaN and infinities, which JSON lacks, become null.

    Lists and objects are returned as they are, since walking them would cost more than encoding them.
    """
    if type(value) in _NATIVE:
        return value
    form = json_form(value)
    if isinstance(form, float):
        return form if math.isfinite(form) or isinstance(form, numbers.Number) else None
    return native_list(form) if isinstance(form, list) else form


def native_list(values: Iterable[Any]) -> list[Any]:
    """Returns a list with `native` applied to each value."""
    return [native(value) for value in values]


def computable(value: object) -> object:
    """Returns a value with which templates can compute: `None` for nulls, and Python's types for NumPy's."""
    if type(value) in _NATIVE:
        return value
    if is_null(value):
        return None
    if _library(value) == "numpy" and getattr(getattr(value, "dtype", None), "kind", "M") not in "mM":
        return json_form(value)
    return value


def json_form(value: Any) -> Any:
    """Returns the JSON form of a value. Lists and objects in it may hold values that need the same conversion.

    Raises:
        TypeError: It has no JSON form.
    """
    if _is_undefined(value):
        return None if _is_lenient(value) else str(value)  # which raises
    if is_null(value):
        return None
    if isinstance(value, Enum):
        return json_form(value.value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, float):
        return value if isinstance(value, numbers.Number) else float(value)
    if isinstance(value, Decimal):
        return numbers.of_decimal(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _base64(value)
    if isinstance(value, datetime | date | time):
        return iso_time(value)
    if isinstance(value, timedelta):
        return iso_duration(value)
    if callable(value):
        raise TypeError("it is a method, not a value: put () after its name")
    convert = _LIBRARIES.get(_library(value))
    return convert(value) if convert else _other(value)


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "lower_inc") or (hasattr(value, "bounds") and hasattr(value, "lower")):
        return _range(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if type(value).__name__ == "MonthDayNano":
        return duration_text(value.months, value.days, value.nanoseconds, 9)
    for convert in ("tolist", "item"):  # tensors and series; objects like NumPy scalars
        if hasattr(value, convert):
            return getattr(value, convert)()
    if isinstance(value, Collection | Iterator):
        return list(value)
    shown = str(value)
    if " at 0x" in shown:
        raise TypeError(f"{type(value).__name__} is neither text nor JSON")
    return shown


def plain(value: Any) -> Any:
    """Returns a value in pure JSON types: `None`, booleans, integers, finite floats, texts, lists and objects.

    Raises:
        TypeError: It, or a part of it, has no JSON form.
    """
    kind = type(value)
    if kind in _SCALARS or isinstance(value, numbers.Number):
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is list:
        return [plain(each) for each in value]
    if kind is dict:
        return {key if type(key) is str else key_text(key): plain(each) for key, each in value.items()}
    return plain(json_form(value))


def listed(value: Any) -> Any:
    """Returns a value with arrays of numbers as lists, at any depth."""
    kind = type(value)
    if kind is array:
        return value.tolist()
    if kind is dict:
        return {key: listed(each) for key, each in value.items()}
    if kind is list and any(type(each) in _NESTED for each in value):
        return [listed(each) for each in value]
    return value


def dumps(value: object, option: int = 0) -> bytes:
    """Encodes as compact JSON (UTF-8). Raises `TypeError` for what is not JSON, including lone surrogates."""
    try:
        return numbers.dumps(value, json_form, NATIVE | option)
    except TypeError:  # mostly a key that is not a text
        return numbers.dumps(_walked(value), None, option)


def _walked(value: object) -> Any:
    try:
        return plain(value)
    except RecursionError:
        raise TypeError("it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - a value's own code can raise anything
        raise TypeError(str(error)) from None


def key_text(key: object) -> str:
    """Returns a key of a mapping as the text that a JSON object needs."""
    return "null" if is_null(key) else text(key)


def _is_undefined(value: object) -> bool:
    """Returns whether a value is what templates have for a name that is not there; Jinja2 is not loaded to tell."""
    return type(value).__name__ in _UNDEFINED and _library(value) == "jinja2"


def _is_lenient(value: object) -> bool:
    """Returns whether it is, and stands for null."""
    return type(value).__name__ == "ChainableUndefined" and _library(value) == "jinja2"


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


# --- Numbers and bytes ---


def _base64(value: bytes | bytearray | memoryview) -> str:
    return b2a_base64(bytes(value), newline=False).decode()


# --- Times ---


def date_text(days: int) -> str:
    """Returns a date, given in days since 1970-01-01, in ISO 8601, which requires a sign for years beyond 9999."""
    era, day = divmod(days + 719_468, 146_097)  # days since 0000-03-01, in eras of 400 years
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # since March
    number = era * 400 + year + month // 10
    return f"{_year(number)}-{(month + 2) % 12 + 1:02}-{day - (153 * month + 2) // 5 + 1:02}"


def _year(number: int) -> str:
    sign = "-" if number < 0 else "+" if number > _LAST_YEAR else ""
    return f"{sign}{abs(number):04}"


def timestamp_text(ticks: int, digits: int, suffix: str = "") -> str:
    """Returns a time in ISO 8601, given in ticks of 10 ** -`digits` seconds since 1970-01-01.

    `suffix` is its zone: "Z", or empty if it has none.
    """
    days, rest = divmod(ticks, _DAY * 10**digits)
    return f"{date_text(days)}T{time_text(rest, digits)}{suffix}"


def time_text(ticks: int, digits: int) -> str:
    """Returns a time of day in ISO 8601, given in ticks of 10 ** -`digits` seconds since midnight."""
    seconds, fraction = divmod(ticks, 10**digits)
    return _iso(f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:0{digits}}")


def duration_text(months: int, days: int, ticks: int, digits: int) -> str:
    """Returns a duration in ISO 8601. A part whose sign differs from that of the whole has its own (ISO 8601-2)."""
    if min(months, days, ticks) < 0 and max(months, days, ticks) <= 0:
        return "-" + duration_text(-months, -days, -ticks, digits)
    seconds, fraction = divmod(abs(ticks), 10**digits)
    hours, rest = divmod(seconds, 3600)
    exact = f"{rest % 60}.{fraction:0{digits}}".rstrip("0").rstrip(".") if fraction else f"{rest % 60}"
    dates = ((abs(months) // 12, "Y", months), (abs(months) % 12, "M", months), (abs(days), "D", days))
    times = ((hours, "H", ticks), (rest // 60, "M", ticks), (exact, "S", ticks))
    first, second = (
        "".join(f"{'-' if whole < 0 else ''}{part}{unit}" for part, unit, whole in parts if part not in (0, "0"))
        for parts in (dates, times)
    )
    return f"P{first}{'T' if second else ''}{second}" if first or second else "PT0S"


def _elapsed(ticks: int, digits: int) -> str:
    days, rest = divmod(abs(ticks), _DAY * 10**digits)
    return duration_text(0, days, rest, digits) if ticks >= 0 else duration_text(0, -days, -rest, digits)


def iso_time(value: datetime | date | time) -> str:
    """Returns a date, a time or both, of Python or pandas, in ISO 8601: in UTC with "Z", without trailing zeros."""
    return _iso(value.isoformat())


def iso_duration(value: timedelta) -> str:
    """Returns a duration of Python or pandas in ISO 8601, as `duration_text` does: P1DT2H3.5S, -PT1H."""
    ticks = (value.days * _DAY + value.seconds) * 1_000_000 + value.microseconds
    return _elapsed(ticks * 1000 + getattr(value, "nanoseconds", 0), 9)  # of pandas' durations


def iso_written(value: str) -> str:
    """Returns a time or a duration in the ISO 8601 of a database in the form that is used here.

    Databases may write the offset of an hour as -01 and UTC as +00, and the sign of a negative duration at each part.
    """
    if value[:1] == "P":
        return "-" + value.replace("-", "") if "-" in value and not _POSITIVE.search(value) else value
    return _iso(f"{value}:00" if ":" in value[:-3] and _HOURS.search(value) else value)


def _iso(value: str) -> str:
    """Returns a time in the ISO 8601 of Python or pandas in the form that is used here."""
    value = _FRACTION.sub(lambda found: f".{found[1]}".rstrip("0").rstrip("."), value, count=1)
    return f"{value[:-6]}Z" if value.endswith("+00:00") else value


# --- Libraries ---


def _of_numpy(value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None:  # not a value, but something else of NumPy's
        return _other(value)
    if getattr(value, "ndim", 0):
        return value.tolist() if dtype.kind in "biuSUO" or dtype == "float64" else list(value)
    if dtype.kind in "mM":
        count, unit = int(value.astype("int64")), _UNIT.search(dtype.str)
        convert = _numpy_time if dtype.kind == "M" else _numpy_duration
        return convert(count * int(unit[1] or 1), unit[2]) if unit else count
    if dtype.kind == "f":
        number = float(value)
        return number if number == value else str(value)  # it has more digits than a Python float
    return value.item()


def _numpy_time(count: int, unit: str) -> str:
    if unit in _MONTHS:
        year, month = divmod(count * _MONTHS[unit], 12)
        return _year(1970 + year) + (f"-{month + 1:02}" if unit == "M" else "")
    seconds = count * _SECONDS.get(unit, 1)
    return date_text(seconds // _DAY) if unit in "WD" else timestamp_text(seconds, _DIGITS.get(unit, 0))


def _numpy_duration(count: int, unit: str) -> str:
    if unit in _MONTHS:
        return duration_text(count * _MONTHS[unit], 0, 0, 0)
    return _elapsed(count * _SECONDS.get(unit, 1), _DIGITS.get(unit, 0))


def _of_pandas(value: Any) -> Any:
    if hasattr(value, "closed"):
        ends = _ENDS[value.closed]
        return f"{ends[0]}{text(value.left)}, {text(value.right)}{ends[1]}"
    if hasattr(value, "iterrows"):  # a frame, whose list would be its column names
        return value.to_dict("records")
    return _other(value)


def _of_polars(value: Any) -> Any:
    convert = getattr(value, "to_list", None) or getattr(value, "to_dicts", None) or value.__str__
    return convert()


def _of_arrow(value: Any) -> Any:
    """Returns the value of a scalar, the list of an array, the text of anything else."""
    convert = getattr(value, "as_py", None) or getattr(value, "to_pylist", None) or value.__str__
    return convert()


def _range(value: Any) -> str:
    """Returns a range of a database as PostgreSQL writes it; psycopg, asyncpg and SQLAlchemy each have a class."""
    if getattr(value, "isempty", False) or getattr(value, "is_empty", False):
        return "empty"
    opened, closed = getattr(value, "bounds", None) or ("(["[value.lower_inc], ")]"[value.upper_inc])
    lower, upper = ("" if is_null(end) else text(end) for end in (value.lower, value.upper))
    return f"{opened}{lower},{upper}{closed}"


_LIBRARIES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "numpy": _of_numpy,
    "pandas": _of_pandas,
    "pyarrow": _of_arrow,
    "polars": _of_polars,
    "ipaddress": str,  # a network is a collection of its addresses
}


# --- In templates ---


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja2's `default`, for nulls too: a table marks a missing value with null, not by leaving the column out."""
    if _is_undefined(value) or is_null(value) or (boolean and not value):
        return default_value
    return value


def tojson(value: object, indent: int | None = None) -> Json:
    """Returns a value as JSON text. Unlike Jinja2's own filter, it does not escape for HTML: this is not a web page."""
    return Json(dumps(native(value), orjson.OPT_INDENT_2 if indent else 0).decode())


def in_string(value: object) -> str:
    """Returns the form of a value inside a JSON string."""
    return dumps(text(value)).decode()[1:-1]


def json_value(value: object) -> str:
    """Returns the form of a value in JSON outside of strings."""
    return str(value) if isinstance(value, Json) or _is_undefined(value) else dumps(native(value)).decode()


def json_problem(body: Any, name: str, error: TypeError) -> str:
    """Returns a message that says which value of the structure `name` cannot be JSON, after `dumps` raised `error`."""
    for path, value in _leaves(body, name):
        try:
            dumps(value)
        except TypeError as inner:
            if isinstance(value, str):
                return f"{path}: the text holds half of a character (a lone surrogate), which is not valid Unicode"
            return f"{path}: {inner}"
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
    """Returns a text without HTML tags, comments and entities, with white space folded. Linear, unlike Jinja2's."""
    unescape = import_module("html").unescape  # its table of characters is large, and few templates need it
    return " ".join(unescape(_TAG.sub("", value)).split())
