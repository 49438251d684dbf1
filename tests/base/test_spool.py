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

KEYS = st.sampled_from([b"a", b"b", b"c"])
LARGE = 150_000  # bytes: two of them are written to disk


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), KEYS, st.integers(0, 3), st.sampled_from([b"", b"x" * 9, b"y" * LARGE])),
            st.tuples(st.just("forget"), KEYS),
        ),
        max_size=12,
    )
)
def test_it_holds_what_was_put_and_not_forgotten(
    actions: list[tuple[Any, ...]],
) -> None:
    spool, held = Spool(), defaultdict[bytes, list[tuple[int, bytes]]](list)
    for action in actions:
        key = action[1]
        if action[0] == "put":
            spool.put(*action[1:])
            held[key].append(action[2:])
        else:
            spool.forget(key)
            held.pop(key, None)
        for each in (b"a", b"b", b"c"):
            assert spool.get(each) == held.get(each, [])
            assert (each in spool) == bool(held.get(each))
    for number in range(4):
        found = {key for key, values in held.items() if any(each == number for each, _ in values)}
        assert set(spool.keys(number)) == found
    spool.close()


def test_its_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spool = Spool()
    for number in range(20):
        spool.put(b"key", number, b"x" * LARGE)
    assert not list(tmp_path.iterdir())
    assert len(spool.get(b"key")) == 20
    spool.close()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 8")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    spool = Spool()
    with pytest.raises(StorageError, match="make room there, or set TMPDIR"):
        spool.put(b"b", 0, b"x" * 2 * LARGE)
    spool.close()
