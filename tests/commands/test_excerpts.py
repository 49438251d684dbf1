"""What is long and tells a person nothing is told in a few words; what is shown takes at most a screen."""

from __future__ import annotations

import base64
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.commands._excerpts import common, excerpt, screen

PICTURE = base64.b64encode(Random(1).randbytes(1_900_000)).decode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"data:image/png;base64,{PICTURE}", "[image/png, 1.9 MB]"),
        (f"data:;base64,{PICTURE}", "[data, 1.9 MB]"),
        (f"data:text/plain;charset=utf-8;base64,{PICTURE}", "[text/plain, 1.9 MB]"),
        (PICTURE, "[base64, 1.9 MB]"),
        ([0.5] * 1536, [0.5, 0.5, 0.5, "… 1,533 more numbers"]),
        ([0.5] * 12, [0.5] * 12),
        ("word " * 1_000, "word " * 200 + "… (4,000 more characters)"),
        ("data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="),
        ({"a": [{"b": PICTURE}]}, {"a": [{"b": "[base64, 1.9 MB]"}]}),
    ],
)
def test_files_and_long_texts_are_told_in_a_few_words(value: object, shown: object) -> None:
    assert excerpt(value) == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=9,
)


@given(VALUES)
def test_what_is_short_is_shown_as_it_is(value: object) -> None:
    assert excerpt(value) == value
    assert json.loads(screen(value, whole=True)) == value


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=4))
def test_what_all_share_is_in_each_of_them(values: list[dict[str, object]]) -> None:
    shared = common(values)
    assert all(each[name] == shared[name] for each in values for name in shared)
    assert not shared or len(values) > 1


def test_a_screen_is_all_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "20")
    lines = screen(dict.fromkeys(map(str, range(100)), 1), whole=False).splitlines()
    assert len(lines) == 19
    assert lines[-1] == "… 84 more lines: --full shows them"
    assert len(screen(dict.fromkeys(map(str, range(100)), 1), whole=True).splitlines()) == 102
