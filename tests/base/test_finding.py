"""Parts are found in what is small and in what is large, whoever looks for them."""

from __future__ import annotations

import ctypes
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.finding import holds, memmem

SIZES = (0, 1 << 15)
"""What stands around a part: nothing, and more than Python looks through by itself."""


@pytest.mark.parametrize("size", SIZES)
@given(st.binary(max_size=30), st.lists(st.text("ab\0é", min_size=1, max_size=4), max_size=3), st.booleans())
def test_a_part_is_found_wherever_it_is_and_nowhere_else(
    size: int, data: bytes, parts: list[str], is_first: bool
) -> None:
    given = data + b"." * size if is_first else b"." * size + data
    assert holds(given, parts) == any(part.encode("latin-1") in given for part in parts)


@pytest.mark.parametrize("size", SIZES)
def test_a_part_at_either_end_is_found_also_behind_a_zero(size: int) -> None:
    for data in (b"ab" + b"\0" * size, b"\0" * size + b"ab"):
        assert holds(data, ["xy", "ab"])
        assert not holds(data, ["xy", "abc"])


def test_where_the_c_library_cannot_look_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: None) -> NoReturn:
        raise OSError(f"there is no library {name}")

    monkeypatch.setattr(ctypes, "PyDLL", absent)
    memmem.cache_clear()
    try:
        assert memmem() is None
        large = b"." * (1 << 15)
        assert holds(large + b"ab", ["ab"])
        assert not holds(large, ["ab"])
    finally:
        memmem.cache_clear()
