"""Vectors on their way into Parquet: pyarrow writes the same table as DuckDB, where it is installed."""

from __future__ import annotations

import json
import random
import tempfile
from array import array
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from connector import stores
from connector.base.errors import ConfigError
from connector.base.records import Record, Schema
from connector.base.vectors import is_vector, single
from connector.stores import files
from connector.stores.columnar import writer
from connector.stores.columnar.vectors import together
from tests.stores.helpers import opened

VECTOR: Final[Schema] = {"type": ["array", "null"], "items": {"type": "number", "format": "float"}}
ADDED: Final[dict[str, Schema]] = {
    "before": {"type": ["string", "null"]},
    "vector": VECTOR,
    "mixed": {},
    "other": VECTOR,
    "_llm": {"type": "object", "properties": {"status": {"type": "string"}, "tokens": {"type": ["integer", "null"]}}},
}
SINGLES: Final = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5)
VECTORS: Final = st.none() | SINGLES | SINGLES.map(lambda numbers: array("f", numbers))
ROWS: Final = st.lists(
    st.none()
    | st.fixed_dictionaries(
        {
            "before": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3),
            "vector": VECTORS,
            "mixed": st.none() | st.integers(0, 9) | st.just("text") | st.just([1]),
            "other": VECTORS,
            "_llm": st.fixed_dictionaries({"status": st.just("success"), "tokens": st.none() | st.integers(0, 9)}),
        }
    ),
    max_size=20,
)


def written(directory: Path, rows: list[dict[str, Any] | None], seed: int, *, is_snapshot: bool) -> pa.Table:
    """The Parquet file of rows, `None` for one that is left out, which came in a random order."""
    given = directory / ("in.csv" if is_snapshot else "in.jsonl")
    inputs = [{"id": number, "text": f"row {number}"} for number in range(len(rows))]
    lines = [f"{row['id']},{row['text']}" for row in inputs] if is_snapshot else list(map(json.dumps, inputs))
    given.write_text("\n".join(["id,text", *lines] if is_snapshot else lines), encoding="utf-8")
    path = directory / "out.parquet"
    with (
        opened(given) as source,
        stores.load("files").sink(files.Options(path=str(path)), ADDED, source=source) as sink,
    ):
        records = [item for item in source.read() if isinstance(item, Record)]
        pairs = list(zip(records, rows, strict=True))
        random.Random(seed).shuffle(pairs)
        for record, row in pairs:
            sink.write(record, row)
        sink.commit()
    return parquet.read_table(path)


@given(rows=ROWS, seed=st.integers(0, 9), is_snapshot=st.booleans())
def test_a_table_with_vectors_is_the_same_with_pyarrow_and_without(
    rows: list[dict[str, Any] | None], seed: int, *, is_snapshot: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        swift = written(Path(directory), rows, seed, is_snapshot=is_snapshot)
        patch.setattr(writer, "find_spec", lambda _: None)
        plain = written(Path(directory), rows, seed, is_snapshot=is_snapshot)
    assert swift.to_pylist() == plain.to_pylist()
    assert [(field.name, field.type) for field in swift.schema] == [(field.name, field.type) for field in plain.schema]


def test_row_groups_and_batches_keep_the_order_of_many_rows(tmp_path: Path) -> None:
    numbers = range(3_000)
    rows: list[dict[str, Any] | None] = [
        {"vector": array("f", [number] * 2), "before": str(number)} if number % 7 else None for number in numbers
    ]
    table = written(tmp_path, rows, 1, is_snapshot=True)
    assert table["vector"].to_pylist() == [[number] * 2 for number in numbers if number % 7]
    assert table["id"].to_pylist() == [number for number in numbers if number % 7]


def groups_of(directory: Path, rows: list[dict[str, Any] | None]) -> list[int]:
    """The rows of each row group of the Parquet file of rows."""
    written(directory, rows, 1, is_snapshot=True)
    metadata = parquet.read_metadata(directory / "out.parquet")
    return [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]


def test_a_row_group_holds_many_batches_of_rows(tmp_path: Path) -> None:
    assert groups_of(tmp_path, [{"vector": array("f", [0.5]), "before": "a"}] * 3_000) == [3_000]
    assert groups_of(tmp_path, [{"vector": array("f", [0.5] * 1_536), "before": "a"}] * 3_072) == [1_536, 1_536]


@given(lengths=st.lists(st.integers(0, 3)), data=st.data())
def test_vectors_are_read_in_order_and_at_once_where_they_were_written_in_it(
    lengths: list[int], data: st.DataObject
) -> None:
    starts = accumulate(lengths, initial=0)
    written_at = [*zip(starts, lengths, strict=False), (-1, 0), (-1, 0)]  # of the last two rows, the vector is null
    places = data.draw(st.permutations(written_at) | st.just(written_at))
    read = list(together(places))
    numbers = [number for start, length in read for number in range(start, start + length)]
    assert numbers == [number for start, length in places for number in range(start, start + length)]
    assert all(end != start for end, (start, _) in zip([sum(each) for each in read], read[1:], strict=False))


@pytest.mark.parametrize("rows", [[], [None, None]])
def test_a_table_without_rows_has_no_row_groups(tmp_path: Path, rows: list[None]) -> None:
    assert groups_of(tmp_path, [*rows]) == []


def test_what_is_not_a_vector_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"vector" holds vectors, and row 2 has another value'):
        written(tmp_path, [{"vector": [0.5]}, {"vector": "none"}], 0, is_snapshot=False)


def test_a_whole_number_beyond_every_float_is_infinite() -> None:
    assert list(single([10**400, -(10**400), 1])) == [float("inf"), float("-inf"), 1.0]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (VECTOR, True),
        ({"type": "array", "items": {"type": "number", "format": "float"}}, True),
        ({"type": "array", "items": {"type": ["number", "null"], "format": "float"}}, False),
        ({"type": "array", "items": {"type": "number"}}, False),
        ({"type": "array"}, False),
        ({"type": "string"}, False),
        ({}, False),
    ],
)
def test_vectors_are_lists_of_numbers_in_single_precision_and_nothing_else(schema: Schema, *, told: bool) -> None:
    assert is_vector(schema) is told
