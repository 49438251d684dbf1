"""JSON lines without DuckDB: what comes out is what the snapshot in DuckDB would give, and none of it is loaded."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.stores import files
from connector.stores.columnar import snapshot
from connector.stores.files import recognise
from connector.stores.formats import FileInput
from connector.stores.formats.jsonl import JsonLines
from connector.stores.staging.position import INTERVAL
from tests.stores.helpers import objects, opened, rows_of, states_of, table
from tests.stores.test_json import ROWS, VALUES, file


def both_ways(path: Path) -> tuple[Any, Any]:
    """Columns and rows of a file, by Python alone and by DuckDB; as text, since 1 and 1.0 are equal."""
    with tempfile.TemporaryDirectory() as folder:
        lines = JsonLines.opened(FileInput("in", [recognise(path)], Path(folder)))
        found = repr((without_format(lines.columns), rows_of(lines)))
    with tempfile.TemporaryDirectory() as folder:
        given = FileInput("in", [recognise(path)], Path(folder))
        with snapshot.opened(given) as columns:
            return found, repr((without_format(columns.columns), rows_of(columns)))


def without_format(schema: Any) -> Any:
    """A schema without the format "decimal", by which a copy with types says what its columns cannot hold."""
    if not isinstance(schema, dict):
        return schema
    return {name: without_format(each) for name, each in schema.items() if (name, each) != ("format", "decimal")}


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_types_and_values_are_those_of_a_snapshot(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = both_ways(file(Path(folder), "".join(json.dumps(row) + "\n" for row in rows)))
    assert one == other


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=5))
def test_so_are_those_of_a_column_of_any_mixture(values: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = both_ways(file(Path(folder), "".join(json.dumps({"a": value}) + "\n" for value in values)))
    assert one == other


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5],
        [1, 2.5, "x"],
        [1, None, 2**60 + 1, 0.5],
        [2**63 - 1, 2**63],
        [-(2**63), 2**64 - 1],
        [1e22, -0.0, 5e-324],
        [True, 1],
        [{"a": 1}, [1], "1", 1],
        [None],
        [9007199254740993],
    ],
)
def test_numbers_are_those_of_a_snapshot(tmp_path: Path, values: list[Any]) -> None:
    one, other = both_ways(file(tmp_path, "".join(json.dumps({"a": value}) + "\n" for value in values)))
    assert one == other


def test_a_read_goes_on_anywhere_and_its_rows_are_numbered(tmp_path: Path) -> None:
    path = file(tmp_path, "".join(f'{{"a": {number}}}\n' for number in range(2 * INTERVAL + 5)))
    with opened(path) as source:
        assert isinstance(source, JsonLines)
        assert [row["a"] for row in rows_of(source, {"rows": INTERVAL + 7})] == list(range(INTERVAL + 7, source.rows))
        assert states_of(source) == [{"rows": INTERVAL}, {"rows": 2 * INTERVAL}, {"rows": 2 * INTERVAL + 5}]
        with pytest.raises(ConfigError, match="does not fit this input"):
            rows_of(source, {"rows": source.rows + 1})


def test_two_reads_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = file(tmp_path, "".join(f'{{"a": {number}}}\n' for number in range(3 * INTERVAL)))
    with opened(path) as source:
        assert all(one == other for one, other in zip(source.read(), source.read(), strict=True))


def test_rows_of_megabytes_are_held_a_few_at_a_time_and_small_ones_by_the_thousand(tmp_path: Path) -> None:
    large, small = json.dumps({"a": "x" * 2**20}) + "\n", '{"a": "x"}\n'
    with opened(file(tmp_path, large * 40)) as source:
        assert len(states_of(source)) > 1
    with opened(file(tmp_path, large + small * (2 * INTERVAL - 1), "mixed.jsonl")) as source:
        assert states_of(source) == [{"rows": INTERVAL}, {"rows": 2 * INTERVAL}]


def test_lines_are_found_whatever_ends_them(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf\n {"a": 1} \r\n\n{"a": 2}\n\r\n{"a": 3}'
    with opened(file(tmp_path, content)) as source:
        assert [row["a"] for row in rows_of(source)] == [1, 2, 3]
    with opened(file(tmp_path, gzip.compress(content), "in.jsonl.gz")) as source:
        assert [row["a"] for row in rows_of(source)] == [1, 2, 3]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5, 6, None])
def test_a_limit_may_end_among_lines_that_are_read_together(tmp_path: Path, limit: int | None) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path, text in zip(paths, ('{"a": 0}\n{"a": 1}', ' {"a": 2} \r\n\n{"a": 3}\n', '{"a": 4}'), strict=True):
        path.write_text(text, newline="")
    given = FileInput("in", list(map(recognise, paths)), tmp_path, limit)
    found = JsonLines.opened(given)
    assert [row["a"] for row in rows_of(found)] == list(range(5))[:limit]
    assert found.rows == len(range(5)[:limit])


def test_what_surrounds_a_compressed_line_counts_as_little_as_elsewhere(tmp_path: Path) -> None:
    for compression in ("uncompressed", "zstd"):
        path = tmp_path / f"in.jsonl{'.zst' if compression == 'zstd' else ''}"
        sql = """SELECT unnest([chr(11) || '{"a": 1}' || chr(9), '  {"a": 2}  ']) AS line"""
        duckdb.execute(f"COPY ({sql}) TO '{path}' (FORMAT csv, HEADER false, QUOTE '', COMPRESSION {compression})")
        with opened(path) as source:
            assert [row["a"] for row in rows_of(source)] == [1, 2]


class Unknown:
    """A source whose columns only its rows tell."""

    name, rows = "unknown", None
    primary_key: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.columns: dict[str, Any] = {}

    def read(self, state: Any = None) -> Any:
        raise NotImplementedError


def test_a_long_row_is_compressed_whole_with_the_nulls_that_it_got(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl.zst"
    with files.sink(files.Options(path=str(output)), {}, source=Unknown()) as sink:
        sink.write(Record(0, {"a": "x" * 2_200_000}), {})
        sink.write(Record(1, {"b": 1}), {})
        sink.commit()
    assert table(output) == [{"a": "x" * 2_200_000, "b": None}, {"a": None, "b": 1}]


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv", "out.parquet"])
def test_the_order_of_columns_does_not_depend_on_which_call_ends_first(tmp_path: Path, name: str) -> None:
    with files.sink(files.Options(path=str(tmp_path / name)), {"n": {}}, source=Unknown()) as sink:
        for index, row in ((2, {"c": 1, "a": 1}), (1, {"b": 1, "a": 1}), (0, {"a": 1})):
            sink.write(Record(index, row), {"n": index})
        sink.commit()
    assert [list(row) for row in table(tmp_path / name)] == [["a", "b", "c", "n"]] * 3


def test_a_broken_line_is_found_behind_many_others(tmp_path: Path) -> None:
    path = file(tmp_path, '{"a": 1}\n' * 100_000 + '{"a": \n')
    with pytest.raises(ConfigError, match=r"line 100001, column 6"), opened(path):
        pass


LOADED = """
import sys
from connector.base.records import Record
from connector.stores import files

with files.source(files.Options(path=sys.argv[1])) as source:
    with files.sink(files.Options(path=sys.argv[2]), {"x": {"type": "integer"}}, source=source) as sink:
        for item in source.read():
            if isinstance(item, Record):
                sink.write(item, {"x": 1})
        sink.commit()
print("duckdb" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given_name", "output", "needed"),
    [
        ("in.jsonl", "out.jsonl", "False"),
        ("in.jsonl", "out.json.gz", "False"),
        ("in.jsonl", "out.ndjson.zst", "True"),
        ("in.jsonl", "out.parquet", "True"),
        ("in.csv", "out.jsonl", "True"),
    ],
)
def test_duckdb_is_loaded_only_where_it_is_needed(tmp_path: Path, given_name: str, output: str, needed: str) -> None:
    content = "a\n1\n" if given_name.endswith("csv") else '{"a": 1}\n'
    command = [sys.executable, "-c", LOADED, str(file(tmp_path, content, given_name)), str(tmp_path / output)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == needed


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": 1}, {"a": 2}, {"a": 3}]])
def test_an_array_is_one_whatever_is_left_out_of_it(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path, output = file(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)), tmp_path / "out.json"
    with opened(path) as source, files.sink(files.Options(path=str(output)), {}, source=source) as sink:
        for item in source.read():
            if hasattr(item, "data"):
                sink.write(item, None if item.data["a"] == 1 else {})
        sink.commit()
    assert json.loads(output.read_text()) == [row for row in rows if row["a"] != 1]


def test_a_whole_number_of_any_size_stays_one_in_json(tmp_path: Path) -> None:
    path, output = file(tmp_path, '{"a": 1}\n'), tmp_path / "out.jsonl"
    with opened(path) as source, files.sink(files.Options(path=str(output)), {"n": {}}, source=source) as sink:
        sink.write(next(iter(source.read())), {"n": [2**64 - 1, 2**64]})
        sink.commit()
    assert objects(output) == [{"a": 1, "n": [2**64 - 1, 2**64]}]
