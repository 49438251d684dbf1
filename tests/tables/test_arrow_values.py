"""The values of Arrow's columns: every type, without pandas, and none that ends a run."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from connector import Connector
from connector.base import numbers
from connector.base.numbers import Number
from connector.base.values import dumps, text
from connector.tables._arrow_values import rows_of, values_of
from tests.endpoint import Endpoint

NS: Final = pa.timestamp("ns")
DENSE: Final = pa.UnionArray.from_dense(
    pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([7]), pa.array([1], NS)]
)
BROKEN: Final = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
A_UUID: Final = uuid.UUID(int=5)

COLUMNS: Final[dict[str, tuple[pa.Array, list[Any]]]] = {
    "null": (pa.nulls(1), [None]),
    "bool": (pa.array([True, None]), [True, None]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    "float16": (pa.array(np.array([0.1, np.nan, 65504], "float16")), [0.0999755859375, None, 65504.0]),
    "float32": (pa.array([0.1, None, float("nan")], pa.float32()), [0.10000000149011612, None, None]),
    "float64": (pa.array([0.1]), [0.1]),
    "decimal": (
        pa.array([Decimal("12345678901234567.89"), Decimal("1.50"), None]),
        [Number("12345678901234567.89"), Number("1.50"), None],
    ),
    "wide decimal": (pa.array([Decimal(10**40)], pa.decimal256(60, 0)), [10**40]),
    "string": (pa.array(["é", None], pa.large_string()), ["é", None]),
    "string view": (pa.array(["é"], pa.string_view()), ["é"]),
    "text that is no UTF-8": (BROKEN, ["a\ufffd"]),
    "binary": (pa.array([b"\x00\xff", None]), ["AP8=", None]),
    "fixed binary": (pa.array([b"\x00\xff"], pa.binary(2)), ["AP8="]),
    "date32": (pa.array([19723, None, -800_000], pa.date32()), ["2024-01-01", None, "-0221-09-04"]),
    "date64": (pa.array([19723 * 86_400_000, 10**15], pa.date64()), ["2024-01-01", "+33658-09-27"]),
    "seconds": (
        pa.array([1704103200, 2**40, None], pa.timestamp("s")),
        ["2024-01-01T10:00:00", "+36812-02-20T00:36:16", None],
    ),
    "the last second": (pa.array([2**63 - 1], pa.timestamp("s")), ["+292277026596-12-04T15:30:07"]),
    "milliseconds": (pa.array([1704103200500], pa.timestamp("ms")), ["2024-01-01T10:00:00.5"]),
    "nanoseconds": (
        pa.array([1704103200123456789, 1704103200000000000], NS),
        ["2024-01-01T10:00:00.123456789", "2024-01-01T10:00:00"],
    ),
    "UTC": (
        pa.array([1704103200123456789, 0], pa.timestamp("ns", "UTC")),
        ["2024-01-01T10:00:00.123456789Z", "1970-01-01T00:00:00Z"],
    ),
    "a zone": (pa.array([1704103200], pa.timestamp("s", "Europe/Berlin")), ["2024-01-01T11:00:00+01:00"]),
    "an offset": (pa.array([0], pa.timestamp("s", "+05:30")), ["1970-01-01T05:30:00+05:30"]),
    "no such zone": (pa.array([0], pa.timestamp("s", "Nowhere/At")), ["1970-01-01T00:00:00Z"]),
    "time32": (pa.array([3723], pa.time32("s")), ["01:02:03"]),
    "time64": (pa.array([3_723_000_000_001, None, 0], pa.time64("ns")), ["01:02:03.000000001", None, "00:00:00"]),
    "duration": (pa.array([3600, -1, 2**62], pa.duration("s")), ["PT1H", "-PT1S", "P53375995583650DT7H45M4S"]),
    "duration in ns": (pa.array([1, None], pa.duration("ns")), ["PT0.000000001S", None]),
    "interval": (pa.array([(14, 3, 4_500_000_000)], pa.month_day_nano_interval()), ["P1Y2M3DT4.5S"]),
    "list": (
        pa.array([[1704103200123456789], None, [], [None]], pa.list_(NS)),
        [["2024-01-01T10:00:00.123456789"], None, [], [None]],
    ),
    "large list": (pa.array([[b"x"]], pa.large_list(pa.binary())), [["eA=="]]),
    "fixed list": (pa.array([[0.5, 0.1], None], pa.list_(pa.float32(), 2)), [[0.5, 0.10000000149011612], None]),
    "list view": (pa.array([[1], None], pa.list_view(pa.int8())), [[1], None]),
    "lists of lists": (pa.array([[[b"x"], None]], pa.list_(pa.list_(pa.binary()))), [[["eA=="], None]]),
    "struct": (
        pa.array([{"a": 1, "b": 5}, None, {"a": None, "b": None}], pa.struct([("a", NS), ("b", pa.duration("s"))])),
        [{"a": "1970-01-01T00:00:00.000000001", "b": "PT5S"}, None, {"a": None, "b": None}],
    ),
    "empty struct": (pa.array([{}, None], pa.struct([])), [{}, None]),
    "map": (
        pa.array([[("a", 1)], None, []], pa.map_(pa.string(), NS)),
        [{"a": "1970-01-01T00:00:00.000000001"}, None, {}],
    ),
    "map of dates": (pa.array([[(0, [1])]], pa.map_(pa.date32(), pa.list_(pa.int8()))), [{"1970-01-01": [1]}]),
    "dictionary": (
        pa.array([1, None, 1], NS).dictionary_encode(),
        ["1970-01-01T00:00:00.000000001", None, "1970-01-01T00:00:00.000000001"],
    ),
    "run-ends": (pa.RunEndEncodedArray.from_arrays([2], pa.array([1], NS)), ["1970-01-01T00:00:00.000000001"] * 2),
    "union": (DENSE, [7, "1970-01-01T00:00:00.000000001"]),
    "UUID": (pa.array([A_UUID.bytes], pa.uuid()), [str(A_UUID)]),
    "JSON": (pa.array(['{"a":1}'], pa.json_()), [{"a": 1}]),
    "tensors": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int32(), [2]), pa.array([[1, 2]], pa.list_(pa.int32(), 2))
        ),
        [[1, 2]],
    ),
}


@pytest.mark.parametrize(("array", "forms"), COLUMNS.values(), ids=COLUMNS)
def test_every_type_has_its_json_form(array: pa.Array, forms: list[Any]) -> None:
    assert numbers.loads(dumps(values_of(array))) == forms
    if len(array) > 1:  # a slice has an offset, which its children do not know of
        assert numbers.loads(dumps(values_of(array.slice(1)))) == forms[1:]
    assert values_of(array.slice(0, 0)) == []
    nested = pa.StructArray.from_arrays([array], ["a"])
    assert numbers.loads(dumps(values_of(nested))) == [{"a": form} for form in forms]


@pytest.mark.parametrize(("array", "forms"), COLUMNS.values(), ids=COLUMNS)
def test_every_way_in_gives_the_same(array: pa.Array, forms: list[Any], endpoint: Endpoint) -> None:
    """As dicts, from Arrow, pandas and Polars: in a text, alone, in `tojson`, behind `default`; and back untouched."""
    table = pa.table({"id": range(len(array)), "v": array})
    ways: dict[str, Any] = {"Arrow": table, "dicts": rows_of(table.combine_chunks().to_batches()[0])}
    if not isinstance(array, pa.UnionArray | pa.RunEndEncodedArray):
        ways["IPC"] = _through_ipc(table)
    config = {
        "url": endpoint.base_url,
        "request_format": {
            "messages": [{"role": "user", "content": "{{ record | tojson }} {{ v | default('nothing') }}"}],
            "alone": "{{ v }}",
        },
        "concurrency": 1,
        "cache": "none",
    }
    expected = [
        (form, numbers.dumps({"id": place, "v": form}).decode(), "nothing" if form is None else form)
        for place, form in enumerate(forms)
    ]
    for way, rows in ways.items():
        before = len(endpoint.journal.calls)
        done = list(Connector(config).enrich(rows))
        if way == "Arrow":
            assert (
                pa.Table.from_batches(done)["v"].combine_chunks().equals(table["v"].combine_chunks()) or None in forms
            )
        sent = [call.body for call in endpoint.journal.calls[before:]]
        assert sorted(map(repr, (body["alone"] for body in sent))) == sorted(map(repr, numbers.doubles(forms))), way
        for form, whole, shown in expected:
            assert any(_says(body["messages"][0]["content"], whole, shown) for body in sent), (way, form)


def _says(content: str, whole: str, shown: Any) -> bool:
    head, end = json.JSONDecoder(parse_float=numbers.exact).raw_decode(content)
    same = head == numbers.loads(whole)
    return same and (not isinstance(shown, str) or content[end + 1 :] == shown)


def _through_ipc(table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def test_data_frames_give_what_their_rows_give(endpoint: Endpoint) -> None:
    """One frame, as it is and as its `to_dict("records")`, of pandas and of Polars."""
    frame = pd.DataFrame(
        {
            "at": pd.to_datetime(["2024-01-31 10:00:00.123456789", None]),
            "in_utc": pd.to_datetime(["2024-01-31 10:00", None], utc=True),
            "staff": pd.array([5, None], dtype="Int64"),
            "score": np.array([0.1, np.nan], dtype="float32"),
            "kind": pd.Categorical(["a", None]),
            "sure": pd.array([True, None], dtype="boolean"),
        }
    )
    polars = pl.from_pandas(frame)
    config = {"url": endpoint.base_url, "model": "m", "prompt": "{{ record | tojson }}", "cache": "none"}
    given: dict[str, Any] = {
        "pandas": frame,
        "dicts of pandas": frame.to_dict("records"),
        "Polars": polars,
        "dicts of Polars": polars.to_dicts(),
    }
    found = {}
    for way, rows in given.items():
        before = len(endpoint.journal.calls)
        list(Connector(config).enrich(rows))
        found[way] = {call.prompt for call in endpoint.journal.calls[before:]}
    expected = {
        '{"at":"2024-01-31T10:00:00.123456789","in_utc":"2024-01-31T10:00:00Z","staff":5,"score":0.10000000149011612,"kind":"a","sure":true}',
        '{"at":null,"in_utc":null,"staff":null,"score":null,"kind":null,"sure":null}',
    }
    assert found["pandas"] == expected
    assert found["dicts of pandas"] == expected
    assert {each.replace("123456789", "123456") for each in found["pandas"]} == {
        each.replace("123456789", "123456") for each in found["dicts of Polars"]
    }
    assert found["Polars"] == expected


def test_times_that_python_can_hold_are_its_own() -> None:
    """So that a template can ask them for their year."""
    ((at,), (day,)) = values_of(pa.array([1704103200_000_001_000], NS)), values_of(pa.array([0], pa.date32()))
    assert at == dt.datetime.fromisoformat("2024-01-01T10:00:00.000001")
    assert day == dt.date(1970, 1, 1)
    assert text(at) == "2024-01-01T10:00:00.000001"
