"""An array of JSON is taken apart as a parser would, wherever its bytes are cut."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Record
from connector.stores import load
from connector.stores.staging import json_array

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab\\"[]{},: é🦊\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\]', max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Slow(io.BytesIO):
    """A file that gives a few bytes at a time, however many are asked for."""

    def read(self, _size: int | None = -1) -> bytes:
        return super().read(3)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]), st.sampled_from(["", "\ufeff", " \n"]))
def test_its_items_are_those_that_a_parser_finds(values: list[object], indent: int | None, before: str) -> None:
    text = before + json.dumps(values, indent=indent, ensure_ascii=False) + " \n"
    for stream in (io.BytesIO(text.encode()), Slow(text.encode())):
        assert list(map(json.loads, json_array.items(stream))) == values


@given(st.text('[]{},"\\a ', max_size=12))
def test_whatever_else_is_an_error_or_items_that_are_broken_themselves(text: str) -> None:
    with_bracket = f"[{text}"
    try:
        expected = json.loads(with_bracket)
    except ValueError:
        expected = None
    try:
        found = list(json_array.items(io.BytesIO(with_bracket.encode())))
        assert expected is None or list(map(json.loads, found)) == expected
    except ValueError:
        assert expected is None


def test_a_long_text_is_read_in_linear_time() -> None:
    class Counting(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    stream = Counting(b'[{"a": "' + b"x" * (1 << 23) + b'"}]')
    (_,) = json_array.items(stream)
    assert stream.reads < 20


def test_an_item_that_is_too_long_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "LONGEST", 1 << 17)
    endless = io.BytesIO(b'[{"a": 1}, "' + b"x" * (1 << 20))
    with pytest.raises(ValueError, match="item 2 has more than"):
        list(json_array.items(endless))
    assert endless.tell() < 1 << 19


@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
def test_half_of_a_character_in_an_item_is_that_row_s_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('[{"a": "good"}, {"a": "half \\ud83d"}, {"a": "good too"}]')
    store = load("files")
    with store.source(store.Options(path=str(tmp_path / name))) as source:
        records = [each for each in source.read() if isinstance(each, Record)]
    assert [each.data["a"] for each in records] == ["good", "half \ufffd", "good too"]
    assert [not each.problem for each in records] == [True, False, True]
    assert "item 2: a text holds half of a character" in str(records[1].problem)
