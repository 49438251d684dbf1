"""Runs that share a database, by the executable and real signals: together, killed, and with one budget."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from connector import ledger as ledgers
from tests.commands.test_enrich import command, options, table
from tests.databases import base
from tests.endpoint import Endpoint
from tests.patience import PATIENCE
from tests.test_ledgers import CONCURRENCY, LATENCY, enrich, is_right, per_kill


@pytest.fixture(autouse=True)
def _what_killed_runs_leave_goes_with_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


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
        ended = [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in begun]
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
        told = [process.communicate(timeout=PATIENCE)[1] for process in begun]
        assert [process.returncode for process in begun] == [4, 4], told
        assert any("by other runs" in each for each in told)
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        used = [entry.reply.body["usage"]["total_tokens"] for entry in ledger.entries()]
    overshoot = 2 * per_kill(place) * max(used)
    assert 3_000 <= sum(used) <= 3_000 + overshoot
