"""Tables of any values come through every way in and every format out, cell by cell, as another reader sees them."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.records import Record
from connector.base.values import dumps
from connector.tables import open_table
from tests.stores.helpers import enrich, opened, rows_of

TEXTS: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["007", "1.10", "-0", "1e5", "true", "null", "NaN", "2024-01-01", " x ", '"', ",", "a\nb", "a\r\nb", "", "'", "=1"]
)
DIGITS: Final = st.one_of(
    st.integers(-9, 9).map(str),
    st.integers(-(2**63), 2**64).map(str),
    st.integers(-(10**40), 10**40).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,25}", fullmatch=True),
    st.sampled_from(["1.10", "1e400", "-1e400", "1e-400", "0.10000000000000000555", "9007199254740993", "1.0", "-0.0"]),
)


class Number(str):
    """A number by its digits, as it stands in JSON."""

    __slots__ = ()


SCALARS: Final = st.none() | st.booleans() | TEXTS | DIGITS.map(Number)
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3).filter(
            lambda value: len({key.casefold() for key in value}) == len(value)
        )
    ),
    max_leaves=5,
)
KINDS: Final = (TEXTS, DIGITS.map(Number), st.booleans(), st.integers(-5, 5).map(Number))
OF_ONE_KIND: Final = st.sampled_from(KINDS)


@st.composite
def tables(draw: st.DrawFn, values: Any = VALUES) -> list[dict[str, Any]]:
    """Rows with columns of one kind each, or of any mixture."""
    columns = {f"c{place}": draw(OF_ONE_KIND | st.just(values)) for place in range(draw(st.integers(2, 4)))}
    count = draw(st.integers(1, 4))
    return [{name: draw(st.none() | kind) for name, kind in columns.items()} for _ in range(count)]


def written(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def read(text: str) -> Any:
    """JSON whose numbers are their digits."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def alike(found: Any, expected: Any, *, is_array: bool = False) -> bool:
    """Whether two are the same, of which numbers may be written in two ways, but with the same zeros at their end.

    DuckDB holds what an array of JSON holds: without such zeros, and within others, long numbers as texts.
    """
    if isinstance(expected, Number):
        if not isinstance(found, str if is_array else Number):
            return False
        if "e" not in (found + expected).lower() and not expected.endswith(".0") and not is_array:
            return str(found) == str(expected)
        return Decimal(found) == Decimal(expected)
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(
            alike(found[key], expected[key], is_array=is_array) for key in expected
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            alike(one, other, is_array=is_array) for one, other in zip(found, expected, strict=True)
        )
    return bool(found == expected)


def cell(value: Any) -> str:
    """What a value is in a CSV cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else written(value)


def same_cell(found: str, value: Any, *, is_array: bool) -> bool:
    if isinstance(value, Number):
        return alike(Number(found), value, is_array=is_array)
    if isinstance(value, list | dict):
        return alike(read(found), value, is_array=is_array)
    return found == cell(value)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
@settings(deadline=None, max_examples=40)
@given(rows=tables())
def test_json_comes_out_as_it_came_in(ending: str, rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [written(row) for row in rows]
        path = folder / f"in.{ending}"
        path.write_text("[" + ",\n".join(lines) + "]" if ending == "json" else "\n".join(lines), encoding="utf-8")
        with opened(path) as source:
            for row in rows_of(source):
                for column, schema in source.columns.items():
                    jsonschema.validate(numbers.doubles(row[column]), schema)
        enrich(path, folder / "out.jsonl", {}, {})
        out = [read(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").split("\n") if line]
        assert len(out) == len(rows)
        for found, row in zip(out, rows, strict=True):
            assert alike(found, row, is_array=ending == "json"), (found, row)
        enrich(path, folder / "out.csv", {}, {})
        with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
            header, *cells = csv.reader(file)
        assert header == list(rows[0])
        for texts, row in zip(cells, rows, strict=True):
            pairs = zip(texts, row.values(), strict=True)
            assert all(same_cell(*pair, is_array=ending == "json") for pair in pairs), (texts, row)


@settings(deadline=None, max_examples=40)
@given(rows=tables(SCALARS))
def test_csv_comes_out_cell_by_cell(rows: list[dict[str, Any]]) -> None:
    table = [[cell(value) for value in row.values()] for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([list(rows[0]), *table])
        (folder / "in.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        with opened(folder / "in.csv", delimiter=",") as source:
            for row, texts in zip(rows_of(source), table, strict=True):
                for (column, value), cell_text in zip(row.items(), texts, strict=True):
                    jsonschema.validate(value, source.columns[column])
                    assert value is None or str(value) == cell_text or value in (True, False), (value, cell_text)
        for ending in ("csv", "jsonl"):
            enrich(folder / "in.csv", folder / f"out.{ending}", {}, {}, delimiter=",")
        with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.reader(file)) == [list(rows[0]), *table]
        out = [read(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").split("\n") if line]
        for found, texts in zip(out, table, strict=True):
            assert [str(each).lower() if isinstance(each, bool) else each for each in found.values()] == [
                each.lower() if isinstance(value, bool) else each
                for each, value in zip(texts, found.values(), strict=True)
            ]


ARROW: Final = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.decimal128(38, 10): st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=10),
    pa.string(): TEXTS,
    pa.binary(): st.binary(max_size=4),
    pa.date32(): st.dates(),
    pa.timestamp("ns"): st.integers(-(2**62), 2**62),
    pa.timestamp("us", "UTC"): st.integers(-(2**55), 2**55),
    pa.time64("us"): st.times(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.int64()): st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3),
}


@st.composite
def arrow_tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(list(ARROW)), min_size=1, max_size=4))
    columns = {
        f"c{place}": pa.array([draw(st.none() | ARROW[kind]) for _ in range(count)], kind)
        for place, kind in enumerate(kinds)
    }
    return pa.table(columns)


@settings(deadline=None, max_examples=40)
@given(table=arrow_tables())
def test_parquet_comes_out_as_it_came_in_and_says_what_arrow_says(table: pa.Table) -> None:
    from_arrow = open_table(table, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "in.parquet")
        with opened(folder / "in.parquet") as source:
            rows = rows_of(source)
            for row in rows:
                for column, schema in source.columns.items():
                    jsonschema.validate(numbers.doubles(row[column]), schema)
        enrich(folder / "in.parquet", folder / "out.parquet", {}, {})
        enrich(folder / "in.parquet", folder / "out.jsonl", {}, {})
        again = pq.read_table(folder / "out.parquet")
        lines = (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert again.to_pylist() == table.to_pylist()
    assert [dumps(each.data).decode() for each in from_arrow.records() if isinstance(each, Record)] == lines
