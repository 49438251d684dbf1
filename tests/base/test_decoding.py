"""Decoding of JSON from outside."""

from __future__ import annotations

import json
import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.decoding import Allowance, DepthError, is_too_deep, loads, occurrences
from connector.base.errors import ReplyError


@pytest.mark.parametrize("within", ["[[[[[", '"[', "\\", '\\"{'])
def test_brackets_within_texts_are_no_levels(within: str) -> None:
    value = {"texts": [within * 100] * 200, "half": "\ud83d"}
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize("levels", [101, 1_000, 100_000])
@pytest.mark.parametrize("end", ["", ', "\\ud83d"', ", NaN", ", x"])
def test_a_hundred_levels_are_the_most_whatever_else_is_wrong(levels: int, end: str) -> None:
    with pytest.raises(DepthError):
        loads("[" * levels + '"a"' + end + "]" * levels)


def levels_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels_of, inner), default=0)


@given(
    st.integers(90, 105),
    st.integers(0, 105),
    st.recursive(
        st.none() | st.text("[{a"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("[{a"), inner, max_size=3),
    ),
    st.lists(st.sampled_from(["x", {"a": [1.5] * 9}, [], [[], {}]]), max_size=120),
)
def test_whatever_lies_beside_it_the_deepest_level_counts(
    levels: int, place: int, core: object, beside: list[object]
) -> None:
    value = core
    for level in range(levels):
        around = beside if level == place else []
        value = {"a": 1, "b": value, "c": around} if level % 3 else [*around, value]
    data = orjson.dumps(value)
    assert is_too_deep(value, data) == is_too_deep(value, data.decode()) == (levels_of(value) > 100)


@pytest.mark.parametrize(
    "value",
    [
        "[" + ",".join(["{}"] * 20_000) + "]",
        "[" + ",".join(["[]"] * 20_000) + "]",
        "[" + ",".join(map(str, range(300, 20_000))) + "]",
        "[" + ",".join(f'"{number:x}y"' for number in range(20_000)) + "]",
        "{" + ",".join(f'"{number:x}":{number}' for number in range(20_000)) + "}",
        "[" + ",".join(f'{{"a{number:x}":{{}}}}' for number in range(20_000)) + "]",
        "[" + ",".join('{"a":"bcd","c":[1.5]}' for _ in range(10_000)) + "]",
        '"' + "a" * 99_999 + '\\ud83d\\ude00"',
        '"' + "a" * 99_999 + '\U0001f600"',
    ],
    ids=lambda value: value[:12],
)
def test_what_a_reply_is_counted_as_is_about_what_it_takes(value: str) -> None:
    data = value.encode()
    allowance = Allowance(10**9)
    allowance.take(data)
    tracemalloc.start()
    try:
        decoded = orjson.loads(data)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded
    assert 0.6 * taken < allowance.taken < 4 * taken


def test_one_wide_character_counts_for_all_of_the_text_that_its_piece_is_joined_to() -> None:
    pieces, event = [b"x" * 1_000, "🦊".encode(), b"x" * 1_000], {"choices": [{"delta": {"content": "x" * 990}}]}
    plain, wide, whole = Allowance(1_000), Allowance(1_000), Allowance(1_000)
    for piece in pieces:
        wide.count(piece)
    plain.count(b"x" * 2_004)
    whole.count(b"".join(pieces))
    assert wide.taken == whole.taken == 4 * plain.taken
    for _ in range(3):
        plain.keep(event)
    with pytest.raises(ReplyError, match="too many values"):
        wide.keep(event)


@given(st.lists(st.sampled_from([b"{", b"a" * 700, b"{" * 9]), max_size=40).map(b"".join))
def test_signs_are_counted_whether_there_are_few_or_many(data: bytes) -> None:
    assert occurrences(data, b"{") == data.count(b"{")
