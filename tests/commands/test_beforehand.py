"""What a person is told before the first call: by `--dry-run`, and by each run about rows that cannot be rendered."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector import Config
from connector.base.records import Record
from connector.base.stop import Stop
from connector.commands._beforehand import check_rows, watched
from connector.run.plan import Plan
from connector.stores import files
from tests.commands.test_enrich import SENDS_THE_REST, lines, run
from tests.endpoint import Endpoint

PROMPT = "Price {{ price }} of {{ text }}"


def table(path: Path, rows: int, *, nulls: int = 0) -> Path:
    made = [{"id": n, "text": f"row {n}", "price": None if n < nulls else n} for n in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def options(endpoint: Endpoint, *more: object) -> list[object]:
    return ["--url", endpoint.base_url, "--model", "m", "--prompt", PROMPT, *more]


def test_a_dry_run_says_what_a_run_would_do_and_makes_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.jsonl", 400, nulls=3), tmp_path / "out.jsonl"
    first = run("enrich", source, "-o", output, "--dry-run", *options(endpoint))
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0].startswith("400 rows: 397 calls, about ")
    assert first.stdout.splitlines()[1:] == [
        "3 rows cannot be rendered:",
        '  3 × price is null in prompt → use {{ price | default("…") }} (rows 1, 2, 3)',
    ]
    assert endpoint.journal.calls == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_it_knows_what_the_ledger_has_and_projects_what_that_took(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output, config = table(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl", tmp_path / "c.json"
    config.write_text(json.dumps({"prices": {"input": 1000, "output": 1000}}))
    run("enrich", source, "-o", output, "--limit", 12, *options(endpoint, "-c", config))
    calls = len(endpoint.journal.calls)
    told = run("enrich", source, "-o", output, "--dry-run", *options(endpoint, "-c", config)).stdout
    assert told.startswith("20 rows: 12 in the ledger, 8 calls, about $0.")
    assert len(endpoint.journal.calls) == calls == 12
    assert len(lines(output)) == 12


def test_it_says_that_a_run_would_stop(tmp_path: Path, endpoint: Endpoint) -> None:
    source = table(tmp_path / "in.jsonl", 20, nulls=1)
    done = run("enrich", source, "-o", tmp_path / "out.jsonl", "--dry-run", *options(endpoint))
    assert done.returncode == 2
    assert done.stdout.startswith("20 rows: 19 calls")
    assert "a run would stop before its first call" in done.stderr


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_too_many_rows_that_cannot_be_rendered_stop_a_run_before_its_first_call(
    tmp_path: Path, endpoint: Endpoint, ending: str
) -> None:
    source, output = table(tmp_path / "in.jsonl", 100, nulls=2), tmp_path / f"out.{ending}"
    done = run("enrich", source, "-o", output, *options(endpoint))
    assert done.returncode == 2
    assert "2 of 100 rows (2.00%) cannot be rendered, so nothing was sent" in done.stderr
    assert '2 × price is null in prompt → use {{ price | default("…") }} (rows 1, 2)' in done.stderr
    assert endpoint.journal.calls == []
    assert not output.exists()


@pytest.mark.parametrize("way", ["config", "option"])
def test_a_person_may_say_that_they_are_fine(tmp_path: Path, endpoint: Endpoint, way: str) -> None:
    source, output, config = table(tmp_path / "in.jsonl", 4, nulls=2), tmp_path / "out.jsonl", tmp_path / "c.json"
    config.write_text(json.dumps({"max_template_error_percent": 50} if way == "config" else {}))
    more: list[Any] = ["-c", config] + ([] if way == "config" else ["--max-template-error-percent", 50])
    done = run("enrich", source, "-o", output, *options(endpoint, *more))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("2 of 4 rows cannot be rendered and will fail:\n")
    assert [row["_llm"]["status"] for row in lines(output)] == ["error", "error", "success", "success"]


def test_rows_of_standard_input_fail_as_they_come(tmp_path: Path, endpoint: Endpoint) -> None:
    text = table(tmp_path / "in.jsonl", 3, nulls=1).read_text()
    done = run("enrich", "-", "-o", "-", *options(endpoint), stdin=text)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["_llm"]["status"] for line in done.stdout.splitlines()] == ["error", "success", "success"]
    told = run("enrich", "-", "-o", "-", "--dry-run", *SENDS_THE_REST, *options(endpoint), stdin=text)
    assert told.stdout.startswith("3 rows: 2 in the ledger, 0 calls\n1 row cannot be rendered")


@pytest.mark.parametrize("value", ["-1", "101", "x", "nan"])
def test_what_is_not_a_percentage_is_reported(value: str) -> None:
    done = run("enrich", "in.csv", "-o", "out.csv", f"--max-template-error-percent={value}")
    assert done.returncode == 2
    assert "is not a number of percent, from 0 to 100" in done.stderr


@pytest.mark.parametrize(
    ("rows", "prompt", "is_read"),
    [
        ([{"a": "x"}, {"a": "", "b": None}], "{{ a }}", False),
        ([{"a": "x"}, {"a": 1}], "{{ a }}", True),
        ([{"a": "x"}, {"b": "y"}], "{{ a }}", True),
        ([{"a": "x"}, {"a": None}], "{{ a }}", True),
        ([{"a": "x"}], "{{ a | trim }}", True),
    ],
)
def test_rows_are_not_read_beforehand_if_none_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], prompt: str, *, is_read: bool
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reads: list[object] = []
    with files.source(files.Options(path=str(path))) as source:
        monkeypatch.setattr(source, "read", lambda: map(reads.append, [1]))
        plan = Plan(Config.load({"model": "m", "prompt": prompt}), source.columns)
        assert check_rows(source, plan, Stop(), quiet=True) == (0 if is_read else len(rows))
    assert bool(reads) is is_read


def seconds(step: float) -> Callable[[], float]:
    times = itertools.count()
    return lambda: next(times) * step


@pytest.mark.parametrize(
    ("step", "live", "drawn"), [(0.5, True, True), (0.01, True, False), (0.5, False, False)], ids=str
)
def test_a_terminal_is_shown_how_far_a_long_check_is(
    capsys: pytest.CaptureFixture[str], step: float, *, live: bool, drawn: bool
) -> None:
    records = [Record(number, {}) for number in range(50)]
    assert list(watched(records, 50, live=live, now=seconds(step))) == records
    said = capsys.readouterr().err
    assert ("checking the rows: 2 of 50" in said) is drawn
    assert said.endswith("\r\x1b[K") is drawn
    assert "\n" not in said
