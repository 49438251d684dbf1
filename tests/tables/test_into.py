"""Tables come back as tables of whichever library is asked for: the same rows, whatever library they came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from connector import ConfigError, Connector, tables
from tests.endpoint import Endpoint, answer_to

ROWS = [{"id": number, "text": f"row {number}"} for number in range(5)]
EXPECTED = [{**row, "content": answer_to(str(row["text"]))} for row in ROWS]
GIVEN: dict[str, Callable[[], Any]] = {
    "dicts": lambda: ROWS,
    "generator": lambda: iter(ROWS),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "pandas": lambda: pd.DataFrame(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "duckdb": lambda: duckdb.sql("SELECT range AS id, 'row ' || range AS text FROM range(5) ORDER BY id"),
}
KINDS: dict[tables.Library, tuple[type, Callable[[Any], list[dict[str, Any]]]]] = {
    "arrow": (pa.RecordBatchReader, lambda table: table.read_all().to_pylist()),
    "pandas": (pd.DataFrame, lambda table: table.to_dict("records")),
    "polars": (pl.DataFrame, lambda table: table.to_dicts()),
    "duckdb": (duckdb.DuckDBPyRelation, lambda table: table.to_arrow_table().to_pylist()),
}


def connector(endpoint: Endpoint, **more: Any) -> Connector:
    given = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "metadata": "none", **more}
    return Connector(given)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("library", KINDS)
def test_every_table_comes_back_as_one_of_every_library(
    given: str, library: tables.Library, endpoint: Endpoint
) -> None:
    kind, rows = KINDS[library]
    found = connector(endpoint).enrich(GIVEN[given](), into=library)
    assert isinstance(found, kind)
    assert rows(found) == EXPECTED


@pytest.mark.parametrize("library", KINDS)
def test_the_same_kind_comes_back_where_that_is_asked_for(library: str, endpoint: Endpoint) -> None:
    found = connector(endpoint).enrich(GIVEN[library](), into="same")
    assert isinstance(found, KINDS[library][0])  # type: ignore[index]  # the same names


def test_a_data_frame_keeps_its_index(endpoint: Endpoint) -> None:
    frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index(["x", "y"], name="key"))
    found = connector(endpoint).enrich(frame, into="pandas")
    assert (found.index.name, list(found.index), list(found.columns)) == ("key", ["x", "y"], ["text", "content"])


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_an_empty_table_has_its_columns(library: tables.Library, endpoint: Endpoint) -> None:
    found = connector(endpoint).enrich(pa.table({"text": pa.array([], pa.string())}), into=library)
    assert list(found.columns) == ["text", "content"]


def test_no_rows_at_all_are_a_table_without_columns(endpoint: Endpoint) -> None:
    assert list(connector(endpoint).enrich([], into="pandas").columns) == []
    assert connector(endpoint).enrich([], into="polars").shape == (0, 0)
    assert connector(endpoint).enrich([], into="arrow").read_all().num_rows == 0
    with pytest.raises(ConfigError, match="there are no rows, so their columns are not known"):
        connector(endpoint).enrich([], into="duckdb")


def test_a_reader_takes_rows_only_as_they_are_needed(endpoint: Endpoint) -> None:
    batches = pa.Table.from_pylist([{"text": str(number)} for number in range(20_000)]).to_batches(100)
    reader = connector(endpoint).enrich(iter(batches), into="arrow")
    assert reader.read_next_batch().num_rows == 100
    reader.close()
    assert len(endpoint.journal.calls) < 5_000


def test_nested_values_arrive_as_the_library_has_them(endpoint: Endpoint) -> None:
    found = connector(endpoint, metadata="full").enrich(pl.DataFrame(ROWS), into="same")
    assert found["_llm"].struct.field("status").unique().to_list() == ["success"]


ODD: dict[str, list[Any]] = {
    "a number and a text": [1, "x"],
    "a list and a number": [[1], 2],
    "an object and a list": [{"a": 1}, [1]],
    "objects that differ": [{"a": [1]}, {"a": {"b": 1}}],
    "a long integer": [10**30, -1],
    "many digits": [Decimal("1.5"), Decimal("1e40")],
    "half of a character": ["\ud800", "x"],
    "keys that are numbers": [{1: 2}, None],
    "a date and a time": [date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)],
    "a thing": [object(), 1],
    "no number": [Decimal("NaN"), 1],
    "a tiny number": [Decimal("1E-300"), 1],
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("library", KINDS)
def test_values_that_no_column_of_a_library_holds_arrive_as_text(library: tables.Library, values: list[Any]) -> None:
    _, rows = KINDS[library]
    given = [{"id": place, "odd": value} for place, value in enumerate(values)]
    found = rows(tables.into(library, iter([*given, {"later": 5, "\udc00": 6}]), []))
    assert [row["id"] for row in found[:2]] == [0, 1]  # nothing that was paid for is lost
    assert {"id", "odd", "later", "\ufffd"} <= found[2].keys()
    assert (found[2]["later"], found[2]["\ufffd"]) == (5, 6)


TYPES: dict[str, Any] = {
    "decimal256": pa.array([Decimal(5)], pa.decimal256(60, 1)),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3])]),
    "union": pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
    "list_view": pa.array([[1]], pa.list_view(pa.int32())),
    "no such zone": pa.array([0], pa.timestamp("ns", "Nowhere/X")),
    "time64": pa.array([1], pa.time64("ns")),
}


@pytest.mark.parametrize("odd", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("library", KINDS)
def test_a_column_of_a_type_that_a_library_lacks_arrives_as_text(library: tables.Library, odd: Any) -> None:
    found = tables.into(library, iter(pa.table({"id": [7], "odd": odd}).to_batches()), [])
    columns = found.read_all().column_names if library == "arrow" else found.columns
    assert list(columns) == ["id", "odd"]


@pytest.mark.parametrize(
    ("rows", "library", "told"),
    [
        (ROWS, "same", r'into: "same" needs a table of "arrow", "duckdb", .* this is a list'),
        (ROWS, "spark", r'into: there is no "spark": use one of "arrow"'),
    ],
)
def test_what_cannot_be_returned_is_reported_before_any_call(
    rows: Any, library: Any, told: str, endpoint: Endpoint
) -> None:
    with pytest.raises(ConfigError, match=told):
        connector(endpoint).enrich(rows, into=library)
    assert not endpoint.journal.calls


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_library_that_is_missing_is_named(library: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    name: Any = {"pyarrow": "arrow"}.get(library, library)
    with pytest.raises(ConfigError, match=f"run pip install {library}"):
        connector(endpoint).enrich(ROWS, into=name)


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (ROWS, 5),
        (pa.Table.from_pylist(ROWS), 5),
        (pa.Table.from_pylist(ROWS).to_batches(2), 5),
        (pd.DataFrame(ROWS), 5),
        (pl.DataFrame(ROWS), 5),
        (iter(ROWS), None),
        (duckdb.sql("SELECT 1 AS text"), None),
        (pa.Table.from_pylist(ROWS).to_reader(), None),
    ],
)
def test_the_length_is_known_where_it_costs_nothing(rows: Any, count: int | None) -> None:
    assert tables.length(rows) == count
