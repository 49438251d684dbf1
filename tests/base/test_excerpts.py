"""What is long and tells a person nothing is told in a few words."""

from __future__ import annotations

import base64
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.excerpts import excerpt, without_files

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
def test_files_and_long_texts_are_described_in_a_few_words(value: object, shown: object) -> None:
    assert excerpt(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            ["word " * 1_000, {"url": f"data:image/png;base64,{PICTURE}"}],
            ["word " * 1_000, {"url": "[image/png, 1.9 MB]"}],
        ),
        (b"GIF89a", "[6 bytes]"),
        (None, None),
    ],
)
def test_texts_without_files_are_whole(value: object, shown: object) -> None:
    assert without_files(value) == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=9,
)


@given(VALUES)
def test_what_is_short_is_shown_as_it_is(value: object) -> None:
    assert excerpt(value) == without_files(value) == value
