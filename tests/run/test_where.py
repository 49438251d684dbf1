"""`where`: rows for which it is false are skipped, without a call, whatever they come through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connector import Config, ConfigError, Connector, Status
from connector.base.records import Record
from connector.run.plan import Plan
from connector.run.where import Where
from tests.endpoint import Endpoint
from tests.patience import PATIENCE

ROWS: list[dict[str, Any]] = [
    {"id": 1, "stars": 1},
    {"id": 2, "stars": 5},
    {"id": 3, "stars": 2},
    {"id": 4, "stars": None},
]
WHERE = "{{ stars is none or stars < 3 }}"


def config(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"url": endpoint.base_url, "model": "m", "prompt": "Row {{ id }}", "cache": "none", "where": WHERE, **more}


def statuses(rows: list[dict[str, Any]]) -> list[str]:
    return [row["_llm"]["status"] for row in rows]


FEW = ["success", "skipped", "success", "success"]


def program(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "connector", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE)


TRUE: tuple[object, ...] = (True, 1, -1, 0.5, "x", "yes", "true", "False positive", [0], {"a": 1}, "1")
FALSE: tuple[object, ...] = (
    *(False, 0, 0.0, None, "", "  ", "false", " FALSE ", "no", "0", "0.0", "None", "null"),
    *([], {}, float("nan")),
)


@pytest.mark.parametrize(("value", "is_true"), [*((each, True) for each in TRUE), *((each, False) for each in FALSE)])
def test_what_is_true_and_what_is_false(value: object, is_true: bool) -> None:
    assert Where("{{ a }}", {}).holds({"a": value}) is is_true


@pytest.mark.parametrize(
    ("source", "is_true"),
    [("{% if a > 1 %}yes{% endif %}", True), ("{% if a > 2 %}yes{% endif %}", False), (" {{ a > 2 }} ", False)],
)
def test_a_text_is_judged_as_it_is_rendered(source: str, is_true: bool) -> None:
    assert Where(source, {}).holds({"a": 2}) is is_true


def test_python_skips_the_rows_and_counts_them_apart(endpoint: Endpoint) -> None:
    connector = Connector(config(endpoint))
    rows = list(connector.enrich(ROWS))
    assert statuses(rows) == FEW
    assert (rows[1]["content"], rows[1]["_llm"]["error"]) == (None, None)
    assert sorted(call.prompt for call in endpoint.journal.calls) == ["Row 1", "Row 3", "Row 4"]
    assert (connector.summary.failed, connector.summary.calls) == (0, 3)
    assert connector.summary.statuses[Status.SKIPPED] == 1


@pytest.mark.parametrize("on_error", ["record", "skip", "fail"])
def test_a_skipped_row_is_not_a_failed_row(endpoint: Endpoint, on_error: str) -> None:
    assert statuses(list(Connector(config(endpoint, on_error=on_error)).enrich(ROWS))) == FEW


def test_the_command_writes_them_and_leaves_them_out_of_the_dead_letter(endpoint: Endpoint, tmp_path: Path) -> None:
    source, output, dead = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "dead.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = ["--url", endpoint.base_url, "--model", "m", "--prompt", "Row {{ id }}", "--where", WHERE, "--strict"]
    done = program("enrich", source, "-o", output, "--dead-letter", dead, *options)
    assert done.returncode == 0, done.stderr
    assert statuses([json.loads(line) for line in output.read_text().splitlines()]) == FEW
    assert dead.read_text() == ""
    assert "3 success, 1 skipped" in done.stderr


def test_a_platform_reads_them(endpoint: Endpoint, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    file = tmp_path / "c.json"
    file.write_text(json.dumps(config(endpoint, input={"type": "files", "path": str(source)})))
    catalog = tmp_path / "catalog.json"
    stream = {"name": "in", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    configured = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
    catalog.write_text(json.dumps({"streams": [configured]}))
    done = program("read", "--config", file, "--catalog", catalog)
    assert done.returncode == 0, done.stderr + done.stdout
    records = [json.loads(line)["record"] for line in done.stdout.splitlines() if '"RECORD"' in line]
    assert sorted(statuses([each["data"] for each in records])) == sorted(FEW)
    assert not any("meta" in each for each in records)


def test_a_mapper_may_have_another_condition_for_each_stream(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    streams = {"a": {"where": "{{ id == 1 }}"}, "b": {}}
    file.write_text(json.dumps(config(endpoint, where="{{ id == 2 }}", streams=streams)))
    schema = {"properties": {"id": {"type": "integer"}}}
    lines = [{"type": "SCHEMA", "stream": name, "schema": schema, "key_properties": []} for name in "ab"]
    lines += [{"type": "RECORD", "stream": name, "record": {"id": number}} for name in "ab" for number in (1, 2)]
    done = program("--config", file, stdin="".join(json.dumps(line) + "\n" for line in lines))
    assert done.returncode == 0, done.stderr
    records = [each for line in done.stdout.splitlines() if (each := json.loads(line))["type"] == "RECORD"]
    assert [each["record"]["content"] is not None for each in records] == [True, False, False, True]


def test_a_missing_column_in_the_condition_is_reported_before_any_call(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match=r'where: there is no column "rating" in the input; there are: id'):
        Plan(Config(**config(endpoint, where="{{ rating < 3 }}")), ["id"])


def test_a_row_that_it_cannot_judge_fails_and_says_why(endpoint: Endpoint) -> None:
    (row,) = Connector(config(endpoint, where="{{ stars < 3 }}")).enrich(ROWS[3:])
    assert row["_llm"]["status"] == "error"
    assert row["_llm"]["error"]["message"].startswith("where: ")
    assert endpoint.journal.calls == []


def test_a_condition_that_is_the_same_for_every_row_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"where: is the same for every row: .*\{\{ stars < 3 \}\}"):
        Config(model="m", prompt="x", where="stars < 3")


def test_many_skipped_rows_are_not_gathered_first(endpoint: Endpoint) -> None:
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for taken in range(10_000):
            yield {"id": taken, "stars": 5}

    first = next(iter(Connector(config(endpoint)).enrich(rows())))
    assert first["_llm"]["status"] == "skipped"
    assert taken < 1_000


def test_the_record_that_cannot_be_read_fails_whatever_it_says() -> None:
    requests = Plan(Config(model="m", prompt="x", where="{{ false }}")).requests
    assert requests.wants(Record(0, {}, problem="broken"))
    assert not requests.wants(Record(0, {}))
