"""Decoding of JSON from outside."""

from __future__ import annotations

import json

import pytest

from connector.base.decoding import DepthError, loads


@pytest.mark.parametrize("within", ["[[[[[", '"[', "\\", '\\"{'])
def test_brackets_within_texts_are_no_levels(within: str) -> None:
    value = {"texts": [within * 100] * 200, "half": "\ud83d"}
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize("levels", [101, 1_000, 100_000])
@pytest.mark.parametrize("end", ["", ', "\\ud83d"', ", NaN", ", x"])
def test_a_hundred_levels_are_the_most_whatever_else_is_wrong(levels: int, end: str) -> None:
    with pytest.raises(DepthError):
        loads("[" * levels + '"a"' + end + "]" * levels)
