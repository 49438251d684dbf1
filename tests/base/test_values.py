"""What a value becomes: text in a text, its own type alone in JSON, and the encoding of both."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import ChainableUndefined, StrictUndefined, UndefinedError
from markupsafe import Markup

from connector.base.decoding import joined, loads
from connector.base.values import (
    Json,
    NullError,
    default,
    dumps,
    in_string,
    is_null,
    json_value,
    native,
    native_list,
    text,
    tojson,
    without_tags,
)

NAN = float("nan")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize("null", [None, NAN, Decimal("NaN"), Decimal("sNaN"), type("float64", (float,), {})("nan")])
def test_null_and_every_nan_count_as_null(null: object) -> None:
    assert is_null(null)
    with pytest.raises(NullError):
        text(null)
    assert default(null, "d") == "d"


@pytest.mark.parametrize("value", [0, 0.0, "", False, [], {}, math.inf, Decimal(0), "NaN", "null"])
def test_nothing_else_does(value: object) -> None:
    assert not is_null(value)
    assert default(value, "d") == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é\0\n", "é\0\n"),
        (7, "7"),
        (10**30, "1000000000000000000000000000000"),
        (0.1, "0.1"),
        (True, "true"),
        (False, "false"),
        ([1, None, "é"], '[1,null,"é"]'),
        ({"a": [True]}, '{"a":[true]}'),
        ((1, 2), "[1,2]"),
        ({1}, "[1]"),
        (range(2), "[0,1]"),
        (iter(["a"]), '["a"]'),
        ({"a": 1}.keys(), '["a"]'),
        (Decimal("1.50"), "1.50"),
        (date(2024, 5, 17), "2024-05-17"),
        (datetime(2024, 5, 17, 1, 2, 3, tzinfo=UTC), "2024-05-17T01:02:03Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Markup("<b>"), "<b>"),
        (Json("[1]"), "[1]"),
    ],
)
def test_the_text_of_a_value_is_what_a_person_would_write(value: object, expected: str) -> None:
    assert text(value) == expected
    assert type(text(value)) is str


@pytest.mark.parametrize("function", [text, native])
@pytest.mark.parametrize(
    ("value", "match"), [("x".upper, r"put \(\)"), (len, r"put \(\)"), (object(), "object is neither")]
)
def test_what_has_no_text_is_refused_with_what_to_do(function: Any, value: object, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        function(value)


def test_a_missing_value_is_an_error_or_null() -> None:
    for function in (text, native):
        with pytest.raises(UndefinedError):
            function(StrictUndefined(name="x"))
    assert native(ChainableUndefined(name="x")) is None
    assert native([1, 2]) == [1, 2]
    with pytest.raises(NullError):
        text(ChainableUndefined(name="x"))
    assert default(StrictUndefined(name="x"), "d") == "d"
    assert default("", "d", boolean=True) == "d"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (True, True),
        (None, None),
        (NAN, None),
        (math.inf, None),
        (-math.inf, None),
        (1.5, 1.5),
        ((1, NAN), [1, None]),
        (range(2), [0, 1]),
        (({"a": 1}).items(), [["a", 1]]),
        (iter([1, (2,)]), [1, [2]]),
    ],
)
def test_alone_in_json_a_value_keeps_its_type(value: object, expected: object) -> None:
    found = native(value)
    assert found == expected
    assert type(found) is type(expected)


def test_lists_and_objects_alone_are_passed_on_as_they_are() -> None:
    """Walking them would cost more than encoding them."""
    rows = [{"a": [1]}]
    assert native(rows) is rows
    assert native_list([rows])[0] is rows


@given(JSON)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert json.loads(dumps(value)) == value
    assert loads(dumps(value)) == value
    assert loads(tojson(value)) == value
    assert loads(json_value(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": NAN}, b'{"a":null}'),
        (Decimal("12.50"), b"12.50"),
        (Decimal("3.00"), b"3.00"),
        ([2**64, -(2**70)], b"[18446744073709551616,-1180591620717411303424]"),
        (Decimal("NaN"), b"null"),
        ({1: {2}}, b'{"1":[2]}'),
        (date(2024, 5, 17), b'"2024-05-17"'),
        (datetime(2024, 5, 17, tzinfo=UTC), b'"2024-05-17T00:00:00Z"'),
        ([ChainableUndefined()], b"[null]"),
        (Markup("é"), '"é"'.encode()),
    ],
)
def test_what_tables_hold_besides_is_encoded_as_what_it_means(value: object, expected: bytes) -> None:
    assert dumps(value) == expected


@pytest.mark.parametrize(
    "value", ["\ud83d", {"\ud83d": 1}, [object()], ["x".upper], {"a": {1: len}}, [StrictUndefined()]]
)
def test_what_is_not_json_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        dumps(value)


def test_scalars_of_data_frames_are_numbers() -> None:
    class Scalar:
        def item(self) -> int:
            return 7

    assert dumps([Scalar()]) == b"[7]"


@given(st.text())
def test_in_a_json_string_a_text_stays_itself(value: str) -> None:
    assert loads(f'{{"a": "{in_string(value)}", "b": 1}}') == {"a": value, "b": 1}


def test_tojson_stands_for_itself_outside_of_strings_and_is_text_in_them() -> None:
    assert json_value(tojson({"a": "</s>"})) == '{"a":"</s>"}'
    assert in_string(tojson({"a": 1})) == '{\\"a\\":1}'
    assert tojson({"a": 1}, indent=2) == '{\n  "a": 1\n}'
    assert tojson(NAN) == "null"
    assert json_value("a") == '"a"'
    assert json_value((1, NAN)) == "[1,null]"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"[" * 100_000,
        b"[" * 101 + b"]" * 101,
        '{"a": [' * 51 + "]}" * 51,
        b"'a'",
        b"\xff",
        b"{} {}",
        "\ufeff{}",
    ],
)
def test_what_is_not_json_is_a_value_error(data: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data)


@pytest.mark.parametrize(
    "data", ["[" * 100 + "]" * 100, "[{}, []]" + " " * 9, dumps([{"a": [1]}] * 200), dumps("[" * 200)]
)
def test_json_of_a_hundred_levels_or_of_many_brackets_is_json(data: str | bytes) -> None:
    assert loads(data) == json.loads(data)


def test_half_of_a_character_is_let_through() -> None:
    assert loads(b'{"a": "x\\ud83d"}') == {"a": "x\ud83d"}
    assert loads('["\\ude00", 1.5]') == ["\ude00", 1.5]


@given(st.lists(st.text()))
def test_joining_whole_texts_changes_nothing(parts: list[str]) -> None:
    assert joined(parts) == "".join(parts)


@given(st.text(), st.text())
def test_a_character_cut_in_two_is_whole_again(before: str, after: str) -> None:
    assert joined([before + "\ud83d", "\ude42" + after]) == f"{before}🙂{after}"


@given(st.lists(st.text() | st.just("\ud83d")))
def test_a_half_without_its_other_half_is_replaced_and_nothing_else(parts: list[str]) -> None:
    assert joined(parts) == "".join(parts).replace("\ud83d", "\ufffd")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a <b class='x'>c</b>\n d", "a c d"),
        ("a<!-- <b> -->b", "ab"),
        ("1 < 2 &amp;&lt; 3", "1 < 2 &< 3"),
        ("<<b>>", "<>"),
        ("a<!-- never closed", "a"),
        ("a > b", "a > b"),
        ("", ""),
    ],
)
def test_tags_comments_and_entities_are_taken_out(source: str, expected: str) -> None:
    assert without_tags(source) == expected


@pytest.mark.parametrize("part", ["<", "<!--", "<a", "<!-", "-->", "<a>", "&", "&lt"])
def test_taking_out_tags_takes_no_longer_than_reading(part: str) -> None:
    without_tags(part * (2_000_000 // len(part)))


@pytest.fixture
def endless() -> Iterator[Any]:
    value: list[Any] = []
    value.append(value)
    yield value
    value.clear()


def test_a_list_within_itself_is_not_json(endless: list[Any]) -> None:
    with pytest.raises(TypeError):
        dumps(endless)
