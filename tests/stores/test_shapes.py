"""What rows look like, learned as they pass; and the room that a private database takes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import ConfigError, StorageError
from connector.stores import files
from connector.stores.columnar.columns import settle, structure
from connector.stores.columnar.database import Database
from connector.stores.files import find, stem
from connector.stores.staging.shapes import Shape, check_names
from connector.stores.staging.spool import Spool
from tests.stores.helpers import enrich, opened, table

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3), max_size=8)


def learned(rows: Iterable[dict[str, Any]]) -> Shape:
    shape = Shape.of_table()
    for row in rows:
        shape.learn(row)
    return shape


@given(OBJECTS)
def test_every_row_that_was_learned_fits_the_schema(rows: list[dict[str, Any]]) -> None:
    schema = {"type": "object", "properties": learned(rows).columns, "additionalProperties": False}
    for row in rows:
        jsonschema.validate(row, schema)


@given(OBJECTS)
def test_what_it_calls_texts_are_texts_in_every_row(rows: list[dict[str, Any]]) -> None:
    keys = {key for row in rows for key in row}
    assert set(learned(rows).texts) == {key for key in keys if all(type(row.get(key)) is str for row in rows)}


@given(OBJECTS)
def test_the_order_of_rows_does_not_matter(rows: list[dict[str, Any]]) -> None:
    assert learned(rows).columns == learned(reversed(rows)).columns


@given(OBJECTS)
def test_what_was_learned_settles_itself(rows: list[dict[str, Any]]) -> None:
    for schema in learned(rows).columns.values():
        kind = settle(None, structure(schema))
        assert settle(kind, structure(schema)) == kind
        assert settle(kind, None) == kind


def test_more_combinations_than_are_remembered_are_still_learned() -> None:
    names = [f"c{i}" for i in range(12)]
    rows = (
        {name: 1 for name, there in zip(names, bits, strict=True) if there}
        for bits in itertools.product((0, 1), repeat=12)
    )
    shape = learned(rows)
    assert set(shape.columns) == set(names)
    assert not shape.texts
    assert len(shape.seen) <= 1_000


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], r'out.csv: there are two columns "a": rename the column'),
        (["Straße", "STRASSE"], "differ only in case"),
        (["a", ""], "a column has no name"),
        (["a\0b"], "a column has no name that can be written"),
    ],
)
def test_names_that_no_table_can_have_are_reported(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_names(names, "out.csv")
    check_names(["a", "b"], "out.csv")


def test_a_spool_gives_rows_back_in_order_whatever_the_order_they_came_in(tmp_path: Path) -> None:
    with Spool(tmp_path / "rows.jsonl", gap=b"-\n") as spool:
        for index in (3, 0, 5, 1):
            spool.write(index, {"i": index})
        expected = [b'{"i":0}\n', b'{"i":1}\n', b"-\n", b'{"i":3}\n', b"-\n", b'{"i":5}\n']
        assert list(spool.lines()) == expected
        assert (len(spool), spool.longest) == (6, 8)


def test_a_database_takes_more_memory_only_when_it_needs_it(tmp_path: Path) -> None:
    with Database(tmp_path) as database:
        database.run("CREATE TABLE input AS SELECT range AS i, repeat('x', 200_000) AS t FROM range(600)")

        def limit() -> str:
            ((value,),) = database.run("SELECT current_setting('memory_limit')")
            return str(value)

        before = limit()
        rows = itertools.chain.from_iterable(database.stream(lambda start: f"FROM input WHERE i >= {start}"))
        assert [i for i, _ in rows] == list(range(600))
        assert limit() != before


def test_large_rows_are_read_few_at_a_time_rather_than_in_more_memory(tmp_path: Path) -> None:
    with Database(tmp_path) as database:
        size = "CASE WHEN range BETWEEN 1_000 AND 1_300 THEN 200_000 ELSE 2 END"
        database.run(f"CREATE TABLE input AS SELECT range AS i, repeat('x', {size}) AS t FROM range(3_000)")
        batches = list(database.rows("i, t", 5))
        assert [i for batch in batches for i, _ in batch] == list(range(5, 3_000))
        assert max(sum(len(text) for _, text in batch) for batch in batches) < 16 << 20
        assert len(batches) < 200
        assert database.run("SELECT current_setting('memory_limit')") == [("15.2 MiB",)]


def test_an_error_of_the_database_that_is_not_about_room_stands(tmp_path: Path) -> None:
    with Database(tmp_path) as database:
        with pytest.raises(duckdb.CatalogException):
            database.run("FROM nowhere")
        with pytest.raises(duckdb.CatalogException):
            next(database.stream(lambda _: "FROM nowhere"))
        database.run("CREATE TABLE input AS SELECT 1 AS i")
        with pytest.raises(duckdb.BinderException):
            next(database.rows("nowhere"))


def test_a_database_does_not_reach_for_the_network(tmp_path: Path) -> None:
    with Database(tmp_path) as database, pytest.raises(duckdb.Error, match=r"(?i)extension|httpfs"):
        database.run("FROM read_parquet('https://localhost:1/x.parquet')")


def test_a_full_place_for_temporary_files_is_a_storage_error_that_says_where(tmp_path: Path) -> None:
    rows = "SELECT md5(range::VARCHAR) || md5((range + 1)::VARCHAR) FROM range(2_000_000)"
    (tmp_path / "private").mkdir()
    with Database(tmp_path / "private") as database:
        database.run("SET max_temp_directory_size = '1MB'")
        with pytest.raises(StorageError, match="TMPDIR") as caught:
            database.run(f"CREATE TABLE input AS {rows}")
    assert f"{tmp_path}: nothing more can be written there: free some space" in caught.value.message


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("reviews.csv", "reviews"),
        ("a/reviews.2024.csv.gz", "reviews"),
        ("a/reviews/*.parquet", "reviews"),
        ("a/reviews-*.csv", "reviews"),
        ("*.csv", "records"),
        ("/*.csv", "records"),
        ("../*.csv", "records"),
        ("**/[ab]*.csv", "ab"),
    ],
)
def test_a_stream_has_the_name_of_its_file_or_folder(path: str, name: str) -> None:
    assert stem(path) == name


def test_what_is_not_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").write_text("a\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    for path, message in (
        ("missing.csv", "there is no such file"),
        ("*.parquet", "no file matches it"),
        ("folder.csv", "this is not a file"),
        ("gone.csv", "it cannot be read"),
        ("[ab].*", "files of several formats"),
        ("s3://bucket/a.csv", "only files on this machine"),
        ("", "there is no such file"),
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=message):
            find((path,))
    assert [file.path.name for file in find(("a*",))] == ["a.csv"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find(("~/a.csv",))[0].path == tmp_path / "a.csv"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_more_columns_than_a_spreadsheet_has_are_refused_at_once(tmp_path: Path, ending: str) -> None:
    names = [f"c{number}" for number in range(16_385)]
    path = tmp_path / f"wide.{ending}"
    if ending == "csv":
        path.write_text(f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    else:
        pq.write_table(pa.table({name: [1] for name in names}), path)
    with pytest.raises(ConfigError, match="16,385 columns are more than the 16,384"), opened(path):
        pass


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_so_are_more_columns_of_json_than_memory_can_hold_before_anything_is_paid_for(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / "wide.jsonl"
    path.write_text(json.dumps({f"c{number}": 1 for number in range(4_097)}) + "\n")
    with opened(path) as source, pytest.raises(ConfigError, match=r"4,097 columns .* use JSON lines"):
        files.sink(files.Options(path=str(tmp_path / f"out.{ending}")), {}, source=source).__enter__()
    enrich(path, tmp_path / "out.jsonl", {}, {})
    assert table(tmp_path / "out.jsonl") == table(path)


def test_a_scan_of_many_columns_gets_its_memory_at_once(tmp_path: Path) -> None:
    with Database(tmp_path) as database:
        database.expect(100, "narrow.csv")
        assert database.run("SELECT current_setting('memory_limit')") == [("15.2 MiB",)]
        database.expect(4_000, "wide.csv")
        assert database.run("SELECT current_setting('memory_limit')") == [("488.2 MiB",)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(("rows", "size"), [(2_000, 1_000), (20, 20_000)])
def test_an_output_of_usual_rows_is_not_begun_twice_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, rows: int, size: int
) -> None:
    cramped: list[Exception] = []
    monkeypatch.setattr(Database, "_make_room", lambda _, error: cramped.append(error))
    given, output = tmp_path / "in.jsonl", tmp_path / f"out.{ending}"
    given.write_text(f'{{"text": "{"x" * size}"}}\n' * rows)
    enrich(given, output, {"new": {"type": ["string", "null"]}}, {"new": "y" * size})
    assert cramped == []
    assert len(table(output)) == rows
