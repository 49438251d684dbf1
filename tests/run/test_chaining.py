"""The output of one run is the input of the next: its provenance is replaced, and said once, or kept under a name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from connector import Connector, cli
from connector.base.errors import ConfigError
from connector.base.records import Outcome
from tests.databases import base
from tests.endpoint import Endpoint
from tests.stores.helpers import table

ROWS: Final = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
FORMATS: Final = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz")


def config(endpoint: Endpoint, name: str, **more: Any) -> dict[str, Any]:
    return {
        "url": endpoint.base_url,
        "model": "m",
        "prompt": f"{name}: {{{{ text }}}}",
        "response_format": {name: "{{ content }}"},
        "cache": "none",
        **more,
    }


def run(folder: Path, given: Path, output: str, options: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(options))
    path = folder / output
    assert cli.run(["enrich", str(given), "--config", str(folder / "config.json"), "-o", str(path), "-q"]) == 0
    return path


def earlier(row: dict[str, Any]) -> set[str]:
    return {name.partition("_status")[0] for name in row if name in ("_llm", "_llm_status", "before", "before_status")}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    ("ending", "then"), [*((each, each) for each in FORMATS), ("csv", "parquet"), ("parquet", "jsonl")]
)
def test_a_file_can_be_the_next_input(
    tmp_path: Path, first: Path, ending: str, then: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    once = run(tmp_path, first, f"once.{ending}", config(endpoint, "one"))
    caplog.clear()
    twice = table(run(tmp_path, once, f"twice.{then}", config(endpoint, "two")))
    assert [(row["id"], bool(row["one"]), bool(row["two"]), earlier(row)) for row in twice] == [
        (1, True, True, {"_llm"}),
        (2, True, True, {"_llm"}),
    ]
    assert len([each for each in caplog.messages if "is replaced: set keep_llm_as to keep it" in each]) == 1
    kept = table(run(tmp_path, once, f"kept.{then}", config(endpoint, "two", keep_llm_as="before")))
    assert [earlier(row) for row in kept] == [{"_llm", "before"}] * 2
    if "csv" not in ending + then and "tsv" not in ending + then:
        old, new = kept[0]["before"], kept[0]["_llm"]
        assert old["prompt_hash"] != new["prompt_hash"]


@pytest.mark.parametrize("way", ["dicts", "Arrow"])
def test_rows_that_python_gets_can_be_the_next_input(
    way: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    rows: Any = pa.Table.from_pylist(ROWS) if way == "Arrow" else ROWS
    once = list(Connector(config(endpoint, "one")).enrich(rows))
    for keep, names in (("", {"_llm"}), ("before", {"_llm", "before"})):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            twice = list(Connector(config(endpoint, "two", keep_llm_as=keep)).enrich(once))
        told = [each for each in caplog.messages if "keep_llm_as" in each]
        assert len(told) == (0 if keep else 1)
        found = twice if way == "dicts" else pa.Table.from_batches(twice).to_pylist()
        assert [earlier(row) for row in found] == [names] * 2
        assert [row["_llm"]["status"] for row in found] == ["success"] * 2


def test_rows_of_a_database_and_of_standard_input_can_be_the_next_input(tmp_path: Path, endpoint: Endpoint) -> None:
    made = base("sqlite", tmp_path)
    made.run("CREATE TABLE t (id INTEGER, text TEXT, _llm TEXT, _llm_status TEXT)")
    made.run("INSERT INTO t VALUES (1, 'a', '{}', 'success')")
    for keep, names in (("", {"_llm"}), ("before", {"_llm", "before", "before_status"})):
        options = config(endpoint, "two", keep_llm_as=keep, input={"type": "sql", "url": made.url, "table": "t"})
        (row,) = [each.row for each in Connector(options).read() if isinstance(each, Outcome)]
        assert {name for name in row if name.startswith(("_llm", "before"))} == names


def test_a_name_that_the_input_has_already_is_refused(tmp_path: Path, endpoint: Endpoint) -> None:
    rows = [{"text": "a", "_llm": {"status": "success"}, "before": 1}]
    with pytest.raises(ConfigError, match='"before"'):
        list(Connector(config(endpoint, "two", keep_llm_as="before")).enrich(rows))
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n")
    options = config(endpoint, "two", keep_llm_as="before", input={"type": "files", "path": str(path)})
    with pytest.raises(ConfigError, match='"before"'):
        list(Connector(options).read())
