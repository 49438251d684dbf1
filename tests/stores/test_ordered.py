"""Lines come in any order and are in theirs in the file, however many wait, and where."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.stores.staging import ordered
from connector.stores.staging.ordered import Ordered


@given(
    st.permutations(range(40)),
    st.sets(st.integers(0, 39)),
    st.sets(st.integers(0, 39)),
    st.sampled_from([0, 1, 30, 200, 10_000]),
    st.sampled_from([b"", b"-\n"]),
)
def test_the_file_has_them_in_order(
    order: list[int], left_out: set[int], lost: set[int], room: int, gap: bytes
) -> None:
    """`left_out` have no line, `lost` never come; whatever has `room` waits in memory, the rest in another file."""
    came = [index for index in order if index not in lost]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "_WAITING", room)
        lines = Ordered(Path(folder) / "lines", gap)
        for index in came:
            if index in left_out:
                lines.leave_out(index)
            else:
                lines.put(index, b"%d %b\n" % (index, b"x" * index))
        assert len(lines) == max(came, default=-1) + 1
        expected = b"".join(
            gap if index in left_out | lost else b"%d %b\n" % (index, b"x" * index) for index in range(len(lines))
        )
        assert lines.finish().read_bytes() == expected
        lines.close()


def test_what_comes_in_order_is_written_at_once_and_more_may_come_after_the_end(tmp_path: Path) -> None:
    lines = Ordered(tmp_path / "lines")
    lines.put(0, b"a\n")
    assert lines.finish().read_bytes() == b"a\n"
    lines.put(1, b"b\n")
    assert lines.finish().read_bytes() == b"a\nb\n"
    lines.close()


def test_a_slow_line_holds_no_memory_and_leaves_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "_WAITING", 1_000)
    lines = Ordered(tmp_path / "lines")
    for index in range(1, 5_000):
        lines.put(index, b"%d\n" % index)
    assert (tmp_path / "lines.aside").stat().st_size + ordered.BUFFER > 20_000
    lines.put(0, b"0\n")
    assert lines.finish().read_bytes() == b"".join(b"%d\n" % index for index in range(5_000))
    for index in range(5_000, 5_010):
        lines.put(index, b"x\n")
    assert lines.finish().read_bytes().endswith(b"x\n" * 10)
    lines.close()
