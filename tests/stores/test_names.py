"""Names survive: columns that differ only in case, with dots, spaces, quotes, brackets, emoji, or without a letter."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.tables import open_table
from tests.stores.helpers import enrich, opened, rows_of

NAMES: Final = [
    *(
        "id",
        "ID",
        "a.b",
        "a b",
        "a[0]",
        "it's",
        'say "x"',
        "🙂",
        "{{ x }}",
        "%s",
        "a,b",
        "a\nb",
        "select",
        "$1",
        "ß",
        "SS",
    ),
]
LABEL: Final[dict[str, Any]] = {"Label": {"type": "string"}, "LABEL": {"type": "string"}}


def row(place: int) -> dict[str, Any]:
    return {name: f"{name} {place}" for name in NAMES}


ROWS: Final = [row(1), row(2)]


def written(folder: Path, ending: str) -> Path:
    path = folder / f"in.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([NAMES, *([*each.values()] for each in ROWS)])
    else:
        text = json.dumps(ROWS) if ending == "json" else "".join(json.dumps(each) + "\n" for each in ROWS)
        path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """By another reader than ours."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        return [dict(zip(head, each, strict=True)) for each in rows]
    found: list[dict[str, Any]] = json.loads(text) if path.suffix == ".json" else [*map(json.loads, text.splitlines())]
    return found


@pytest.mark.parametrize("given", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_names_are_the_same_after_reading_and_writing(tmp_path: Path, given: str, ending: str) -> None:
    path = written(tmp_path, given)
    with opened(path) as source:
        assert list(source.columns) == NAMES
        assert rows_of(source) == ROWS
    output = tmp_path / f"out.{ending}"
    enrich(path, output, LABEL, {"Label": "x", "LABEL": "y"})
    assert read(output) == [{**each, "Label": "x", "LABEL": "y"} for each in ROWS]


def test_parquet_that_duckdb_writes_tells_no_case_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"id" and "ID" differ only in case'):
        enrich(written(tmp_path, "jsonl"), tmp_path / "out.parquet", {}, {})


def test_so_do_several_files_of_parquet_whose_columns_are_matched_by_name(tmp_path: Path) -> None:
    written(tmp_path, "parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "in2.parquet")
    with pytest.raises(ConfigError, match="differ only in case"), opened(tmp_path / "in*.parquet"):
        pass


def test_columns_of_arrow_keep_their_names() -> None:
    table = open_table(pa.Table.from_pylist(ROWS), "")
    assert [each.data for each in table.records() if isinstance(each, Record)] == ROWS


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_key_may_be_empty(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"": 1, " ": 2}\n')
    enrich(path, tmp_path / f"out.{ending}", {}, {})
    assert read(tmp_path / f"out.{ending}") == [{"": 1, " ": 2}]
