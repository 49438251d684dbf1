"""What is shown takes at most a screen, and what several values share is told once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.commands._screen import common, screen
from tests.base.test_excerpts import VALUES


@given(VALUES)
def test_a_whole_value_is_shown_as_it_is(value: object) -> None:
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
