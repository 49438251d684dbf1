"""`--report` and `report`: the same figures from a run and from its output, in any format."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import test_enrich
from tests.commands.test_enrich import SENDS_THE_REST, asked, command, run
from tests.endpoint import Action, Call, Endpoint, act, good
from tests.faults import said
from tests.patience import PATIENCE

ROWS = [{"id": n, "text": "[[fault:400]]" if n % 5 == 0 else None if n == 3 else f"row {n % 7}"} for n in range(1, 41)]
FAILED = 9
FORMATS = ("jsonl", "csv", "tsv", "parquet", "jsonl.gz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def options(endpoint: Endpoint, *more: object) -> list[object]:
    return test_enrich.options(endpoint, *SENDS_THE_REST, *more)


def figures(path: Path) -> dict[str, Any]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found: dict[str, Any] = json.loads(path.read_text())
    return found


LABELS = ("good", "bad", "mixed")
TYPES: dict[str, Any] = {
    "label": {"type": "string", "enum": [*LABELS]},
    "code": {"type": "string"},  # looks like a number
    "count": {"type": "integer"},
    "price": {"type": ["number", "null"]},
    "sure": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "scores": {"type": "array", "items": {"type": "number"}},
    "more": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "note": {"type": ["string", "null"]},
    "day": {"type": ["string", "null"], "format": "date"},
}
TYPED = {"type": "object", "properties": TYPES, "required": [*TYPES], "additionalProperties": False}


def typed(number: int) -> dict[str, Any]:
    """A structured reply, with nulls here and there."""
    return {
        "label": LABELS[number % 2],
        "code": f"{number % 4}",
        "count": number,
        "price": None if number % 6 == 0 else 10**30 if number == 1 else number * 1.25,  # too long for a number
        "sure": number % 3 == 0,
        "tags": ["a", "b", "c"][: number % 4],
        "scores": [number / 8] * (number % 3),
        "more": {"a": number},
        "note": None if number % 5 == 0 else 'a, "b" ' * (number % 9 + 1),
        "day": None if number % 7 == 0 else f"2026-01-{number % 28 + 1:02}",
    }


def replied(call: Call) -> Action | None:
    """Typed replies to `number N`, of which some are cut and some do not fit the schema."""
    number = int(re.findall(r"number (\d+)", json.dumps(call.body))[0])
    if number % 11 == 0:
        return act(call, "length")
    content = {"label": "other"} if number % 13 == 0 else typed(number)
    return Action("typed", said(content=json.dumps(content))(good(call), {}))


@pytest.mark.parametrize("ending", FORMATS)
def test_typed_columns_have_the_same_figures_in_any_output(tmp_path: Path, ending: str) -> None:
    source, output, config = tmp_path / "in.jsonl", tmp_path / f"out.{ending}", tmp_path / "c.json"
    source.write_text("".join(f'{{"n": {n}, "id": "{n % 50}"}}\n' for n in range(1, 81)))
    with Endpoint(replied) as endpoint:
        given = {"url": endpoint.base_url, "model": "m", "prompt": "number {{ id }}", "output_schema": TYPED}
        config.write_text(json.dumps({**given, "where": "{{ n % 9 }}", "prices": {"input": 3, "output": 7}}))
        done = run("enrich", source, "-o", output, "-c", config, "--report", tmp_path / "now.json")
        assert done.returncode == 0, done.stderr
        calls = len(endpoint.journal.calls)
    assert run("report", output, "-c", config, "-r", tmp_path / "later.json").returncode == 0
    first, second = figures(tmp_path / "now.json"), figures(tmp_path / "later.json")
    assert (first["spending"].pop("retries"), second["spending"].pop("retries")) == (3, None)  # repairs
    assert first["spending"]["calls"] == calls
    for name in set(first) - {"run", "timeline", "timing"}:
        assert first[name] == second[name], name
    columns = {column["name"]: column for column in first["columns"]}
    assert [columns[name]["kind"] for name in TYPES] == [
        *("values", "values", "numbers", "numbers", "values", "lists", "lists", "other", "values", "values")
    ]
    answers = [typed(n % 50) for n in range(1, 81) if n % 9 and n % 50 % 11 and n % 50 % 13]
    assert first["outcomes"]["statuses"]["success"] == len(answers)
    for name, column in columns.items():
        assert column["nulls"] == sum(answer[name] is None for answer in answers)
    for label in LABELS:
        found = next(each["count"] for each in columns["label"]["values"] if each["value"] == label)
        assert found == sum(answer["label"] == label for answer in answers)


def test_what_an_output_does_not_tell_is_said_and_not_zero(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    output, config, report = tmp_path / "out.jsonl", tmp_path / "c.json", tmp_path / "r.json"
    for option, told in (("on_error", "skip"), ("metadata", "status")):
        config.write_text(json.dumps({"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", option: told}))
        run("enrich", source, "-o", output, "-c", config, *SENDS_THE_REST)
        assert run("report", output, "-c", config, "-r", report).returncode == 0
        found = figures(report)
        (note,) = found["notes"]
        assert option in note
        if option == "metadata":
            assert not any(found["spending"].values())
            assert found["spending"]["calls"] is None
            assert found["outcomes"]["failed"] == FAILED


def test_calls_are_shown_only_where_the_tries_of_rows_are_calls(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output, config = tmp_path / "in.jsonl", tmp_path / "out.parquet", tmp_path / "c.json"
    source.write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(20)))
    given = {"url": endpoint.base_url, "endpoint": "embeddings", "model": "m", "prompt": "{{ text }}"}
    for batch, calls in ((8, 3), (1, 20)):
        config.write_text(json.dumps({**given, "batch_size": batch}))
        fresh = ("--ledger", tmp_path / f"{batch}.ledger")
        assert (
            run("enrich", source, "-o", output, "-c", config, "--report", tmp_path / "now.json", *fresh).returncode == 0
        )
        assert figures(tmp_path / "now.json")["spending"]["calls"] == calls
        for known in ((), ("-c", config)):
            assert run("report", output, *known, "-r", tmp_path / "later.json").returncode == 0
            told = figures(tmp_path / "later.json")["spending"]
            assert (told["calls"], told["paid_rows"]) == (20 if known and batch == 1 else None, 20)


def test_only_the_replies_that_a_run_has_paid_for_are_in_its_timeline(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    output, report = tmp_path / "out.jsonl", tmp_path / "r.json"
    run("enrich", source, "-o", output, *options(endpoint), "--limit", 3)
    earlier = len(endpoint.journal.calls)
    run("enrich", source, "-o", output, *options(endpoint))
    assert run("report", output, "-r", report).returncode == 0
    found = figures(report)
    paid = len(endpoint.journal.calls) - earlier
    assert (
        found["spending"]["paid_rows"] == sum(each["answered"] + each["failed"] for each in found["timeline"]) == paid
    )
    assert found["run"]["seconds"] != 0


@pytest.mark.parametrize("ending", FORMATS)
def test_a_report_made_later_has_the_figures_of_the_run(
    tmp_path: Path, source: Path, endpoint: Endpoint, ending: str
) -> None:
    output, now, later = tmp_path / f"out.{ending}", tmp_path / "now.json", tmp_path / "later.json"
    config = tmp_path / "c.json"
    given: dict[str, Any] = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}"}
    given |= {"prices": {"input": 1, "output": 2}, "max_template_error_percent": 100}
    config.write_text(json.dumps(given))
    done = run("enrich", source, "-o", output, "-c", config, "--report", now)
    assert done.returncode == 0, done.stderr
    assert f"report written to {now}" in done.stderr
    again = run("report", output, "-c", config, "-r", later)
    assert again.returncode == 0, again.stderr
    first, second = figures(now), figures(later)
    assert first["outcomes"] == {
        "rows": 40,
        "failed": FAILED,
        "cached": first["outcomes"]["cached"],
        "statuses": {"success": 40 - FAILED, "error": FAILED},
    }
    assert first["outcomes"]["cached"] > 0
    for name in ("outcomes", "columns", "attempts"):
        assert first[name] == second[name], name
    money = ("input_tokens", "output_tokens", "cost_usd", "saved_usd", "paid_rows", "costly_rows")
    assert [first["spending"][name] for name in money] == pytest.approx([second["spending"][name] for name in money])
    told = ("count", "status", "reason", "change", "rows")
    assert [[each[name] for name in told] for each in first["causes"]] == [
        [each[name] for name in told] for each in second["causes"]
    ]
    assert [cause["reason"] for cause in first["causes"] if cause["count"] == 1] == ["text is null in prompt"]
    assert first["columns"][0]["name"] == "content"
    assert sum(each["answered"] + each["failed"] for each in second["timeline"]) == len(endpoint.journal.calls)


def test_without_a_config_all_columns_are_shown(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    output = tmp_path / "out.jsonl"
    run("enrich", source, "-o", output, *options(endpoint))
    (tmp_path / "out.jsonl.ledger").unlink()
    report = tmp_path / "r.json"
    assert run("report", output, "-r", report).returncode == 0
    found = figures(report)
    assert [column["name"] for column in found["columns"]] == ["id", "text", "content"]
    assert (found["timeline"], found["run"]["config"]) == ([], {})


def test_the_page_is_written_beside_the_output_by_default(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    output = tmp_path / "out.jsonl"
    run("enrich", source, "-o", output, *options(endpoint))
    done = run("report", output)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "out.jsonl.html"
    assert f"report written to {page}" in done.stderr
    assert page.read_text().startswith("<!doctype html>")


def test_a_page_is_written_at_the_end_of_a_run_and_no_key_is_in_it(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    page = tmp_path / "r.html"
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--report", page, *options(endpoint))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "text is null in prompt" in text
    assert "sk-" not in text
    assert not list(tmp_path.glob(".r.html*"))


def test_a_run_that_was_stopped_has_a_report_that_says_so(tmp_path: Path, source: Path) -> None:
    with Endpoint(lambda call: act(call, "401")) as endpoint:
        report = tmp_path / "r.json"
        done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--report", report, *options(endpoint))
    assert done.returncode == 3
    assert "refuses the key" in figures(report)["run"]["stopped_by"]


def test_a_run_that_ctrl_c_stopped_has_a_report_of_what_was_done(tmp_path: Path) -> None:
    source, report = tmp_path / "in.jsonl", tmp_path / "r.json"
    source.write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(5_000)))
    with Endpoint(latency=lambda _: 0.02) as endpoint:
        line = command("enrich", source, "-o", tmp_path / "out.jsonl", "--report", report, *options(endpoint))
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            endpoint.journal.wait_for(calls=20)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGINT
    found = figures(report)
    assert found["run"]["stopped_by"] == "stopped by SIGINT"
    assert 0 < found["outcomes"]["rows"] < 5_000


WRONG = {
    "another ending": ("r.txt", "end its name in .html for a page, or .json"),
    "no folder": ("nowhere/r.json", "there is no folder"),
    "the output": ("out.json", "cannot be the same file"),
    "a folder": (".", "name the file to write"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_report_that_cannot_be_written_is_reported_before_the_first_call(
    tmp_path: Path, source: Path, endpoint: Endpoint, case: str
) -> None:
    name, told = WRONG[case]
    done = run("enrich", source, "-o", tmp_path / "out.json", "--report", tmp_path / name, *options(endpoint))
    assert (done.returncode, len(endpoint.journal.calls)) == (2, 0)
    assert told in done.stderr


@pytest.mark.parametrize("given", ["in.json", "i*.json"])
def test_a_report_takes_the_place_of_no_input(tmp_path: Path, endpoint: Endpoint, given: str) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(ROWS))
    more = ["-o", tmp_path / "out.csv", "--report", path, *options(endpoint)]
    done = run("enrich", tmp_path / given, *more)
    assert (done.returncode, len(endpoint.journal.calls)) == (2, 0), done.stderr
    assert "reads or writes this file" in done.stderr
    assert json.loads(path.read_text()) == ROWS


@pytest.mark.parametrize("option", ["--output", "--report", "--dead-letter"])
def test_no_output_takes_the_place_of_the_config(tmp_path: Path, source: Path, endpoint: Endpoint, option: str) -> None:
    config = tmp_path / "job.json"
    config.write_text(json.dumps({"url": endpoint.url, "model": "m", "prompt": "{{ id }}"}))
    before = config.read_text()
    output = [] if option == "--output" else ["-o", tmp_path / "out.jsonl"]
    done = run("enrich", source, "-c", config, *output, option, config)
    assert (done.returncode, len(endpoint.journal.calls)) == (2, 0), done.stderr
    assert config.read_text() == before


def test_a_missing_library_for_the_page_is_reported_before_the_first_call(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    (tmp_path / "vl_convert.py").write_text("raise ModuleNotFoundError('no', name='vl_convert')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for ending, code in (("html", 2), ("json", 0)):
        report = tmp_path / f"r.{ending}"
        line = command("enrich", source, "-o", tmp_path / "out.jsonl", "--report", report, *options(endpoint))
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE)
        assert done.returncode == code, done.stderr
        if ending == "html":
            assert 'pip install "openai-compatible-connector[report]"' in done.stderr
            assert not endpoint.journal.calls


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"id": 1}\n', "row 1 has no _llm.status"),
        ('{"id": 1, "_llm": {"status": "great"}}\n', "row 1 has no _llm.status"),
        ('{"id": 1, "_llm": null}\n', "row 1 has no _llm.status"),
    ],
)
def test_what_is_not_the_output_of_a_run_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    done = run("report", path)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out.jsonl.html").exists()


def test_an_output_that_another_program_has_changed_has_a_report(tmp_path: Path) -> None:
    output, config = tmp_path / "out.csv", tmp_path / "c.json"
    output.write_text(
        "id,price,_llm_status,_llm_error,_llm_cost_usd\n"
        f"1,1e99999999999999999999,success,,1e400\n2,,error,{'[' * 100_000},x\n3,{'9' * 5_000},success,,\n"
    )
    config.write_text(json.dumps({"url": "http://localhost:1/v1", "model": "m", "prompt": "x", "output_schema": TYPED}))
    done = run("report", output, "-c", config, "-r", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path / "r.json")["outcomes"]["statuses"] == {"success": 2, "error": 1}


def test_nothing_is_imported_for_a_report_that_nobody_asked_for(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    code = (
        "import sys, atexit\n"
        "from connector.cli import run\n"
        f"run({['enrich', str(source), '-o', str(tmp_path / 'out.jsonl'), *map(str, options(endpoint))]!r})\n"
        "assert not {'vl_convert', 'tqdm', 'connector.report'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def test_the_summary_on_stderr_says_why_rows_failed(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", *options(endpoint))
    lines = done.stderr.splitlines()
    at = lines.index(f"{FAILED} rows failed:")
    assert lines[at + 1].startswith("  8 × the endpoint refuses this request")
    assert lines[at + 1].endswith("(rows 5, 10, 15, …)")
    assert lines[at + 2] == '  1 × text is null in prompt → use {{ text | default("…") }} (row 3)'
    assert asked("row 1") in (tmp_path / "out.jsonl").read_text()
