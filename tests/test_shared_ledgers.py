"""Runs over a shared ledger, by the executable and real signals: together, killed, on a full disk, and once more."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from connector import ledger as ledgers
from tests.buckets import bucket
from tests.commands.test_enrich import asked, command, lines, options, run, table
from tests.databases import base
from tests.endpoint import Endpoint

LATENCY = 0.02
CONCURRENCY = 8
PLACES: dict[str, Callable[[Path], str]] = {
    "postgres": lambda path: base("postgresql", path).url,
    "folder": lambda path: f"{path}/ledger/",
    "bucket": lambda _: bucket(),
}


@pytest.fixture(autouse=True)
def _what_killed_runs_leave_goes_with_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return PLACES[request.param](tmp_path)


def enrich(source: Path, output: Path, endpoint: Endpoint, place: str, *more: object) -> list[str]:
    return command(
        "enrich", source, "-o", output, *options(endpoint, "--concurrency", CONCURRENCY, "--ledger", place, *more)
    )


def is_right(output: Path, rows: int) -> bool:
    found = lines(output)
    return [row["id"] for row in found] == list(range(rows)) and all(
        row["content"] == asked(row["text"]) and row["_llm"]["status"] == "success" for row in found
    )


def stored(place: str) -> int:
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        return ledger.stats().entries


def per_kill(place: str) -> int:
    """Calls that one kill may cost: those in flight, and those that are collected until they are put."""
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        return int(2 * CONCURRENCY + ledger.commit_seconds * CONCURRENCY / LATENCY)


def test_what_a_killed_run_has_stored_is_never_paid_for_again(tmp_path: Path, place: str) -> None:
    rows = 400
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint, place)
        for moment in sorted(random.Random(1).sample(range(1, rows), 2)):
            with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
                endpoint.journal.wait_for(prompts=moment)
                process.kill()
        paid, kept = len(endpoint.journal.calls), stored(place)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert is_right(output, rows)
        assert len(endpoint.journal.calls) == paid + rows - kept
        assert len(endpoint.journal.calls) - rows <= 2 * per_kill(place)
        output.unlink()
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == 0
        assert is_right(output, rows)
        assert len(endpoint.journal.calls) == paid + rows - kept, "once more costs nothing"


def test_runs_that_share_a_database_make_each_call_once_however_many_are_killed(tmp_path: Path) -> None:
    rows, kills, place = 600, 3, base("postgresql", tmp_path).url
    source, chance = table(tmp_path / "in.csv", rows), random.Random(2)
    outputs = [tmp_path / f"out{number}.jsonl" for number in range(3)]
    with Endpoint(latency=LATENCY) as endpoint:
        begun = [
            subprocess.Popen(enrich(source, output, endpoint, place), stderr=subprocess.PIPE, text=True)
            for output in outputs
        ]
        for moment in sorted(chance.sample(range(50, rows - 50), kills)):
            endpoint.journal.wait_for(prompts=moment)
            victim = chance.randrange(len(begun))
            begun[victim].kill()
            begun[victim].communicate()
            line = enrich(source, outputs[victim], endpoint, place)
            begun[victim] = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        ended = [(process.communicate(timeout=60)[1], process.returncode) for process in begun]
        assert [code for _, code in ended] == [0, 0, 0], ended
        assert all(is_right(output, rows) for output in outputs)
        assert len(endpoint.journal.by_prompt) == rows
        assert len(endpoint.journal.calls) - rows <= kills * per_kill(place)


def test_runs_that_share_a_database_stop_once_all_of_them_have_used_what_the_job_may(tmp_path: Path) -> None:
    place = base("postgresql", tmp_path).url
    with Endpoint(latency=LATENCY) as endpoint:
        begun = []
        for number in range(2):
            source = tmp_path / f"in{number}.csv"
            source.write_text("id,text\n" + "".join(f"{row},row {number} {row}\n" for row in range(2_000)))
            config = tmp_path / "config.json"
            config.write_text(json.dumps({"max_total_tokens": 3_000, "cache": place, "concurrency": CONCURRENCY}))
            line = command("enrich", source, "-o", tmp_path / f"out{number}.jsonl", *options(endpoint, "-c", config))
            begun.append(subprocess.Popen(line, stderr=subprocess.PIPE, text=True))
        told = [process.communicate(timeout=60)[1] for process in begun]
        assert [process.returncode for process in begun] == [4, 4], told
        assert any("by other runs" in each for each in told)
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        used = [entry.reply.body["usage"]["total_tokens"] for entry in ledger.entries()]
    overshoot = 2 * per_kill(place) * max(used)
    assert 3_000 <= sum(used) <= 3_000 + overshoot


def test_a_disk_too_full_for_a_folder_stops_the_run_which_goes_on_once_there_is_room(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    source, output, place = table(tmp_path / "in.csv", 100), tmp_path / "out.jsonl", f"{tmp_path}/ledger/"
    line = enrich(source, output, endpoint, place)
    full = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)),
    )
    assert full.returncode == 3, full.stderr
    assert "cannot be written" in full.stderr
    assert "make room" in full.stderr
    assert "Traceback" not in full.stderr
    assert not output.exists()
    assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == 0
    assert is_right(output, 100)


def test_the_ledger_commands_take_every_ledger(tmp_path: Path, endpoint: Endpoint, place: str) -> None:
    source, output = table(tmp_path / "in.csv", 5), tmp_path / "out.jsonl"
    assert subprocess.run(enrich(source, output, endpoint, place), check=False).returncode == 0
    stats = run("ledger", "stats", place)
    assert (stats.returncode, "entries     5\n" in stats.stdout) == (0, True), stats.stderr
    assert "secret" not in stats.stdout
    export = run("ledger", "export", "--no-body", place)
    assert len(export.stdout.splitlines()) == 5
    assert "deleted     0" in run("ledger", "prune", "--older-than", 1, place).stdout
    planned = run("enrich", source, "-o", output, *options(endpoint, "--ledger", place, "--dry-run"))
    assert planned.returncode == 0, planned.stderr
