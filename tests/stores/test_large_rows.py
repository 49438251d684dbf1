"""Rows of any size: large ones are written to columnar files few at a time, and as small ones are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector.base.records import JSON, Record, Schema
from connector.stores import files
from connector.stores.columnar import writer as columnar_writer
from connector.stores.columnar.database import Database

ADDED: Mapping[str, Schema] = {
    "answer": {"type": "string"},
    "Left Out": {"type": "boolean"},
    "n": {"type": "integer"},
    "scores": {"type": "array", "items": {"type": "number"}},
    "found": {"type": "object", "properties": {"a b": {"type": "string"}, 'q"q': {"type": "array"}}},
    "any": {},
}


def added_to(place: int) -> dict[str, JSON] | None:
    """Returns the new cells of a row; `None` for one that is left out."""
    if place % 5 == 2:
        return None
    rows: list[dict[str, JSON]] = [
        {"answer": 'it\'s "x"\n\\é🙂', "Left Out": True, "n": 2**62, "scores": [0.1, 5], "found": {"a b": "1"}},
        {"answer": None, "n": None, "scores": [], "found": {'q"q': [1, {"z": None}]}, "any": {"deep": [1, 2.5]}},
        {"answer": "", "Left Out": False, "n": -1, "scores": None, "found": None, "any": "text"},
        {"any": 0.1},
    ]
    return {name: rows[place % 4].get(name) for name in ADDED}


def written(folder: Path, given: Path | None, name: str) -> list[tuple[Any, ...]]:
    path = folder / name
    output = files.Options(path=str(path))
    if given is None:
        with files.sink(output, ADDED, source=None) as sink:
            for place in range(20):
                sink.write(Record(place, {"id": place, "t": f"row {place}"}), added_to(place))
            sink.commit()
    else:
        with files.source(files.Options(path=str(given))) as source, files.sink(output, ADDED, source=source) as sink:
            for item in source.read():
                if isinstance(item, Record):
                    sink.write(item, added_to(item.index))
            sink.commit()
    read = "read_parquet" if name.endswith("parquet") else "read_csv"
    return duckdb.execute(f"FROM {read}('{path}'{', all_varchar = true' if read == 'read_csv' else ''})").fetchall()


@pytest.mark.parametrize("given", [None, "jsonl", "csv", "parquet"])
@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_large_rows_are_written_as_small_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, name: str
) -> None:
    path = None if given is None else tmp_path / f"in.{given}"
    if path is not None:
        form = {"jsonl": "FORMAT json", "csv": "HEADER", "parquet": "FORMAT parquet"}[str(given)]
        duckdb.execute(f"COPY (SELECT range AS id, 'row ' || range AS t FROM range(20)) TO '{path}' ({form})")
    found = []
    for least in (1 << 40, 0):
        monkeypatch.setattr(columnar_writer, "_LARGE", least)
        found.append(written(tmp_path, path, name))
    assert found[0] == found[1]
    assert [int(row[0]) for row in found[0]] == [place for place in range(20) if place % 5 != 2]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The memory limits of all databases, when they are closed."""
    found: list[str] = []
    close = Database.__exit__

    def closed(self: Database, *error: object) -> None:
        found.extend(self.run("SELECT current_setting('memory_limit')")[0])
        close(self, *error)

    monkeypatch.setattr(Database, "__exit__", closed)
    return found


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_large_rows_take_the_memory_of_a_few(tmp_path: Path, limits: list[str], name: str) -> None:
    with files.sink(files.Options(path=str(tmp_path / name)), {"answer": {"type": "string"}}, source=None) as sink:
        for place in range(200):
            sink.write(Record(place, {"id": place, "t": f"{place:06}" * 90_000}), {"answer": "yes"})
        sink.commit()
    assert limits
    assert set(limits) <= {"122.0 MiB", "244.1 MiB"}
    if name == "out.parquet":
        groups = f"FROM parquet_metadata('{tmp_path / name}') SELECT max(row_group_num_rows)"
        assert duckdb.execute(groups).fetchall()[0][0] <= 64
        rows = f"FROM read_parquet('{tmp_path / name}', file_row_number = true)"
        found = duckdb.execute(f"{rows} SELECT count(*), bool_and(id = file_row_number)").fetchall()
        assert found == [(200, True)]
