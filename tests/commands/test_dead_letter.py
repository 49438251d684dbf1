"""The dead-letter file: failed rows as they were, with their error, ready to be the input of another run."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector.commands import ExitCode
from tests.commands import test_enrich
from tests.commands.test_enrich import SENDS_THE_REST, asked, command, lines, run
from tests.endpoint import Endpoint, act
from tests.patience import PATIENCE

ROWS = [
    {"id": 1, "zip": "007", "text": "fine", "note": None},
    {"id": 2, "zip": "008", "text": "[[fault:400]]", "note": 'a "b",\n=1+1'},
    {"id": 3, "zip": "009", "text": "fine, too", "note": "x"},
    {"id": 4, "zip": "010", "text": None, "note": "y"},
]
FAILED = [row for row in ROWS if row["id"] in (2, 4)]


def options(endpoint: Endpoint, *more: object) -> list[object]:
    return test_enrich.options(endpoint, *SENDS_THE_REST, *more)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    cursor = duckdb.execute(f"FROM '{path}'")
    names = [each[0] for each in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def own(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what a dead-letter file adds."""
    return {name: value for name, value in row.items() if not name.startswith("_dead_letter")}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_failed_rows_go_there_with_their_own_columns_and_their_error(
    tmp_path: Path, source: Path, endpoint: Endpoint, ending: str
) -> None:
    output, dead = tmp_path / "out.jsonl", tmp_path / f"dead.{ending}"
    done = run("enrich", source, "-o", output, "--dead-letter", dead, *options(endpoint))
    assert done.returncode == 0, done.stderr
    assert f"2 failed rows written to {dead}" in done.stderr
    rows = read(dead)
    assert [own(row) for row in rows] == FAILED
    told = [row["_dead_letter"] if "_dead_letter" in row else {"status": row["_dead_letter_status"]} for row in rows]
    assert [each["status"] for each in told] == ["error", "error"]
    assert "the endpoint refuses this request" in str(rows[0])
    assert stat.S_IMODE(dead.stat().st_mode) == 0o600
    assert [row["id"] for row in lines(output)] == [1, 2, 3, 4]


def test_the_error_is_all_that_the_output_knows_of_it(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    output, dead = tmp_path / "out.jsonl", tmp_path / "dead.jsonl"
    run("enrich", source, "-o", output, "--dead-letter", dead, *options(endpoint))
    failed = [row["_llm"] for row in lines(output) if row["_llm"]["status"] != "success"]
    assert [row["_dead_letter"] for row in lines(dead)] == failed
    assert failed[0]["error"]["http_status"] == 400


def test_with_skip_failed_rows_are_there_alone(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    config, output, dead = tmp_path / "c.json", tmp_path / "out.jsonl", tmp_path / "dead.jsonl"
    config.write_text(json.dumps({"on_error": "skip", "metadata": "none"}))
    run("enrich", source, "-c", config, "-o", output, "--dead-letter", dead, *options(endpoint))
    assert [row["id"] for row in lines(output)] == [1, 3]
    assert [row["id"] for row in lines(dead)] == [2, 4]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_it_is_an_input_as_it_is_and_its_rows_are_the_same_requests(
    tmp_path: Path, source: Path, endpoint: Endpoint, ending: str
) -> None:
    output, dead, again = tmp_path / "out.jsonl", tmp_path / f"dead.{ending}", tmp_path / "again.jsonl"
    ledger = f"{output}.ledger"
    run("enrich", source, "-o", output, "--dead-letter", dead, *options(endpoint))
    calls = len(endpoint.journal.calls)
    told = run("enrich", dead, "-o", again, "--ledger", ledger, *options(endpoint))
    assert told.returncode == ExitCode.FAILED_ROWS, told.stderr  # none of its rows is answered
    assert len(endpoint.journal.calls) == calls
    further = tmp_path / f"further.{ending}"
    retried = ["--retry-failed", "--dead-letter", further, "--ledger", ledger]
    assert run("enrich", dead, "-o", again, *retried, *options(endpoint)).returncode == ExitCode.FAILED_ROWS
    assert len(endpoint.journal.calls) == calls + 1  # the row with a null text makes no request
    assert endpoint.journal.by_prompt["Classify: [[fault:400]]"] == 2
    rows = lines(again)
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == FAILED
    assert set(rows[0]) == {*ROWS[0], "content", "_llm"}
    assert [own(row) for row in read(further)] == FAILED


def test_rows_that_are_mended_get_their_answer(tmp_path: Path, source: Path) -> None:
    dead, again = tmp_path / "dead.jsonl", tmp_path / "again.jsonl"
    line = ["--ledger", tmp_path / "run.ledger"]
    with Endpoint(lambda call: act(call, "400")) as broken:
        run("enrich", source, "-o", tmp_path / "out.jsonl", "--dead-letter", dead, *line, *options(broken))
    assert len(lines(dead)) == 4
    with Endpoint() as mended:
        run("enrich", dead, "-o", again, *line, *options(mended, "--retry-failed"))
    assert [(row["id"], row["content"]) for row in lines(again)][::2] == [(1, asked("fine")), (3, asked("fine, too"))]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_it_is_there_and_empty_where_no_row_failed(tmp_path: Path, endpoint: Endpoint, ending: str) -> None:
    source, dead = tmp_path / "in.jsonl", tmp_path / f"dead.{ending}"
    source.write_text('{"text": "fine"}\n')
    dead.write_text("of an earlier run")
    assert (
        run("enrich", source, "-o", tmp_path / "o.csv", "--dead-letter", dead, *options(endpoint, "--strict"))
    ).returncode == 0
    assert ending == "jsonl" or read(dead) == []
    assert ending != "jsonl" or dead.read_bytes() == b""


def test_standard_input_may_be_one_and_have_one(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    dead, further = tmp_path / "dead.jsonl", tmp_path / "further.jsonl"
    assert run("enrich", "-", "-o", "-", "--dead-letter", dead, *options(endpoint), stdin=source.read_text()).stdout
    assert [own(row) for row in lines(dead)] == FAILED
    done = run("enrich", "-", "-o", "-", "--dead-letter", further, *options(endpoint), stdin=dead.read_text())
    assert [set(json.loads(line)) for line in done.stdout.splitlines()] == [{*ROWS[0], "content", "_llm"}] * 2
    assert [own(row) for row in lines(further)] == FAILED


def test_a_stopped_run_leaves_none_and_going_on_writes_it(tmp_path: Path) -> None:
    source, output, dead = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "dead.jsonl"
    texts = [f"[[fault:400]] {number}" if number % 10 == 0 else f"row {number}" for number in range(300)]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with Endpoint(latency=0.05) as endpoint:
        line = command("enrich", source, "-o", output, "--dead-letter", dead, *options(endpoint))
        with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
            endpoint.journal.wait_for(calls=50)
            process.send_signal(signal.SIGTERM)
        assert not dead.exists()
        assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl.ledger"}
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
        assert len(endpoint.journal.calls) == 300
    assert [row["text"] for row in lines(dead)] == texts[::10]


@pytest.mark.parametrize("name", ["out.jsonl", "./out.jsonl", "linked.jsonl", "out.jsonl.ledger"])
def test_it_is_not_a_file_that_the_run_writes_already(
    tmp_path: Path, source: Path, endpoint: Endpoint, name: str
) -> None:
    (tmp_path / "linked.jsonl").symlink_to(tmp_path / "out.jsonl")
    dead = os.path.join(tmp_path, name)  # noqa: PTH118 - a path would lose the dot
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--dead-letter", dead, *options(endpoint))
    assert (done.returncode, endpoint.journal.calls) == (2, [])
    assert "cannot be the same file" in done.stderr


def test_it_is_not_the_input(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--dead-letter", source, *options(endpoint))
    assert (done.returncode, endpoint.journal.calls) == (2, [])
    assert "this file is among the inputs" in done.stderr


def test_a_place_that_cannot_be_written_is_reported_before_any_call(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    dead = tmp_path / "nowhere" / "dead.jsonl"
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--dead-letter", dead, *options(endpoint))
    assert (done.returncode, endpoint.journal.calls) == (2, [])
    assert "create it first" in done.stderr


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("content", ["", "{}\n{}\n"])
def test_an_input_without_columns_is_not_a_failure(
    tmp_path: Path, endpoint: Endpoint, content: str, ending: str
) -> None:
    """An empty dead-letter file above all: it is the next command's input."""
    (tmp_path / "in.jsonl").write_text(content)
    prompt = ["--url", endpoint.base_url, "--model", "m", "--prompt", "Hello"]
    done = run("enrich", tmp_path / "in.jsonl", "-o", tmp_path / f"out.{ending}", *prompt)
    assert done.returncode == 0, done.stderr
    assert f"{content.count('{}')} rows" in done.stderr
