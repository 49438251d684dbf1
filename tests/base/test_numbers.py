"""Numbers of JSON: read and written again, each has the digits that it had."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.numbers import Number, Truth
from connector.base.values import text

LITERALS = st.one_of(
    st.integers(-(10**80), 10**80).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})\.[0-9]{1,40}", fullmatch=True),
    st.from_regex(r"-?[1-9](\.[0-9]{1,5})?[eE][+-]?[0-9]{1,3}", fullmatch=True),
)


def as_decimals(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    LITERALS, st.sampled_from(["{}", "[1, {}]", '{{"a": {{"b": [{}, "x"]}}}}', '{{"t": "é\\ud83d\\ude00", "n":{}}}'])
)
def test_a_number_has_the_same_value_after_reading_and_writing(literal: str, around: str) -> None:
    given_text = around.format(literal)
    value = numbers.loads(given_text)
    written = numbers.dumps(value)
    assert as_decimals(written) == as_decimals(given_text)
    assert numbers.loads(written) == value


@pytest.mark.parametrize(
    "value",
    [
        *("25227143063332189585438", "0.12345678901234567890123", "1e-400", "9" * 400, "9" * 5_000, "1e400"),
        *(
            "-1e400",
            "9007199254740993e0",
            "-9999999999999999E-3",
            "1.10",
            "-0.00",
            "1.0e5000",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ),
    ],
)
def test_a_number_that_nothing_else_holds_has_its_own_text(value: str) -> None:
    number = numbers.loads(value.encode())
    assert text(number) == value
    assert pickle.loads(pickle.dumps(number)) == copy.deepcopy(number) == number
    assert str(pickle.loads(pickle.dumps(number))) == value


@pytest.mark.parametrize("value", ["1.5", "0.1", "1e5", "123456789.25", "0.30000000000000004", "1.0", "-0.0", "2.5e-7"])
def test_a_number_that_a_double_holds_is_one(value: str) -> None:
    assert type(numbers.loads(value)) is float


@pytest.mark.parametrize("value", ['{"a": NaN}', "-Infinity", "[1e400, NaN]", r'[1e400, "\ud800"]', "{", ""])
def test_what_is_not_json_is_not_read(value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        numbers.loads(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Number("1.50"), b"1.50"),
        (Truth("TRUE"), b"true"),
        ({"a": [2**70, Number("1.10")]}, b'{"a":[1180591620717411303424,1.10]}'),
        (Decimal("12345678901234567890.1234567890"), b"12345678901234567890.1234567890"),
        (Decimal(2**70), b"1180591620717411303424"),
        (Decimal("NaN"), b"null"),
    ],
)
def test_what_python_has_no_number_for_is_written_with_its_digits(value: Any, written: bytes) -> None:
    assert numbers.dumps(value, numbers.of_decimal) == written


def test_doubles_are_read_at_once_however_many_digits_they_have() -> None:
    value = [0.1 + place / 7 for place in range(100)]
    text = json.dumps(value).encode()
    assert numbers.may_be_long(text)
    assert numbers.is_kept(text, value)
    assert not numbers.is_kept(b"[1.10]", [1.1])


def test_a_decimal_with_a_great_exponent_is_written_with_it() -> None:
    assert numbers.dumps(Decimal("1e999999999"), numbers.of_decimal) == b"1E+999999999"


def test_a_number_counts_as_the_double_nearest_to_it() -> None:
    assert Number("1.50") * 2 == 3
    assert Number("1.50") == 1.5
    assert f"{Number('1.505'):.2f}" == f"{1.505:.2f}"
    assert (bool(Truth("TRUE")), bool(Truth("False")), str(Truth("False"))) == (True, False, "False")


def test_what_is_not_json_is_refused() -> None:
    for value in (object(), {"a": {1, 2}}, [2**70, object()]):
        with pytest.raises(TypeError):
            numbers.dumps(value)
    assert orjson.dumps([1]) == numbers.dumps([1])
