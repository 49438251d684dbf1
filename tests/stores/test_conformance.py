"""What every store has to do, run over all that there are: a new one is found by itself and has to be given a stand."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import orjson
import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from connector import stores
from connector.base.errors import ConfigError
from connector.base.records import Checkpoint, Record
from connector.stores import Source, Store, files, sql, stdio

Rows = Sequence[dict[str, Any]]

TYPED: list[Store] = [files, sql, stdio]
"""Checked by mypy: the modules are what the contract says."""


class Stand(NamedTuple):
    """How to give a store an input and how to look at its output. `reset` makes the same input readable again."""

    options: BaseModel
    source: Callable[..., AbstractContextManager[Source]]
    output: BaseModel
    sink: Callable[..., Any]
    written: Callable[[], list[dict[str, Any]] | None]
    ordered: bool
    counts: bool = True  # whether a state says how many rows come before it; else it says which


def _files(folder: Path, rows: Rows) -> Stand:
    (folder / "in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    output = folder / "out.jsonl"

    def written() -> list[dict[str, Any]] | None:
        return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else None

    return Stand(
        files.Options(path=str(folder / "in.jsonl")),
        files.source,
        files.Options(path=str(output)),
        files.sink,
        written,
        ordered=True,
    )


def _sql(folder: Path, rows: Rows) -> Stand:
    path = folder / "in.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE reviews (id INTEGER PRIMARY KEY, text TEXT, score REAL)")
        database.executemany("INSERT INTO reviews VALUES (:id, :text, :score)", rows)

    def written() -> list[dict[str, Any]] | None:
        with closing(sqlite3.connect(path)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'enriched'").fetchall():
                return None
            cursor = database.execute("SELECT * FROM enriched")
            return [dict(zip((each[0] for each in cursor.description), row, strict=True)) for row in cursor]

    return Stand(
        sql.Options(url=SecretStr(f"sqlite:///{path}"), table="reviews"),
        sql.source,
        sql.Options(url=SecretStr(f"sqlite:///{path}"), table="enriched"),
        sql.sink,
        written,
        ordered=False,
        counts=False,
    )


def _stdio(_: Path, rows: Rows) -> Stand:
    given = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    output = io.BytesIO()
    return Stand(
        stdio.Options(),
        lambda options, **more: stdio.source(options, stream=io.BytesIO(given), **more),
        stdio.Options(),
        lambda options, added, **more: stdio.sink(options, added, stream=output, **more),
        lambda: [json.loads(line) for line in output.getvalue().splitlines()] or None,
        ordered=True,
    )


STANDS = {"files": _files, "sql": _sql, "stdio": _stdio}


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "text": f'row {i} "é😀"\n', "score": i / 4 if i % 7 else None} for i in range(count)]


@pytest.fixture(params=stores.KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Rows], Stand]:
    return lambda rows: STANDS[request.param](tmp_path, rows)


@pytest.fixture(params=stores.KINDS)
def store(request: pytest.FixtureRequest) -> Store:
    return stores.load(request.param)


def records(source: Source, state: Any = None) -> list[Record]:
    return [item for item in source.read(state) if isinstance(item, Record)]


def checkpoints(source: Source, state: Any = None) -> list[Checkpoint]:
    return [item for item in source.read(state) if isinstance(item, Checkpoint)]


def test_every_module_of_the_family_is_one_and_stands_here() -> None:
    folder = Path(stores.__path__[0])
    assert (
        set(stores.KINDS) == {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")} == set(STANDS)
    )


def test_an_unknown_store_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ConfigError, match='no store "excel": choose one of files, sql, stdio'):
        stores.load("excel")


def test_a_store_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for name in ("sql", "databases.reading.query", "databases.connection", "databases.loading.table"):
        monkeypatch.delitem(sys.modules, f"connector.stores.{name}")
    with pytest.raises(ConfigError, match=r"pip install 'openai-compatible-connector\[sql\]'"):
        stores.load("sql")


def test_no_library_is_imported_before_a_store_is_chosen() -> None:
    program = "import sys, connector.stores; print(sorted({'duckdb', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


def test_options_have_a_title_and_a_description_for_the_form_that_is_drawn_from_them(store: Store) -> None:
    schema = store.Options.model_json_schema()
    assert schema["title"]
    assert schema["properties"]["type"]["const"] in stores.KINDS
    for name, field in schema["properties"].items():
        assert field["title"]
        assert name == "type" or field["description"]
        assert "anyOf" not in field


def test_options_refuse_what_they_do_not_know_and_do_not_change(store: Store, make: Callable[[Rows], Stand]) -> None:
    with pytest.raises(ValidationError):
        store.Options(nonsense=1)
    options: Any = make([]).options
    with pytest.raises(ValidationError):
        options.name = "other"


def test_records_come_in_order_with_their_index_and_the_name_of_the_stream(make: Callable[[Rows], Stand]) -> None:
    rows = rows_of(2_500)
    stand = make(rows)
    with stand.source(stand.options) as source:
        got = records(source)
        assert [record.index for record in got] == list(range(2_500))
        assert [record.data for record in got] == rows
        assert {record.stream for record in got} == {source.name}
        assert source.name


def test_columns_and_row_count_are_true_where_they_are_known(make: Callable[[Rows], Stand]) -> None:
    stand = make(rows_of(30))
    with stand.source(stand.options) as source:
        got = records(source)
        assert source.rows in (30, None)
        schema = {"type": "object", "properties": dict(source.columns), "additionalProperties": not source.columns}
        for record in got:
            jsonschema.validate(record.data, schema)
            assert orjson.loads(orjson.dumps(record.data)) == record.data


def test_a_checkpoint_stands_behind_every_thousand_records_and_behind_the_last(make: Callable[[Rows], Stand]) -> None:
    stand = make(rows_of(2_500))
    with stand.source(stand.options) as source:
        items = [item for item in source.read() if isinstance(item, Record | Checkpoint)]
        places = [place for place, item in enumerate(items) if isinstance(item, Checkpoint)]
        assert places == [1_000, 2_001, 2_502]


def test_reading_goes_on_behind_any_checkpoint_without_losing_or_repeating_a_record(
    make: Callable[[Rows], Stand],
) -> None:
    stand = make(rows_of(2_500))
    with stand.source(stand.options) as source:
        whole = records(source)
        states = [json.loads(json.dumps(checkpoint.state)) for checkpoint in checkpoints(make_again(stand, source))]
    for state, done in zip(states, (1_000, 2_000, 2_500), strict=True):
        with stand.source(stand.options) as source:
            assert records(source, state) == whole[done:]


def make_again(stand: Stand, source: Source) -> Source:
    """The source itself where it can be read twice; a stream cannot, so it is opened anew."""
    return stand.source(stand.options).__enter__() if isinstance(source, stdio.Reader) else source


def test_the_final_state_gives_no_record_and_one_checkpoint(make: Callable[[Rows], Stand]) -> None:
    stand = make(rows_of(7))
    with stand.source(stand.options) as source:
        *_, last = source.read()
    assert isinstance(last, Checkpoint)
    with stand.source(stand.options) as source:
        assert list(source.read(last.state)) == [last]


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_no_state_is_the_start(make: Callable[[Rows], Stand], nothing: Any) -> None:
    stand = make(rows_of(2))
    with stand.source(stand.options) as source:
        assert len(records(source, nothing)) == 2


def test_an_empty_input_is_one_checkpoint(make: Callable[[Rows], Stand]) -> None:
    stand = make([])
    with stand.source(stand.options) as source:
        assert [type(item) for item in source.read()] == [Checkpoint]


@pytest.mark.parametrize(
    "state",
    [
        {"rows": -1},
        {"rows": "7"},
        {"page": 2},
        [3],
        "seven",
        {"rows": 3, "cursor_field": "id", "cursor": 2, "rows_at_cursor": 1},
    ],
)
def test_a_state_of_another_input_is_recognized(make: Callable[[Rows], Stand], state: Any) -> None:
    stand = make(rows_of(7))
    with (
        stand.source(stand.options) as source,
        pytest.raises(ConfigError, match=r"the saved state does not fit this input"),
    ):
        list(source.read(state))


def test_a_state_of_more_rows_than_there_are_is_refused_where_reads_go_on_by_their_count(
    make: Callable[[Rows], Stand],
) -> None:
    stand = make(rows_of(7))
    refused = pytest.raises(ConfigError, match="saved state") if stand.counts else nullcontext()
    with stand.source(stand.options) as source, refused:
        list(source.read({"rows": 8}))


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (3, 3), (1_000, 1_000), (5_000, 1_200)])
def test_a_limit_is_a_limit(make: Callable[[Rows], Stand], limit: int, count: int) -> None:
    stand = make(rows_of(1_200))
    with stand.source(stand.options, limit=limit) as source:
        items = list(source.read())
    assert sum(isinstance(item, Record) for item in items) == count
    assert isinstance(items[-1], Checkpoint)
    assert items[-1].state["rows"] == count


def test_a_limit_counts_the_rows_before_a_state_too(make: Callable[[Rows], Stand]) -> None:
    stand = make(rows_of(20))
    with stand.source(stand.options, limit=10) as source:
        *_, last = checkpoints(source)
    make_again(stand, source)
    with stand.source(stand.options, limit=12) as source:
        assert [record.index for record in records(source, last.state)] == [10, 11]


def test_an_unknown_cursor_is_refused(make: Callable[[Rows], Stand]) -> None:
    stand = make(rows_of(3))
    with pytest.raises(ConfigError, match="cursor_field"), stand.source(stand.options, cursor_field="updated"):
        pass


def outcome(record: Record) -> dict[str, Any]:
    return {"label": f"label {record.index}", "tokens": record.index, "_llm": {"status": "success"}}


ADDED: Mapping[str, Any] = {
    "label": {"type": "string"},
    "tokens": {"type": "integer"},
    "_llm": {"type": "object", "properties": {"status": {"type": "string"}}},
}


def test_rows_written_in_any_order_are_all_there_after_the_commit(make: Callable[[Rows], Stand]) -> None:
    rows = rows_of(300)
    stand = make(rows)
    with stand.source(stand.options) as source, stand.sink(stand.output, ADDED, source=source) as sink:
        got = records(source)
        random.Random(1).shuffle(got)
        for record in got:
            sink.write(record, None if record.index % 10 == 3 else outcome(record))
        sink.flush()
        sink.commit()
    written = stand.written()
    assert written is not None
    if not stand.ordered:
        written.sort(key=lambda row: row["id"])
    expected = [
        {**record.data, **outcome(record)}
        for record in sorted(got, key=lambda each: each.index)
        if record.index % 10 != 3
    ]
    assert [{**row, "_llm": unpacked(row["_llm"])} for row in written] == expected


def unpacked(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def written_whole(stand: Stand, added: Mapping[str, Any], values: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Read all, write all, and look."""
    with stand.source(stand.options) as source, stand.sink(stand.output, added, source=source) as sink:
        for record in records(source):
            sink.write(record, values)
        sink.commit()
    return stand.written()


def test_an_added_column_takes_the_place_of_an_input_column_of_its_name(make: Callable[[Rows], Stand]) -> None:
    written = written_whole(make(rows_of(3)), {"text": {"type": "string"}}, {"text": "other"})
    assert written is not None
    assert [row["text"] for row in written] == ["other"] * 3
    assert set(written[0]) == {"id", "text", "score"}


def test_columns_that_differ_only_in_case_are_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    """Where the output cannot tell them apart: Parquet."""
    stand = STANDS["files"](tmp_path, rows_of(1))
    with stand.source(stand.options) as source:
        sink = stand.sink(files.Options(path=str(tmp_path / "out.parquet")), {"Text": {}}, source=source)
        with pytest.raises(ConfigError, match='"text" and "Text" differ only in case'):
            sink.__enter__()


@pytest.mark.parametrize("kind", ["files", "sql"])
def test_what_is_not_committed_is_not_there(kind: str, tmp_path: Path) -> None:
    stand = STANDS[kind](tmp_path, rows_of(3))
    with stand.source(stand.options) as source, stand.sink(stand.output, ADDED, source=source) as sink:
        for record in records(source):
            sink.write(record, outcome(record))
    assert stand.written() is None
    assert {path.name for path in tmp_path.iterdir()} <= {"in.jsonl", "in.db"}
