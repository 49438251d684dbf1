"""Every type that Python code can hand over has one text and one JSON form, whichever library made the value."""

from __future__ import annotations

import array
import datetime as dt
import enum
import ipaddress
import json
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.numbers import Number
from connector.base.values import (
    NullError,
    computable,
    date_text,
    default,
    dumps,
    duration_text,
    is_null,
    native,
    plain,
    text,
    timestamp_text,
    tojson,
)

BERLIN: Final = ZoneInfo("Europe/Berlin")
NAIVE: Final = dt.datetime.fromisoformat("2024-05-17T01:02:03")
EAST: Final = dt.timezone(dt.timedelta(hours=5, minutes=30))

NULLS: Final[dict[str, Any]] = {
    "None": None,
    "NaN": float("nan"),
    "NaN of NumPy": np.float64("nan"),
    "NaN of 16 bits": np.float16("nan"),
    "NaN of 32 bits": np.float32("nan"),
    "long NaN": np.longdouble("nan"),
    "an array of NaN alone": np.array(np.nan),
    "an array of None alone": np.array(None, dtype=object),
    "NaN of Decimal": Decimal("NaN"),
    "signalling NaN": Decimal("sNaN"),
    "NaT": pd.NaT,
    "NA": pd.NA,
    "NaT of NumPy": np.datetime64("NaT"),
    "a duration that is NaT": np.timedelta64("NaT"),
    "NaT of nanoseconds": np.datetime64("NaT", "ns"),
    "masked": np.ma.masked,
    "null of Arrow": pa.scalar(None, pa.int64()),
}


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):  # noqa: UP042 - what StrEnum is not: its own text is Word.ONE
    ONE = "one"


class Money(enum.Enum):
    PRICE = Decimal("1.25")


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Person:
    name: str
    born: dt.date


def range_of(lower: Any, upper: Any, bounds: str = "[)", *, empty: bool = False) -> Any:
    """What psycopg's and SQLAlchemy's ranges look like."""
    return SimpleNamespace(lower=lower, upper=upper, bounds=None if empty else bounds, isempty=empty)


def ranges_of_asyncpg(lower: Any, upper: Any) -> Any:
    return SimpleNamespace(lower=lower, upper=upper, lower_inc=True, upper_inc=False, isempty=False)


SCALARS: Final[dict[str, tuple[Any, str, Any]]] = {
    "bool": (True, "true", True),
    "bool of NumPy": (np.bool_(False), "false", False),
    "int": (7, "7", 7),
    "int of NumPy": (np.int8(-7), "-7", -7),
    "unsigned": (np.uint64(2**64 - 1), "18446744073709551615", 2**64 - 1),
    "largest of 64 bits": (2**64 - 1, "18446744073709551615", 2**64 - 1),
    "more than 64 bits": (10**30 + 1, "1000000000000000000000000000001", 10**30 + 1),
    "far below zero": (-(2**63) - 1, "-9223372036854775809", -(2**63) - 1),
    "float": (0.1, "0.1", 0.1),
    "float of 64 bits": (np.float64(0.1), "0.1", 0.1),
    "float of 32 bits": (np.float32(0.1), "0.10000000149011612", 0.10000000149011612),
    "float of 16 bits": (np.float16(0.1), "0.0999755859375", 0.0999755859375),
    "an array of one alone": (np.array(5), "5", 5),
    "Decimal": (Decimal("12.50"), "12.50", Number("12.50")),
    "Decimal, whole": (Decimal(12), "12", 12),
    "Decimal, whole with zeros": (Decimal("3.00"), "3.00", Number("3.00")),
    "Decimal with an exponent": (Decimal("1E+3"), "1000", 1000),
    "small Decimal": (Decimal("0.00000001"), "0.00000001", Number("0.00000001")),
    "Decimal of many digits": (
        Decimal("12345678901234567.89"),
        "12345678901234567.89",
        Number("12345678901234567.89"),
    ),
    "whole Decimal of many digits": (Decimal(10**30), "1" + "0" * 30, 10**30),
    "huge Decimal": (Decimal("1E+999999"), "1E+999999", Number("1E+999999")),
    "tiny Decimal": (Decimal("1E-999999"), "1E-999999", Number("1E-999999")),
    "str": ("é\n", "é\n", "é\n"),
    "str of NumPy": (np.str_("é"), "é", "é"),
    "bytes": (b"\x00\xff", "AP8=", "AP8="),
    "bytearray": (bytearray(b"\x00\xff"), "AP8=", "AP8="),
    "memoryview": (memoryview(b"\x00\xff"), "AP8=", "AP8="),
    "bytes of NumPy": (np.bytes_(b"\x00\xff"), "AP8=", "AP8="),
    "date": (dt.date(2024, 5, 17), "2024-05-17", "2024-05-17"),
    "first date": (dt.date.min, "0001-01-01", "0001-01-01"),
    "datetime": (NAIVE, "2024-05-17T01:02:03", "2024-05-17T01:02:03"),
    "half a second": (NAIVE.replace(microsecond=500_000), "2024-05-17T01:02:03.5", "2024-05-17T01:02:03.5"),
    "datetime in UTC": (
        dt.datetime(2024, 5, 17, 1, 2, 3, tzinfo=dt.UTC),
        "2024-05-17T01:02:03Z",
        "2024-05-17T01:02:03Z",
    ),
    "datetime in a zone": (
        dt.datetime(2024, 5, 17, 1, 2, 3, tzinfo=BERLIN),
        "2024-05-17T01:02:03+02:00",
        "2024-05-17T01:02:03+02:00",
    ),
    "Timestamp": (pd.Timestamp("2024-05-17 01:02:03"), "2024-05-17T01:02:03", "2024-05-17T01:02:03"),
    "Timestamp to the nanosecond": (
        pd.Timestamp(1704103200123456789),
        "2024-01-01T10:00:00.123456789",
        "2024-01-01T10:00:00.123456789",
    ),
    "Timestamp in UTC": (
        pd.Timestamp("2024-05-17 01:02:03.25", tz="UTC"),
        "2024-05-17T01:02:03.25Z",
        "2024-05-17T01:02:03.25Z",
    ),
    "datetime64 of days": (np.datetime64("2024-05-17"), "2024-05-17", "2024-05-17"),
    "datetime64 of months": (np.datetime64("2024-05"), "2024-05", "2024-05"),
    "datetime64 of nanoseconds": (
        np.datetime64(1704103200123456789, "ns"),
        "2024-01-01T10:00:00.123456789",
        "2024-01-01T10:00:00.123456789",
    ),
    "datetime64 without a fraction": (
        np.datetime64("2024-05-17T01:02:03", "ns"),
        "2024-05-17T01:02:03",
        "2024-05-17T01:02:03",
    ),
    "datetime64 before year 1": (np.datetime64("-0044-03-15"), "-0044-03-15", "-0044-03-15"),
    "datetime64 after year 9999": (
        np.datetime64("20000-01-01T00:00:00"),
        "+20000-01-01T00:00:00",
        "+20000-01-01T00:00:00",
    ),
    "time": (dt.time(1, 2, 3), "01:02:03", "01:02:03"),
    "time to the microsecond": (dt.time(1, 2, 3, 40), "01:02:03.00004", "01:02:03.00004"),
    "time with a zone": (dt.time(1, 2, 3, tzinfo=EAST), "01:02:03+05:30", "01:02:03+05:30"),
    "time in UTC": (dt.time(1, 2, tzinfo=dt.UTC), "01:02:00Z", "01:02:00Z"),
    "timedelta": (dt.timedelta(days=1, hours=2, seconds=3.5), "P1DT2H3.5S", "P1DT2H3.5S"),
    "no time": (dt.timedelta(), "PT0S", "PT0S"),
    "negative timedelta": (-dt.timedelta(hours=36), "-P1DT12H", "-P1DT12H"),
    "Timedelta": (pd.Timedelta(3_600_000_000_001, "ns"), "PT1H0.000000001S", "PT1H0.000000001S"),
    "timedelta64": (np.timedelta64(90, "m"), "PT1H30M", "PT1H30M"),
    "timedelta64 of nanoseconds": (np.timedelta64(-1, "ns"), "-PT0.000000001S", "-PT0.000000001S"),
    "timedelta64 of months": (np.timedelta64(14, "M"), "P1Y2M", "P1Y2M"),
    "timedelta64 of weeks": (np.timedelta64(2, "W"), "P14D", "P14D"),
    "interval of Arrow": (pa.MonthDayNano([1, -2, 3_000_000_000]), "P1M-2DT3S", "P1M-2DT3S"),
    "Interval": (pd.Interval(0, 5), "(0, 5]", "(0, 5]"),
    "Interval of dates": (
        pd.Interval(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-01"), closed="left"),
        "[2024-01-01T00:00:00, 2024-02-01T00:00:00)",
        "[2024-01-01T00:00:00, 2024-02-01T00:00:00)",
    ),
    "Period": (pd.Period("2024-05"), "2024-05", "2024-05"),
    "range of a database": (range_of(1, 10), "[1,10)", "[1,10)"),
    "open range": (range_of(None, dt.date(2024, 1, 2), "(]"), "(,2024-01-02]", "(,2024-01-02]"),
    "empty range": (range_of(None, None, empty=True), "empty", "empty"),
    "range of asyncpg": (ranges_of_asyncpg(Decimal("1.50"), None), "[1.50,)", "[1.50,)"),
    "UUID": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
    "Enum": (Colour.RED, "red", "red"),
    "IntEnum": (Level.HIGH, "3", 3),
    "Enum of texts": (Word.ONE, "one", "one"),
    "Enum of Decimals": (Money.PRICE, "1.25", 1.25),
    "address": (ipaddress.ip_address("10.0.0.1"), "10.0.0.1", "10.0.0.1"),
    "network": (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8", "10.0.0.0/8"),
    "path": (Path("a/b"), "a/b", "a/b"),
    "scalar of Arrow": (pa.scalar(5), "5", 5),
}

NESTED: Final[dict[str, tuple[Any, Any]]] = {
    "list": ([1, None, "é"], [1, None, "é"]),
    "tuple": ((1, (2,)), [1, [2]]),
    "named tuple": (Point(1, 2), [1, 2]),
    "set": ({1}, [1]),
    "frozenset": (frozenset({1}), [1]),
    "deque": (deque([1, 2]), [1, 2]),
    "array": (array.array("d", [1.5]), [1.5]),
    "range": (range(2), [0, 1]),
    "array of NumPy": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "floats of 32 bits": (np.array([0.5, np.nan], dtype="float32"), [0.5, None]),
    "dates of NumPy": (np.array(["2024-05-17", "NaT"], dtype="datetime64[ns]"), ["2024-05-17T00:00:00", None]),
    "texts of NumPy": (np.array(["a"]), ["a"]),
    "objects of NumPy": (np.array([Decimal("1.5"), None], dtype=object), [1.5, None]),
    "series of pandas": (pd.Series([1.5, None]), [1.5, None]),
    "series of Polars": (pl.Series([1, None]), [1, None]),
    "frame of pandas": (pd.DataFrame({"a": [1], "b": [pd.NaT]}), [{"a": 1, "b": None}]),
    "frame of Polars": (pl.DataFrame({"a": [1]}), [{"a": 1}]),
    "categories": (pd.Categorical(["a", None]), ["a", None]),
    "array of Arrow": (pa.array([1, None]), [1, None]),
    "dict": ({"a": [True]}, {"a": [True]}),
    "mapping": (MappingProxyType({"a": Decimal("0.5")}), {"a": 0.5}),
    "ordered": (OrderedDict(a=pd.NA), {"a": None}),
    "keys that are no texts": (
        {1: 1, 1.5: 2, None: 3, False: 4, dt.date(2024, 5, 17): 5, (1, 2): 6, Decimal("2.50"): 7},
        {"1": 1, "false": 4, "1.5": 2, "null": 3, "2024-05-17": 5, "[1,2]": 6, "2.50": 7},
    ),
    "dataclass": (Person("a", dt.date(2024, 5, 17)), {"name": "a", "born": "2024-05-17"}),
    "deep": (
        [{"a": [{"b": pd.NaT, "c": np.float32("nan"), "d": b"x"}]}],
        [{"a": [{"b": None, "c": None, "d": "eA=="}]}],
    ),
    "a long integer, deep": ({"a": [2**70]}, {"a": [2**70]}),
}

NO_VALUES: Final[dict[str, Any]] = {
    "method": "x".upper,
    "function": len,
    "lambda": lambda: 1,
    "class": dict,
    "object": object(),
    "module-like": SimpleNamespace(a=object()),
    "list of methods": ["x".upper],
    "dict of objects": {"a": object()},
    "key that is a method": {"x".upper: 1},
}


@pytest.mark.parametrize("value", NULLS.values(), ids=NULLS)
def test_every_null_is_null_everywhere(value: Any) -> None:
    assert is_null(value)
    assert default(value, "d") == "d"
    assert native(value) is None
    assert computable(value) is None
    assert plain(value) is None
    assert tojson(value) == "null"
    assert dumps({"a": [value]}) == b'{"a":[null]}'
    with pytest.raises(NullError):
        text(value)


@pytest.mark.parametrize(("value", "shown", "form"), SCALARS.values(), ids=SCALARS)
def test_every_scalar_has_one_text_and_one_json_form(value: Any, shown: str, form: Any) -> None:
    assert not is_null(value)
    assert default(value, "d") is value
    assert (text(value), type(text(value))) == (shown, str)
    for made in (tojson(value).encode(), dumps(value)):
        assert made == numbers.dumps(form)
    assert numbers.loads(dumps([{"a": value}])) == [{"a": form}]
    for found in (native(value), plain(value), plain([value])[0], plain({"a": (value,)})["a"][0]):
        assert (found, type(found)) == (form, type(form))
    assert text(computable(value)) == shown


@pytest.mark.parametrize(("value", "form"), NESTED.values(), ids=NESTED)
def test_what_holds_values_is_a_list_or_an_object(value: Any, form: Any) -> None:
    assert plain(value) == form
    assert json.loads(dumps(value)) == form
    assert json.loads(text(value)) == form
    assert json.loads(tojson(value)) == form
    assert json.loads(dumps({"a": [native(value)]})) == {"a": [form]}


@pytest.mark.parametrize("value", NO_VALUES.values(), ids=NO_VALUES)
def test_no_text_ever_shows_an_address_in_memory(value: Any) -> None:
    for function in (text, plain, dumps, tojson):
        with pytest.raises(TypeError):
            function(value)


@given(st.dates())
def test_dates_are_written_as_python_does(value: dt.date) -> None:
    assert date_text((value - dt.date(1970, 1, 1)).days) == value.isoformat()


@given(st.integers(-(10**9), 10**9))
def test_and_four_hundred_years_later_the_same_day_comes_again(days: int) -> None:
    year, month_and_day = date_text(days).rsplit("-", 2)[0], date_text(days)[-6:]
    assert date_text(days + 146_097).endswith(month_and_day)
    assert int(date_text(days + 146_097).rsplit("-", 2)[0]) == int(year) + 400
    assert timestamp_text(days * 86_400 + 1, 0, "Z") == f"{date_text(days)}T00:00:01Z"


@given(st.timedeltas(dt.timedelta(days=-(10**8)), dt.timedelta(days=10**8)))
def test_no_duration_loses_anything(value: dt.timedelta) -> None:
    ticks = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
    assert text(value) == text(np.timedelta64(ticks, "us"))
    if abs(value.days) < 100_000:
        assert pd.Timedelta(text(value)) == value


def test_parts_of_a_duration_keep_their_signs() -> None:
    assert duration_text(14, 3, 4_005, 3) == "P1Y2M3DT4.005S"
    assert duration_text(-14, -3, -4_005, 3) == "-P1Y2M3DT4.005S"
    assert duration_text(1, 0, -60, 0) == "P1MT-1M"
    assert duration_text(0, 0, 10, 0) == "PT10S"
