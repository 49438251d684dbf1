"""Rows of Arrow: the same batches come out with further columns, each of its exact type, whatever library made them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import AuthenticationError, ConfigError, Connector, RecordError
from connector.base.numbers import Number
from connector.tables._arrow_types import MisfitError, arrow_column
from tests.endpoint import Action, Call, Endpoint, act, answer_to, good
from tests.faults import play, render
from tests.patience import PATIENCE

ROWS = [{"id": number, "text": f"row {number}"} for number in range(5)]
CLASSIFIED = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["good", "bad"]},
        "score": {"type": "integer"},
        "vector": {"type": "array", "items": {"type": "number", "format": "float"}, "minItems": 3},
        "more": {"type": "object", "properties": {"sure": {"type": "boolean"}, "share": {"type": "number"}}},
    },
}


def config(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "metadata": "none", **more}


def enriched(rows: Any, endpoint: Endpoint, **more: Any) -> pa.Table:
    return pa.Table.from_batches(Connector(config(endpoint, **more)).enrich(rows))


def table(count: int) -> pa.Table:
    return pa.table({"id": range(count), "text": [f"row {number}" for number in range(count)]})


HANDED_OVER: dict[str, Callable[[], Any]] = {
    "a table": lambda: pa.Table.from_pylist(ROWS),
    "a record batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "a reader": lambda: pa.Table.from_pylist(ROWS).to_reader(2),
    "a list of batches": lambda: pa.Table.from_pylist(ROWS).to_batches(2),
    "a generator of batches": lambda: iter(pa.Table.from_pylist(ROWS).to_batches(2)),
    "pandas": lambda: pd.DataFrame(ROWS),
    "Polars": lambda: pl.DataFrame(ROWS),
    "slices of Polars": lambda: pl.DataFrame(ROWS).iter_slices(2),
    "DuckDB": lambda: duckdb.sql("SELECT range AS id, 'row ' || range AS text FROM range(5) ORDER BY id"),
}


@pytest.mark.parametrize("hand_over", HANDED_OVER.values(), ids=HANDED_OVER)
def test_batches_of_every_library_come_back_as_record_batches(hand_over: Callable[[], Any], endpoint: Endpoint) -> None:
    batches = list(Connector(config(endpoint)).enrich(hand_over()))
    assert {type(batch) for batch in batches} == {pa.RecordBatch}
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {**row, "content": answer_to(str(row["text"]))} for row in ROWS
    ]


def test_input_columns_are_untouched_and_new_ones_have_the_declared_types(endpoint: Endpoint) -> None:
    given = pa.table(
        {
            "id": pa.array([1, 2, None], pa.uint8()),
            "text": pa.array(["a", "b", "c"]).dictionary_encode(),
            "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6, UTC)] * 3, pa.timestamp("us", "Europe/Berlin")),
            "day": pa.array([date(2026, 1, 2), None, None]),
            "price": pa.array([Decimal("12345678901234567.89"), None, Decimal("0.10")], pa.decimal128(20, 2)),
            "image": pa.array([b"\x00\xff", b"", None], pa.large_binary()),
            "tags": pa.array([["x"], [], None], pa.large_list(pa.string())),
        }
    ).replace_schema_metadata({"made": "by us"})
    result = enriched(given, endpoint, output_schema=CLASSIFIED, metadata="full")
    assert result.select(given.schema.names).equals(given, check_metadata=True)
    assert {field.name: field.type for field in result.schema} == {
        **{field.name: field.type for field in given.schema},
        "label": pa.string(),
        "score": pa.int64(),
        "vector": pa.list_(pa.float32()),
        "more": pa.struct([("sure", pa.bool_()), ("share", pa.float64())]),
        "_llm": result.schema.field("_llm").type,
    }
    assert result.schema.field("_llm").type.field("cost_usd").type == pa.float64()
    assert result["vector"].to_pylist() == [[1.0, 1.0, 1.0]] * 3
    assert result["more"].to_pylist() == [{"sure": True, "share": 1.0}] * 3
    assert result["_llm"].combine_chunks().field("status").to_pylist() == ["success"] * 3


def test_every_text_of_the_input_reaches_the_prompt(endpoint: Endpoint) -> None:
    given = pa.table({"text": ["a"], "at": [date(2026, 1, 2)], "price": [Decimal("0.10")]})
    enriched(given, endpoint, prompt="{{ text }} {{ at }} {{ price }}")
    assert [call.prompt for call in endpoint.journal.calls] == ["a 2026-01-02 0.10"]


def test_a_large_table_comes_out_in_batches_of_a_thousand(endpoint: Endpoint) -> None:
    given = pa.table({"id": range(2500), "text": [f"row {number % 7}" for number in range(2500)]})
    batches = list(Connector(config(endpoint)).enrich(given))
    assert [batch.num_rows for batch in batches] == [1000, 1000, 500]
    assert pa.Table.from_batches(batches)["id"].to_pylist() == list(range(2500))


def test_batches_are_taken_only_as_they_are_needed(endpoint: Endpoint) -> None:
    taken = 0

    def endless() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        while True:
            taken += 1
            yield pa.record_batch({"text": [f"row {taken}.{number}" for number in range(10)]})

    batches = Connector(config(endpoint)).enrich(endless())
    assert taken == 0
    assert next(batches)["content"].to_pylist() == [answer_to(f"row 1.{number}") for number in range(10)]
    batches.close()
    assert taken < 100
    assert len(endpoint.journal.calls) < 500


def test_a_consumer_that_stops_lets_go_of_the_input(endpoint: Endpoint) -> None:
    with duckdb.connect() as database:
        rows = database.sql("SELECT range AS id, 'row ' || range % 10 AS text FROM range(100_000)")
        batches = Connector(config(endpoint)).enrich(rows)
        assert next(batches).num_rows == 1000
        batches.close()
        del rows
        assert database.sql("SELECT 1").fetchall() == [(1,)]


def test_a_table_without_rows_gives_one_batch_that_tells_the_columns(endpoint: Endpoint) -> None:
    words = pa.dictionary(pa.uint32(), pa.string_view())  # Polars' categories, of which pyarrow makes none from a list
    schema = pa.schema([("id", pa.int8()), ("text", pa.string()), ("word", words)])
    nothing = pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)
    given = pa.Table.from_batches([nothing])
    for rows in (given, given.to_reader(), [nothing]):
        result = enriched(rows, endpoint)
        assert (result.num_rows, result.schema.names) == (0, [*schema.names, "content"])
        assert result.schema.types[:3] == schema.types
    assert list(Connector(config(endpoint)).enrich([])) == []


def test_failed_rows_stay_with_nulls_or_are_left_out(endpoint: Endpoint) -> None:
    texts = [["a", "[[fault:400]]", "b"], ["[[fault:400]]"], ["[[fault:400]]", "c", "[[fault:400]]"]]
    frames = [pl.DataFrame({"text": each, "place": list(range(len(each)))}) for each in texts]
    kept = enriched(frames, endpoint, metadata="status")
    assert kept["content"].to_pylist() == [answer_to("a"), None, answer_to("b"), None, None, answer_to("c"), None]
    assert kept["_llm"].combine_chunks().field("status").to_pylist().count("error") == 4
    batches = list(Connector(config(endpoint, on_error="skip")).enrich(frames))
    assert [batch.select(["text", "place"]).to_pylist() for batch in batches] == [
        [{"text": "a", "place": 0}, {"text": "b", "place": 2}],
        [],
        [{"text": "c", "place": 1}],
    ]


def test_on_error_fail_gives_every_row_and_then_fails(endpoint: Endpoint) -> None:
    batches = Connector(config(endpoint, on_error="fail")).enrich(pa.table({"text": ["a", "[[fault:400]]"]}))
    assert next(batches)["content"].to_pylist() == [answer_to("a"), None]
    with pytest.raises(RecordError, match="1 row failed"):
        next(batches)


def test_what_was_answered_before_a_fatal_error_comes_out_first() -> None:
    def script(call: Call) -> Action | None:
        return act(call, "401") if call.prompt == "row 3" else None

    with Endpoint(script) as endpoint:
        batches = Connector(config(endpoint, concurrency=1)).enrich(table(10))
        assert next(batches)["text"].to_pylist() == ["row 0", "row 1", "row 2"]
        with pytest.raises(AuthenticationError):
            next(batches)


def test_a_value_that_does_not_fit_its_column_fails_its_row_and_says_so() -> None:
    def script(call: Call) -> Action:
        body = good(call).body
        body["usage"]["total_tokens"] = {"row 0": 7, "row 1": "seven", "row 2": 2**63}[call.prompt]
        return Action("usage", play(render(good(call)._replace(body=body))))

    with Endpoint(script) as endpoint:
        given = {"response_format": {"tokens": "{{ usage.total_tokens }}"}, "metadata": "status"}
        result = enriched(table(3), endpoint, **given)
        left = enriched(table(3), endpoint, **given, on_error="skip")
    assert result.schema.field("tokens").type == pa.int64()
    assert result["tokens"].to_pylist() == [7, None, None]
    told = result["_llm"].to_pylist()
    assert [each["status"] for each in told] == ["success", "invalid_output", "invalid_output"]
    assert told[1]["error"]["message"] == (
        'the column "tokens" cannot hold a value of the reply: "seven" is not a valid 64-bit integer'
    )
    assert left["tokens"].to_pylist() == [7]


@pytest.mark.parametrize(
    ("rows", "more", "told"),
    [
        (pa.table({"review": ["a"]}), {}, 'no column "text" in the input; there are: review'),
        (pa.table({"text": ["a"], "content": ["b"]}), {}, 'the column "content" is in the input already'),
        (pa.table([["a"], ["b"]], ["text", "text"]), {}, 'the table has two columns "text"'),
        (pa.chunked_array([["a"]]), {}, "Arrow cannot make a table of this ChunkedArray"),
        (pl.Series("text", ["a"]), {}, "Arrow cannot make a table of this Series"),
        (pd.DataFrame({"text": ["a", 1]}), {}, "Arrow cannot make a table of this DataFrame"),
        ([pa.array(["a"])], {}, "Arrow cannot make a table of this StringArray"),
    ],
)
def test_a_table_that_cannot_work_is_refused_before_any_call(
    rows: Any, more: dict[str, Any], told: str, endpoint: Endpoint
) -> None:
    with pytest.raises(ConfigError, match=told):
        enriched(rows, endpoint, **more)
    assert not endpoint.journal.calls


def test_a_batch_that_differs_from_the_first_ends_the_run(endpoint: Endpoint) -> None:
    batches = [pa.record_batch({"text": ["a"]}), pa.record_batch({"text": [1]})]
    with pytest.raises(ConfigError, match="batch 2 has other columns or types than the first"):
        enriched(batches, endpoint)


def test_a_pandas_frame_goes_there_and_back(endpoint: Endpoint) -> None:
    given = pd.DataFrame({"text": ["a", "b"], "n": [1, 2]}, index=["x", "y"])
    back = enriched(given, endpoint).to_pandas()
    assert list(back.index) == ["x", "y"]
    assert back.drop(columns="content").equals(given)


# --- Without pyarrow -------------------------------------------------------------------------------------------------


def run(code: str, endpoint: Endpoint) -> subprocess.CompletedProcess[str]:
    code = f"import sys\nfrom connector import Connector\nconfig = {config(endpoint)!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_rows_as_dicts_do_not_import_pyarrow(endpoint: Endpoint) -> None:
    done = run("list(Connector(config).enrich([{'text': 'a'}]))\nprint('pyarrow' in sys.modules)", endpoint)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_where_pyarrow_is_missing_its_absence_is_reported(endpoint: Endpoint) -> None:
    code = (
        "sys.modules['pyarrow'] = None\nimport polars\n"
        "try:\n    list(Connector(config).enrich(polars.DataFrame({'text': ['a']})))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = run(code, endpoint)
    assert (done.stdout, done.stderr) == ("ConfigError Arrow tables need pyarrow: run pip install pyarrow\n", "")


# --- Types -----------------------------------------------------------------------------------------------------------

SCALARS: list[dict[str, Any]] = [{"type": kind} for kind in ("boolean", "integer", "number", "string", "null")]
SCALARS += [{}, {"type": ["integer", "number"]}, {"type": ["string", "integer"]}, {"type": "number", "format": "float"}]
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: (
        st.builds(lambda items: {"type": ["null", "array"], "items": items}, inner)
        | st.builds(
            lambda parts: {"type": "object", "properties": parts},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        )
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé\ud83d"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: value is not None)


@given(SCHEMAS, VALUES)
def test_any_value_either_fits_its_type_as_arrow_sees_it_or_is_a_misfit(schema: dict[str, Any], value: Any) -> None:
    kind = arrow_column(schema)
    with suppress(MisfitError):
        assert pa.array([kind.fit(value), None], kind.type).null_count == 1


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": ["null", "integer"]}, 3.0, 3),
        ({"type": "number"}, 2**60, float(2**60)),
        ({"type": "array", "items": {"type": "number", "format": "float"}}, [1, 0.5, None], [1.0, 0.5, None]),
        ({"type": "array"}, ["a", 1, {"b": None}], ["a", "1", '{"b":null}']),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1, "b": 2}, {"a": 1}),
        ({"type": "object"}, {"a": "é"}, '{"a":"é"}'),
        ({}, "as it is", "as it is"),
        ({}, [1, None], "[1,null]"),
        ({}, {"a": [Number("1.10"), Number("1e400"), 2**70]}, '{"a":[1.10,1e400,1180591620717411303424]}'),
        ({"type": "number"}, Number("1.10"), 1.1),
        ({"type": "integer"}, Number("9007199254740993.00"), 9007199254740993),
        ({"type": "string"}, 12, "12"),
        ({}, "half \ud83d", "half \ufffd"),
    ],
)
def test_a_value_keeps_its_meaning(schema: dict[str, Any], value: Any, expected: Any) -> None:
    kind = arrow_column(schema)
    assert pa.array([kind.fit(value)], kind.type).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("boolean", 1),
        ("integer", True),
        ("integer", 1.5),
        ("integer", "1"),
        ("number", "1.5"),
        ("number", True),
        ("array", "abc"),
        ("array", {"a": 1}),
        ("number", 10**400),
        ("number", Number("12345678901234567.89")),
        ("number", Number("1e400")),
    ],
)
def test_nothing_is_bent_into_a_type(kind: str, value: Any) -> None:
    with pytest.raises(MisfitError, match=f"is not a valid (64-bit )?{kind}"):
        arrow_column({"type": kind}).fit(value)
