"""A table goes in, the answers come back as typed columns: by the executable, over real files and a real socket."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connector.commands import ExitCode
from tests.endpoint import Endpoint, act, answer_to, shuffled
from tests.patience import PATIENCE

PROMPT = "Classify: {{ text }}"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "connector", *map(str, arguments)]


def run(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, **environment},
    )


def table(path: Path, rows: int, *, repeated: int = 1) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([number, f'row {number // repeated}, "quoted"\nand more'] for number in range(rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(text: str) -> str:
    return answer_to(PROMPT.replace("{{ text }}", text))


SENDS_THE_REST = ("--max-template-error-percent", 100)  # in a small table, one null is more than one percent


def options(endpoint: Endpoint, *more: object) -> list[object]:
    return ["--url", endpoint.base_url, "--model", "m", "--prompt", PROMPT, *more]


@pytest.mark.parametrize("concurrency", [1, 64, 256])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_answer_lands_in_its_own_row_in_input_order(tmp_path: Path, concurrency: int, ending: str) -> None:
    source, output = table(tmp_path / "in.csv", 600, repeated=3), tmp_path / f"out.{ending}"
    with Endpoint(latency=shuffled(0.0, 0.02)) as endpoint:
        done = run("enrich", source, "-o", output, *options(endpoint, "--concurrency", concurrency))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert endpoint.journal.peak <= concurrency
        assert len(endpoint.journal.calls) == 200
    rows = duckdb.execute(f"SELECT id, text, content FROM '{output}'").fetchall()
    assert [row[0] for row in rows] == list(range(600))
    assert all(content == asked(text) for _, text, content in rows)


def test_a_second_run_of_the_same_command_calls_nothing_and_writes_the_same(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.csv", 50), tmp_path / "out.jsonl"
    first = run("enrich", source, "-o", output, *options(endpoint))
    calls, rows = len(endpoint.journal.calls), lines(output)
    output.unlink()
    second = run("enrich", source, "-o", output, *options(endpoint))
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(endpoint.journal.calls) == calls == 50
    again = lines(output)
    assert [{**row, "_llm": {**row["_llm"], "cached": True}} for row in rows] == again


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    source, output = table(tmp_path / "in.csv", 400), tmp_path / "out.jsonl"
    with Endpoint(latency=0.02) as endpoint:
        line = command("enrich", source, "-o", output, *options(endpoint, "--concurrency", 8))
        with subprocess.Popen(line, stderr=subprocess.DEVNULL) as killed:
            endpoint.journal.wait_for(calls=150)
            killed.kill()
        assert not output.exists()
        done = run("enrich", source, "-o", output, *options(endpoint, "--concurrency", 8))
        assert done.returncode == 0, done.stderr
        repeated = len(endpoint.journal.calls) - 400
    assert 0 <= repeated <= 8 + 0.05 * 8 / 0.02 + 8
    assert [row["id"] for row in lines(output)] == list(range(400))
    assert all(row["content"] == asked(row["text"]) for row in lines(output))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_in_flight_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    source, output = table(tmp_path / "in.csv", 400), tmp_path / "out.jsonl"
    with Endpoint(latency=0.05) as endpoint:
        line = command("enrich", source, "-o", output, *options(endpoint))
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            endpoint.journal.wait_for(calls=50)
            process.send_signal(number)
            _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == -number
        assert "run the same command again" in told
        calls = len(endpoint.journal.calls)
        assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
        assert len(endpoint.journal.calls) == 400
        assert calls < 400


def test_the_output_and_the_ledger_are_private(tmp_path: Path, endpoint: Endpoint) -> None:
    output = tmp_path / "out.csv"
    run("enrich", table(tmp_path / "in.csv", 2), "-o", output, *options(endpoint))
    assert {stat.S_IMODE(path.stat().st_mode) for path in (output, Path(f"{output}.ledger"))} == {0o600}


def test_columns_are_typed_by_the_schema(tmp_path: Path, endpoint: Endpoint) -> None:
    output = tmp_path / "out.parquet"
    columns = ["--column", "label=good|bad", "--column", "score=integer", "--column", "tags=string[]"]
    done = run("enrich", table(tmp_path / "in.csv", 3), "-o", output, *options(endpoint, *columns))
    assert done.returncode == 0, done.stderr
    types = {row[0]: row[1] for row in duckdb.execute(f"DESCRIBE FROM '{output}'").fetchall()}
    assert (types["id"], types["label"], types["score"], types["tags"]) == ("BIGINT", "VARCHAR", "BIGINT", "VARCHAR[]")


def test_standard_streams_carry_jsonl_and_nothing_else(endpoint: Endpoint) -> None:
    done = run("enrich", "-", "-o", "-", *options(endpoint), stdin='{"text": "a"}\n{"text": "b"}\n')
    assert [json.loads(line)["content"] for line in done.stdout.splitlines()] == [asked("a"), asked("b")]
    assert "2 rows" in done.stderr


def test_failed_rows_are_in_the_output_with_their_reason(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "fine"}\n{"text": null}\n{"text": "[[fault:400]]"}\n')
    done = run("enrich", source, "-o", output, *options(endpoint, *SENDS_THE_REST))
    assert done.returncode == 0
    statuses = [(row["_llm"]["status"], (row["_llm"]["error"] or {}).get("class")) for row in lines(output)]
    assert statuses == [("success", None), ("error", "TemplateError"), ("error", "BadRequestError")]
    assert run("enrich", source, "-o", output, *options(endpoint, "--strict", *SENDS_THE_REST)).returncode == 1


@pytest.mark.parametrize(("on_error", "rows", "code"), [("record", 2, 0), ("skip", 1, 0), ("fail", 2, 1)])
def test_on_error_decides_what_becomes_of_failed_rows(
    tmp_path: Path, endpoint: Endpoint, on_error: str, rows: int, code: int
) -> None:
    source, config, output = tmp_path / "in.jsonl", tmp_path / "c.json", tmp_path / "out.jsonl"
    source.write_text('{"text": "fine"}\n{"text": "[[fault:400]]"}\n')
    config.write_text(json.dumps({"on_error": on_error}))
    done = run("enrich", source, "-c", config, "-o", output, *options(endpoint))
    assert (done.returncode, len(lines(output))) == (code, rows)


def test_a_missing_column_is_reported_before_anything_is_called(tmp_path: Path, endpoint: Endpoint) -> None:
    done = run(
        "enrich", table(tmp_path / "in.csv", 2), "-o", tmp_path / "o.csv", "--url", endpoint.url, "--prompt", "{{ x }}"
    )
    assert done.returncode == 2
    assert 'there is no column "x" in the input; there are: id, text' in done.stderr
    assert not endpoint.journal.calls


@pytest.mark.parametrize("fault", ["401", "404-model", "429-quota"])
def test_what_no_call_can_get_past_stops_the_run_at_once(tmp_path: Path, fault: str) -> None:
    output = tmp_path / "out.csv"
    with Endpoint(lambda call: act(call, fault)) as endpoint:
        done = run("enrich", table(tmp_path / "in.csv", 500), "-o", output, *options(endpoint, "--concurrency", 4))
        assert done.returncode == 3
        assert len(endpoint.journal.calls) <= 20
    assert "Traceback" not in done.stderr
    assert not output.exists()


def test_the_budget_stops_the_run_and_raising_it_goes_on(tmp_path: Path, endpoint: Endpoint) -> None:
    source, config, output = table(tmp_path / "in.csv", 100), tmp_path / "c.json", tmp_path / "out.jsonl"
    config.write_text(json.dumps({"max_total_tokens": 200, "concurrency": 2}))
    stopped = run("enrich", source, "-c", config, "-o", output, *options(endpoint))
    calls = len(endpoint.journal.calls)
    assert (stopped.returncode, calls < 60) == (4, True)
    assert "are used: raise it" in stopped.stderr
    config.write_text("{}")
    assert run("enrich", source, "-c", config, "-o", output, *options(endpoint)).returncode == 0
    assert len(endpoint.journal.calls) == 100


def test_streamed_and_whole_replies_give_the_same_columns(tmp_path: Path, endpoint: Endpoint) -> None:
    source, config = table(tmp_path / "in.csv", 20), tmp_path / "c.json"
    found = []
    for streamed in (False, True):
        output = tmp_path / f"{streamed}.jsonl"
        config.write_text(
            json.dumps(
                {"is_stream": streamed, "response_format": {"a": "{{ content }}", "t": "{{ usage.total_tokens }}"}}
            )
        )
        assert run("enrich", source, "-c", config, "-o", output, *options(endpoint)).returncode == 0
        found.append([(row["id"], row["a"], row["t"]) for row in lines(output)])
    assert found[0] == found[1]


def test_a_gone_reader_ends_it_quietly(endpoint: Endpoint) -> None:
    rows = "".join(f'{{"text": "{number}"}}\n' for number in range(3000))
    line = " ".join(f"'{word}'" for word in command("enrich", "-", "-o", "-", *options(endpoint)))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -n 1"], input=rows, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert json.loads(done.stdout)["text"] == "0"
    assert "Traceback" not in done.stderr


def test_a_run_that_got_no_reply_says_nothing_of_replies(tmp_path: Path) -> None:
    with Endpoint(lambda call: act(call, "401")) as endpoint:
        done = run("enrich", table(tmp_path / "in.csv", 3), "-o", tmp_path / "out.jsonl", *options(endpoint))
    assert done.returncode == 3
    assert "refuses the key" in done.stderr
    assert "replies so far" not in done.stderr


def test_the_same_command_is_advised_only_where_it_can_help(tmp_path: Path) -> None:
    source, output = table(tmp_path / "in.csv", 30), tmp_path / "out.jsonl"
    with Endpoint() as endpoint:
        run("enrich", source, "-o", output, *options(endpoint), "--limit", 5)
    with Endpoint(lambda call: act(call, "401")) as endpoint:
        line = ["--url", endpoint.base_url, "--model", "m", "--prompt", "now: {{ text }}"]
        done = run("enrich", source, "-o", output, *line)
    assert f"the replies so far are in {output}.ledger: none of them is paid for again" in done.stderr
    assert "run the same command again" not in done.stderr


def test_refusals_alone_are_no_replies_to_come_back_to(tmp_path: Path) -> None:
    with Endpoint(lambda call: act(call, "400")) as endpoint:
        done = run("enrich", table(tmp_path / "in.csv", 60), "-o", tmp_path / "out.jsonl", *options(endpoint))
    assert done.returncode == 3
    assert "replies so far" not in done.stderr


@pytest.mark.parametrize("policy", ["record", "skip", "fail"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [("400", "error"), ("content-empty", "invalid_output"), ("filter", "filtered"), ("length", "truncated")],
)
def test_a_run_in_which_no_row_was_answered_ends_with_1_and_says_why(
    tmp_path: Path, fault: str, status: str, policy: str
) -> None:
    source, config, output = table(tmp_path / "in.csv", 7), tmp_path / "c.json", tmp_path / "out.jsonl"
    config.write_text(json.dumps({"on_error": policy}))
    with Endpoint(lambda call: act(call, fault)) as endpoint:
        for _ in range(2):  # the second time from the ledger
            done = run("enrich", source, "-c", config, "-o", output, *options(endpoint))
            assert done.returncode == ExitCode.FAILED_ROWS
            at = done.stderr.splitlines().index("all 7 rows failed:")
            assert done.stderr.splitlines()[at + 1].startswith("  7 × ")
            assert f"7 {status}" in done.stderr
            assert "run the same command again" not in done.stderr
            assert len(lines(output)) == (0 if policy == "skip" else 7)


def test_a_quiet_run_says_nothing_but_why_it_does_not_end_with_0(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "fine"}\n{"text": "[[fault:400]]"}\n')
    done = run("enrich", source, "-o", output, *options(endpoint, "--quiet"))
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
    done = run("enrich", source, "-o", output, *options(endpoint, "--quiet", "--strict"))
    assert done.returncode == ExitCode.FAILED_ROWS
    assert done.stderr.startswith("1 row failed:\n  1 × the endpoint refuses this request")


def test_a_run_of_which_one_row_was_answered_or_that_had_none_ends_with_0(tmp_path: Path) -> None:
    with Endpoint(lambda call: act(call, "400") if "row 1" in call.prompt else None) as endpoint:
        for rows in (2, 0):
            done = run("enrich", table(tmp_path / "in.csv", rows), "-o", tmp_path / "out.jsonl", *options(endpoint))
            assert done.returncode == ExitCode.DONE
            assert "all " not in done.stderr
