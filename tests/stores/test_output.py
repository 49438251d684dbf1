"""The file that a run writes: rows in the input's order, types kept, whole or not at all."""

from __future__ import annotations

import csv
import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import ConfigError, StorageError
from connector.base.records import Record, Schema
from connector.stores import files
from tests.stores.helpers import cells, enrich, objects, opened, parquet, rows_of, table, text, types

TEXT: Schema = {"type": ["null", "string"]}
COUNT: Schema = {"type": ["null", "integer"]}
PROVENANCE: Schema = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["success", "error"]},
        "error": {"type": ["null", "object"], "properties": {"class": TEXT, "message": TEXT}},
        "tokens": COUNT,
        "cached": {"type": ["null", "boolean"]},
    },
}
ADDED: dict[str, Schema] = {"label": {"type": "string"}, "scores": {}, "_llm": PROVENANCE}
GOOD = {
    "label": "a, b",
    "scores": {"x": [1, 2]},
    "_llm": {"status": "success", "error": None, "tokens": 3, "cached": False},
}
FAILURE = {"class": "ServerError", "message": "it failed"}
BAD = {"label": None, "scores": None, "_llm": {"status": "error", "error": FAILURE, "tokens": None, "cached": None}}


@pytest.fixture
def given_csv(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text('id,zip,price,review,when\n1,007,1.50,"a ""b"",\n",2024-01-01 10:00\n2,123,2.00,"",\n3,,,,\n')
    return path


def test_parquet_has_the_types_of_the_input_and_of_the_schema(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    enrich(given_csv, output, ADDED, GOOD, BAD, GOOD)
    assert {name: kind.replace('"', "") for name, kind in types(output).items()} == {
        "id": "BIGINT",
        "zip": "VARCHAR",
        "price": "DOUBLE",
        "review": "VARCHAR",
        "when": "TIMESTAMP",
        "label": "VARCHAR",
        "scores": "STRUCT(x BIGINT[])",
        "_llm": "STRUCT(status VARCHAR, error STRUCT(class VARCHAR, message VARCHAR), tokens BIGINT, cached BOOLEAN)",
    }
    assert [(row["id"], row["label"], row["_llm"]["status"]) for row in table(output)] == [
        (1, "a, b", "success"),
        (2, None, "error"),
        (3, "a, b", "success"),
    ]
    assert table(output)[1]["_llm"]["error"] == FAILURE


def test_jsonl_has_an_object_a_line_with_what_came_as_it_came(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    enrich(given_csv, output, ADDED, GOOD, BAD)
    when = "2024-01-01 10:00"
    assert objects(output) == [
        {"id": 1, "zip": "007", "price": 1.5, "review": 'a "b",\n', "when": when, **GOOD},
        {"id": 2, "zip": "123", "price": 2.0, "review": "", "when": None, **BAD},
        {"id": 3, "zip": None, "price": None, "review": None, "when": None, **BAD},
    ]


def test_csv_has_the_very_texts_of_a_csv_input_and_flat_provenance(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    enrich(given_csv, output, ADDED, GOOD, BAD)
    header, *rows = cells(output)
    assert header == [
        *cells(given_csv)[0],
        "label",
        "scores",
        "_llm_status",
        "_llm_error",
        "_llm_tokens",
        "_llm_cached",
    ]
    assert [row[:5] for row in rows] == cells(given_csv)[1:]
    assert rows[0][5:] == ["a, b", '{"x":[1,2]}', "success", "", "3", "false"]
    assert rows[1][5:] == ["", "", "error", '{"class":"ServerError","message":"it failed"}', "", ""]
    assert '2,123,2.00,"",,,,error' in text(output)


@pytest.mark.parametrize(
    "name",
    ["o.csv", "o.tsv", "o.csv.gz", "o.jsonl.gz", "o.tsv.zst", "o.ndjson.zst", "o.json", "o.json.gz", "o.parquet"],
)
def test_every_format_can_be_read_again(given_csv: Path, tmp_path: Path, name: str) -> None:
    enrich(given_csv, tmp_path / name, {"label": TEXT}, {"label": "é\t😀\n"})
    assert [row["label"] for row in table(tmp_path / name)] == ["é\t😀\n"] * 3


def test_rows_that_are_left_out_are_not_there_and_the_others_keep_their_input(tmp_path: Path) -> None:
    given = parquet(tmp_path / "in.parquet", "SELECT range AS id, 'text ' || range AS t FROM range(5000)")
    with (
        opened(given) as source,
        files.sink(files.Options(path=str(tmp_path / "o.parquet")), {"n": COUNT}, source=source) as sink,
    ):
        records = [item for item in source.read() if isinstance(item, Record)]
        random.Random(4).shuffle(records)
        for record in records:
            sink.write(record, None if record.index % 3 == 0 else {"n": record.index})
        sink.commit()
    rows = duckdb.execute(f"FROM '{tmp_path / 'o.parquet'}'").fetchall()
    assert rows == [(index, f"text {index}", index) for index in range(5000) if index % 3]


def test_rows_that_were_never_written_are_not_there(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with opened(given_csv) as source, files.sink(files.Options(path=str(output)), {"n": COUNT}, source=source) as sink:
        _, second, *_ = source.read()
        sink.write(second, {"n": 2})
        sink.commit()
    assert [row["id"] for row in objects(output)] == [2]


def test_an_added_column_replaces_an_input_column_in_its_place(given_csv: Path, tmp_path: Path) -> None:
    for name in ("o.parquet", "o.jsonl", "o.csv"):
        enrich(given_csv, tmp_path / name, {"zip": COUNT}, {"zip": 9})
        rows = table(tmp_path / name)
        assert list(rows[0]) == ["id", "zip", "price", "review", "when"]
        assert [row["zip"] for row in rows] == [9, 9, 9]


@pytest.mark.parametrize(
    ("schema", "values", "kind"),
    [
        ({"type": "string"}, ["x"], "VARCHAR"),
        ({"type": "integer"}, [1, None], "BIGINT"),
        ({"type": ["null", "number"]}, [1, 2.5], "DOUBLE"),
        ({"type": "number", "format": "float"}, [0.5], "FLOAT"),
        ({"type": "boolean"}, [True], "BOOLEAN"),
        ({"type": "array", "items": {"type": "number", "format": "float"}}, [[0.5, 1]], "FLOAT[]"),
        ({"type": "array", "items": {"type": "string"}}, [[]], "VARCHAR[]"),
        ({"type": "array"}, [[1], [None]], "BIGINT[]"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, [{"a": 1}, {}], "STRUCT(a BIGINT)"),
        ({"type": "object"}, [{"a": 1}], "JSON"),
        ({}, [1, 2.5], "DOUBLE"),
        ({}, ["2024-01-01"], "VARCHAR"),
        ({}, [True, None], "BOOLEAN"),
        ({}, [None], "VARCHAR"),
        ({}, [{"a": [{"b": 1}]}], "STRUCT(a STRUCT(b BIGINT)[])"),
        ({}, [1, "x"], "JSON"),
        ({"enum": ["a", "b"]}, ["a"], "VARCHAR"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], "VARCHAR"),
        ({"type": "integer"}, [None], "BIGINT"),
        # What came does not fit what was declared: the values decide.
        ({"type": "integer"}, [1, 1.5], "DOUBLE"),
        ({"type": "integer"}, ["many"], "VARCHAR"),
        ({"type": "boolean"}, [0], "BIGINT"),
        ({"type": "string"}, [5, {"a": 1}], "VARCHAR"),
        ({"type": "array", "items": {"type": "integer"}}, [[1, 0.5]], "DOUBLE[]"),
        ({"type": "array", "items": {"type": "integer"}}, ["none"], "VARCHAR"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, [{"b": "x"}], "STRUCT(a BIGINT, b VARCHAR)"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, [[1]], "BIGINT[]"),
        ({"type": "integer"}, [2**70], "VARCHAR"),
        ({}, [{"a": 1, "A": 2}], "JSON"),
    ],
)
def test_parquet_types_follow_the_schema_and_the_values_never_the_schema_against_the_values(
    tmp_path: Path, schema: Schema, values: list[Any], kind: str
) -> None:
    given = parquet(tmp_path / "in.parquet", f"SELECT range AS id FROM range({len(values)})")
    enrich(given, tmp_path / "o.parquet", {"x": schema}, *({"x": value} for value in values))
    assert types(tmp_path / "o.parquet")["x"] == kind


def test_no_value_is_lost_to_a_wrong_schema(tmp_path: Path) -> None:
    given = parquet(tmp_path / "in.parquet", "SELECT range AS id FROM range(3)")
    for name in ("o.parquet", "o.jsonl", "o.csv"):
        enrich(given, tmp_path / name, {"x": {"type": "integer"}}, {"x": 1}, {"x": 1.5}, {"x": 2})
        assert [row["x"] for row in table(tmp_path / name)] == [1, 1.5, 2]


def test_halves_of_surrogate_pairs_and_nan_do_not_spoil_a_file(given_csv: Path, tmp_path: Path) -> None:
    values = {"a": "x\ud83d", "b": "\ud83d\ude00", "c": [float("nan")], "d": float("inf")}
    enrich(given_csv, tmp_path / "o.jsonl", {name: {} for name in values}, values)
    row = objects(tmp_path / "o.jsonl")[0]
    assert (row["a"], row["b"], row["c"], row["d"]) == ("x\ufffd", "😀", [None], None)
    assert "NaN" not in text(tmp_path / "o.jsonl")


def test_columns_with_the_names_of_keywords_and_quotes_are_written(tmp_path: Path) -> None:
    names = ["select", 'a"b', "it's", "v", "line", "rowid", "$1", "ünï"]
    given = parquet(tmp_path / "in.parquet", 'SELECT 1 AS "order", 2 AS "x\'y"')
    for file in ("o.parquet", "o.jsonl", "o.csv"):
        enrich(given, tmp_path / file, {name: {} for name in names}, dict.fromkeys(names, 7))
        assert table(tmp_path / file) == [{"order": 1, "x'y": 2, **dict.fromkeys(names, 7)}]


def test_the_output_is_private_and_nothing_else_is_left(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("old")
    enrich(given_csv, output, {"label": TEXT}, {"label": "x"})
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


def test_the_old_output_stands_until_the_commit(given_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("old")
    with opened(given_csv) as source, files.sink(files.Options(path=str(output)), {"x": {}}, source=source) as sink:
        for record in (item for item in source.read() if isinstance(item, Record)):
            sink.write(record, {"x": 1})
        assert output.read_text() == "old"
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in tmp_path.iterdir() if path.is_dir())
    assert output.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/out.csv", r"the folder .*missing does not exist"),
        (
            "out.xyz",
            r"use a known extension \(\.csv, \.tsv, \.json, \.jsonl, \.ndjson, \.parquet; all but parquet also",
        ),
        ("out", r"use a known extension"),
        ("out.parquet.gz", r'leave out the "\.gz"'),
        (".", r"this is a folder: name the file to write"),
        ("folder.csv", r"this is a folder: name the file to write"),
        ("in.csv", r"this file is among the inputs"),
        ("same.csv", r"this file is among the inputs"),
    ],
)
def test_an_output_that_cannot_be_is_refused_at_once(given_csv: Path, tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "same.csv").symlink_to(given_csv)
    with opened(given_csv) as source:
        sink = files.sink(files.Options(path=str(tmp_path / path)), ADDED, source=source)
        with pytest.raises(ConfigError, match=message):
            sink.__enter__()


def test_a_folder_without_permission_is_refused_at_once(given_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("root may write everywhere, except as .ci/run starts it")
    with opened(given_csv) as source:
        sink = files.sink(files.Options(path=str(tmp_path / "locked" / "out.csv")), ADDED, source=source)
        with pytest.raises(ConfigError, match="nothing can be written there"):
            sink.__enter__()


def test_a_device_is_never_replaced() -> None:
    sink = files.sink(files.Options(path="/dev/null", format="csv"), ADDED)
    with pytest.raises(ConfigError, match="this is not a file"):
        sink.__enter__()


def test_a_folder_that_vanishes_is_a_storage_error(given_csv: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with (
        opened(given_csv) as source,
        files.sink(files.Options(path=str(folder / "o.csv")), {"x": {}}, source=source) as sink,
    ):
        sink.write(Record(0, {}), {"x": 1})
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        with pytest.raises(StorageError, match="it cannot be written"):
            sink.commit()


FULL_DISK = """
import resource, signal, sys
from connector.base.errors import StorageError
from connector.base.records import Record
from connector.stores import files

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
given, output = (files.Options(path=path) for path in sys.argv[1:3])
with files.source(given) as source:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))
    try:
        with files.sink(output, {"x": {"type": "string"}}, source=source) as sink:
            for record in (item for item in source.read() if isinstance(item, Record)):
                sink.write(record, {"x": "x" * int(sys.argv[3])})
            print("written")
            sink.commit()
    except StorageError as error:
        print(error.message)
"""


@pytest.mark.parametrize(("size", "said"), [(200, ""), (2, "written\n")])
def test_a_full_disk_is_a_storage_error_and_nothing_is_there_under_the_final_name(
    tmp_path: Path, size: int, said: str
) -> None:
    given = tmp_path / "in.csv"
    given.write_text("a\n" + f"{'text ' * 40}\n" * 10_000)
    command = [sys.executable, "-c", FULL_DISK, str(given), str(tmp_path / "out.csv"), str(size)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.startswith(f"{said}{tmp_path}: nothing more can be written there")
    assert list(tmp_path.iterdir()) == [given]


class Other:
    """A source of another kind, whose columns may be known or not."""

    name = "other"
    rows = None
    primary_key: tuple[str, ...] = ()

    def __init__(self, **columns: Schema) -> None:
        self.columns = columns

    def read(self, state: Any = None) -> Any:
        raise NotImplementedError


def test_rows_of_a_source_without_a_snapshot_come_whole_and_in_order(tmp_path: Path) -> None:
    source = Other(id=COUNT, at={**TEXT, "format": "date-time", "airbyte_type": "timestamp_without_timezone"})
    output = tmp_path / "o.parquet"
    with files.sink(files.Options(path=str(output)), {"label": TEXT}, source=source) as sink:
        for index in (4, 0, 2, 1):
            sink.write(Record(index, {"id": index, "at": "2024-01-01T10:00:00"}), {"label": f"l{index}"})
        sink.write(Record(3, {"id": 3, "at": None}), None)
        sink.commit()
    assert types(output) == {"id": "BIGINT", "at": "TIMESTAMP", "label": "VARCHAR"}
    assert [(row["id"], row["label"]) for row in table(output)] == [(0, "l0"), (1, "l1"), (2, "l2"), (4, "l4")]


def test_what_a_database_calls_a_date_and_is_none_stays_text(tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    with files.sink(files.Options(path=str(output)), {}, source=Other(at={**TEXT, "format": "date"})) as sink:
        sink.write(Record(0, {"at": "0000-00-00"}), {})
        sink.commit()
    assert table(output) == [{"at": "0000-00-00"}]


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl", "o.csv"])
def test_columns_that_only_the_rows_tell_are_all_there_before_the_added_ones(tmp_path: Path, name: str) -> None:
    with files.sink(files.Options(path=str(tmp_path / name)), {"label": TEXT}, source=Other()) as sink:
        sink.write(Record(1, {"b": 2.5, "a": 1}), {"label": "x"})
        sink.write(Record(0, {"a": 1, "c": "y"}), {"label": None})
        sink.commit()
    assert table(tmp_path / name) == [
        {"b": None, "a": 1, "c": "y", "label": None},
        {"b": 2.5, "a": 1, "c": None, "label": "x"},
    ]


def test_rows_whose_columns_differ_only_in_case_stop_the_run_before_more_is_paid_for(tmp_path: Path) -> None:
    with files.sink(files.Options(path=str(tmp_path / "o.csv")), {"label": TEXT}, source=Other()) as sink:
        sink.write(Record(0, {"a": 1}), {"label": "x"})
        with pytest.raises(ConfigError, match="differ only in case"):
            sink.write(Record(1, {"A": 1}), {"label": "x"})


def test_an_input_that_changes_meanwhile_does_not_mix_rows_up(given_csv: Path, tmp_path: Path) -> None:
    with (
        opened(given_csv) as source,
        files.sink(files.Options(path=str(tmp_path / "o.csv")), {"x": {}}, source=source) as sink,
    ):
        given_csv.write_text("id\n9\n8\n7\n")
        for record in (item for item in source.read() if isinstance(item, Record)):
            sink.write(record, {"x": record.data["id"]})
        sink.commit()
    assert [(row["id"], row["x"]) for row in table(tmp_path / "o.csv")] == [(1, 1), (2, 2), (3, 3)]


CELL = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), st.randoms())
def test_input_cells_survive_from_csv_to_csv(rows: list[tuple[str | None, str | None]], order: random.Random) -> None:
    def quoted(cell: str | None) -> str:
        return "" if cell is None else '"' + cell.replace('"', '""') + '"'

    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder) / "in.csv", Path(folder) / "out.csv"
        given.write_bytes("".join(f"{quoted(a)},{quoted(b)}\n" for a, b in [("first", "second"), *rows]).encode())
        with opened(given) as source, files.sink(files.Options(path=str(output)), {"n": {}}, source=source) as sink:
            records = [item for item in source.read() if isinstance(item, Record)]
            order.shuffle(records)
            for record in records:
                sink.write(record, {"n": record.index})
            sink.commit()
        with opened(given) as before, opened(output) as after:
            assert [{**row, "n": n} for n, row in enumerate(rows_of(before))] == rows_of(after)
        with output.open(newline="", encoding="utf-8") as file:
            assert [row[:2] for row in csv.reader(file)][1:] == [[a or "", b or ""] for a, b in rows]
