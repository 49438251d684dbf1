"""Values by key on disk: they come back as they were put, wherever they lie by then."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import StorageError
from connector.base.spool import Spool

NAMES = [b"a" * 16, b"a" * 8 + b"b" * 8, b"c" * 24]  # the first two are alike in the index
KEYS = st.sampled_from(NAMES)
LARGE = 150_000  # bytes: two of them are written to disk


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), KEYS, st.integers(0, 3), st.sampled_from([0, 9, LARGE])),
            st.tuples(st.just("take"), KEYS, st.integers(0, 3), st.just(0)),
        ),
        max_size=12,
    )
)
def test_it_holds_what_was_put_and_not_taken(actions: list[tuple[str, bytes, int, int]]) -> None:
    spool, held = Spool(), defaultdict[bytes, list[tuple[int, bytes]]](list)
    for action, key, number, size in actions:
        if action == "put":
            spool.put(key, number, b"x" * size)
            held[key].append((number, b"x" * size))
        elif held[key] and held[key][0][0] == number:
            assert spool.take(key, number) == held.pop(key)
        else:
            assert spool.take(key, number) == []
        for each in NAMES:
            assert spool.get(each) == held.get(each, [])
        assert spool.having(NAMES) == {each for each in NAMES if held.get(each)}
    for number in range(4):
        found = {key for key, values in held.items() if any(each == number for each, _ in values)}
        assert set(spool.keys(number)) == found
    spool.close()


def test_its_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spool = Spool()
    for number in range(20):
        spool.put(b"k" * 16, number, b"x" * LARGE)
    assert not list(tmp_path.iterdir())
    assert len(spool.get(b"k" * 16)) == 20
    spool.close()


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    spool = Spool()
    with pytest.raises(StorageError, match="make room there, or set TMPDIR"):
        spool.put(b"b" * 16, 0, b"x" * 2 * LARGE)
    spool.close()
