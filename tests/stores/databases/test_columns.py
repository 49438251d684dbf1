"""Rows that wait are read as columns, and looked at, written and escaped by the column: as each would be by itself."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.numbers import Number
from connector.stores.databases.loading import kinds
from connector.stores.databases.loading.base import escaped, literals
from connector.stores.databases.loading.block import Block
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.waiting import Waiting
from connector.stores.staging.spool import Spool, encode

TEXTS: Final = st.text(max_size=4) | st.sampled_from(["\0", "\x1f", "\\", "a\tb", "a\nb", "\r", "null", "é"])
CELLS: Final = st.one_of(
    st.none(),
    TEXTS,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.lists(st.floats() | st.none(), max_size=2),
    st.dictionaries(TEXTS, st.integers(), max_size=2),
    st.sampled_from([Number("1.10"), b"\0", "\ud800"]),
)
ROWS: Final = st.lists(st.dictionaries(st.sampled_from(["id", "a", "b", "\0", ""]), CELLS, max_size=4), max_size=20)
MOMENTS: Final = st.sampled_from(
    [
        *("2024-02-29", "2023-02-29", "0000-01-01", "2024-01-01\n2024-01-01", "٢٠٢٤-01-01", "20240101", ""),
        *("10:00:00", "24:00:00", "10:00", "10:00:00.5Z", "10:00:00+24:00", "10:00:60"),
        *("2024-02-29T10:00:00", "2024-02-29 24:00:00", "2024-02-29T10:24:00Z", "2024-02-29T10:00:00.1234567"),
    ]
)


@given(ROWS, st.lists(st.booleans(), min_size=20, max_size=20))
def test_rows_that_wait_are_read_and_learnt_as_each_would_be_by_itself(
    rows: list[dict[str, Any]], are_left_out: list[bool]
) -> None:
    learnt: list[Block] = []
    kept = [row for row, is_left_out in zip(rows, are_left_out, strict=False) if not is_left_out]
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "rows") as spool:
        waiting = Waiting(spool, learnt.append)
        for index, (row, is_left_out) in enumerate(zip(rows, are_left_out, strict=False)):
            waiting.write(index, None if is_left_out else dict(row))
        waiting.finish()
        read = list(waiting.blocks())
    wanted = [_filled(numbers.loads(encode(row)[0])) for row in kept]
    assert _rows(read) == wanted
    assert sorted(map(repr, _rows(learnt))) == sorted(map(repr, wanted))
    assert sum(block.filled for block in read) == sum(map(len, kept))
    assert all(block.may_have_nul for block in read if "\\u0000" in repr(_rows([block])))


def _rows(blocks: list[Block]) -> list[dict[str, Any]]:
    return [_filled(block.row(index)) for block in blocks for index in range(block.size)]


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    """A row in one form: without nulls, its names in order, and its values as JSON."""
    return {name: numbers.dumps(row[name]) for name in sorted(row) if row[name] is not None}


@given(st.sampled_from(kinds.MOMENTS), st.lists(MOMENTS | st.none()))
def test_a_column_fits_a_kind_of_times_if_each_of_its_values_does(name: str, values: list[str | None]) -> None:
    convert = kinds.converter(Kind(name))

    def fits(value: str | None) -> bool:
        try:
            return value is None or convert(value) == value
        except ValueError:
            return False

    assert kinds.fits(Kind(name), values) == all(map(fits, values))


@given(
    st.sampled_from(
        [
            *map(Kind, kinds.MOMENTS),
            kinds.TEXT,
            kinds.DOUBLE,
            kinds.FLOAT,
            kinds.BOOLEAN,
            kinds.INTEGER,
            Kind("integer", 8),
        ]
    ),
    st.lists(st.one_of(st.none(), MOMENTS, CELLS)) | st.lists(MOMENTS) | st.lists(st.sampled_from([0, 127, 128, -129])),
)
def test_a_column_that_is_ready_holds_what_each_of_its_values_would_be_converted_to(
    kind: Kind, values: list[Any]
) -> None:
    if kinds.are_ready(kind, values):
        convert = kinds.converter(kind)
        for value in values:
            assert value is None or (type(convert(value)), repr(convert(value))) == (type(value), repr(value))


@given(st.lists(TEXTS | st.none(), min_size=1))
@example(["\x1f", "\\", None])
def test_a_column_is_escaped_as_each_of_its_texts_is(values: list[str | None]) -> None:
    escapes = {"\\": "\\\\", "\t": "\\t", "\0": "\\0", "'": "\\'"}
    table = str.maketrans(escapes)
    wanted = ["NULL" if value is None else f"'{value.translate(table)}'" for value in values]
    assert list(escaped(values, escapes, "NULL", "'")) == wanted


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), min_size=1))
def test_numbers_are_written_with_all_of_their_digits(values: list[float | None]) -> None:
    found = [None if text == "NULL" else float(text) for text in literals(values, "NULL")]
    assert found == values
    assert [value and math.copysign(1, value) for value in found] == [
        value and math.copysign(1, value) for value in values
    ]
