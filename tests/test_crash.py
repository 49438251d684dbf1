"""Whatever ends a run or spoils its files, the same command goes on: by the executable, real signals and real disks."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from connector.ledger._sqlite_format import VERSION
from connector.ledger.sqlite import SqliteLedger
from tests.commands.test_enrich import command, lines, options, run, table
from tests.endpoint import Endpoint
from tests.patience import PATIENCE
from tests.test_ledgers import CONCURRENCY, LATENCY, is_right, on_a_small_disk


@pytest.fixture(autouse=True)
def _what_killed_runs_leave_goes_with_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def enrich(source: Path, output: Path, endpoint: Endpoint, *more: object) -> list[str]:
    return command("enrich", source, "-o", output, *options(endpoint, "--concurrency", CONCURRENCY, *more))


def send_at(line: list[str], endpoint: Endpoint, prompts: int, number: signal.Signals) -> tuple[int, str]:
    """Starts a run and sends it the signal once so many prompts have been asked: how it ended, and what it said."""
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        endpoint.journal.wait_for(prompts=prompts)
        process.send_signal(number)
        _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told


def test_however_often_a_run_is_terminated_no_call_is_repeated(tmp_path: Path) -> None:
    rows = 300
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint)
        for moment in sorted(random.Random(3).sample(range(1, rows - 60), 3)):
            code, told = send_at(line, endpoint, moment, signal.SIGTERM)
            assert code == -signal.SIGTERM
            assert "run the same command again" in told
            assert not output.exists()
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
        assert is_right(output, rows)
        assert len(endpoint.journal.calls) == rows


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    """The first one says that it would, and the second one says nothing more."""
    source, output = table(tmp_path / "in.csv", 20), tmp_path / "out.jsonl"
    with (
        Endpoint(latency=3600) as endpoint,
        subprocess.Popen(enrich(source, output, endpoint), stderr=subprocess.PIPE, text=True) as process,
    ):
        endpoint.journal.wait_for(calls=1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # of another number: two equal ones may arrive as one
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode in (-signal.SIGTERM, -signal.SIGINT)
    assert re.fullmatch(r"(finishing \d calls? \(up to 30 s\)|stopping); .+ ends at once\n", told), told
    assert not output.exists()


def test_of_two_copies_of_a_command_the_second_waits_and_says_so(tmp_path: Path) -> None:
    rows = 500
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint)
        copies = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        told = [copy.communicate(timeout=PATIENCE)[1] for copy in copies]
        assert [copy.returncode for copy in copies] == [0, 0], told
        assert sum(f"another run is using the ledger {output}.ledger: waiting" in each for each in told) == 1
        assert len(endpoint.journal.calls) == rows
    assert is_right(output, rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_waiting_for_another_runs_ledger(tmp_path: Path, number: signal.Signals) -> None:
    source, output = table(tmp_path / "in.csv", 5), tmp_path / "out.jsonl"
    with Endpoint() as endpoint, SqliteLedger(Path(f"{output}.ledger")):
        line = enrich(source, output, endpoint)
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            assert "waiting for it to end" in process.stderr.readline()
            process.send_signal(number)
            _, told = process.communicate(timeout=PATIENCE)
        assert (process.returncode, endpoint.journal.calls) == (-number, [])
        assert told == f"stopping; {'Ctrl-C again' if number == signal.SIGINT else 'a second signal'} ends at once\n"
    assert not output.exists()


def hidden(where: Path) -> list[Path]:
    """The private directories of runs."""
    return list(where.glob(".openai-compatible-*"))


def test_what_a_killed_run_left_beside_the_output_goes_with_the_next_run_but_nothing_of_one_that_runs(
    tmp_path: Path,
) -> None:
    source = table(tmp_path / "in.csv", 40)
    with Endpoint(latency=0.5) as endpoint:
        lost = enrich(source, tmp_path / "lost.jsonl", endpoint)
        assert send_at(lost, endpoint, 4, signal.SIGKILL)[0] == -signal.SIGKILL
        left = hidden(tmp_path)
        assert left
        running = [*enrich(source, tmp_path / "running.jsonl", endpoint), "--system-prompt", "another"]
        with subprocess.Popen(running, stderr=subprocess.DEVNULL) as process:
            endpoint.journal.wait_for(calls=16)
            assert not any(path.exists() for path in left)
            held = set(hidden(tmp_path))
            assert held
            process.send_signal(signal.SIGSTOP)  # it still runs, however long the other one takes
            small = [*enrich(source, tmp_path / "small.jsonl", endpoint), "--limit", "1"]
            assert subprocess.run(small, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
            assert set(hidden(tmp_path)) == held
            process.send_signal(signal.SIGCONT)
            assert process.wait(PATIENCE) == 0
    assert is_right(tmp_path / "running.jsonl", 40)
    assert not hidden(tmp_path)


@pytest.mark.parametrize("what", ["ledger", "folder"])
def test_a_ledger_or_a_folder_that_vanishes_stops_the_run(tmp_path: Path, what: str) -> None:
    rows, folder = 300, tmp_path / "folder"
    folder.mkdir()
    source, output = table(tmp_path / "in.csv", rows), folder / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint)
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            endpoint.journal.wait_for(calls=40)
            if what == "ledger":
                Path(f"{output}.ledger").unlink()
            else:
                shutil.rmtree(folder)
            _, told = process.communicate(timeout=PATIENCE)
        assert (process.returncode, len(endpoint.journal.calls) < rows) == (3, True), told
        assert f"the ledger {output}.ledger is gone" in told
        assert "the replies so far are in" not in told
        assert "Traceback" not in told
        assert not output.exists()
        folder.mkdir(exist_ok=True)
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
    assert is_right(output, rows)


def test_an_output_that_is_lost_is_made_again_from_the_ledger(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.csv", 40), tmp_path / "out.csv"
    line = enrich(source, output, endpoint)
    assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode == 0
    with output.open(newline="") as file:
        before = [row | {"_llm_cached": "true"} for row in csv.DictReader(file)]
    output.unlink()
    assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode == 0
    with output.open(newline="") as file:
        assert list(csv.DictReader(file)) == before
    assert len(endpoint.journal.calls) == 40


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(4).randbytes(path.stat().st_size))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def beheaded(path: Path) -> None:
    os.truncate(path, 50)


@pytest.mark.parametrize("damage", [garbage, cut, beheaded])
def test_a_damaged_ledger_is_set_aside_and_the_run_finishes(
    tmp_path: Path, endpoint: Endpoint, damage: Callable[[Path], None]
) -> None:
    source, output = table(tmp_path / "in.csv", 60), tmp_path / "out.jsonl"
    ledger = Path(f"{output}.ledger")
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    damage(ledger)
    spoilt = ledger.read_bytes()
    done = run("enrich", source, "-o", output, *options(endpoint))
    assert done.returncode == 0, done.stderr
    assert Path(f"{ledger}.corrupt").read_bytes() == spoilt
    assert is_right(output, 60)


def test_where_a_damaged_ledger_went_is_reported(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.csv", 5), tmp_path / "out.jsonl"
    Path(f"{output}.ledger").write_bytes(b"no database at all" * 100)
    done = run("enrich", source, "-o", output, *options(endpoint))
    assert done.returncode == 0
    assert f"{output}.ledger.corrupt" in done.stderr


def test_a_ledger_damaged_inside_stops_the_run_before_any_call_and_is_set_aside_for_the_next(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    source, output = table(tmp_path / "in.csv", 200), tmp_path / "out.jsonl"
    ledger = Path(f"{output}.ledger")
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    output.unlink()
    content = ledger.read_bytes()
    size = int.from_bytes(content[16:18])  # of a page: https://www.sqlite.org/fileformat.html, section 1.3
    page = content.index(b'"choices"') // size * size  # of one that holds replies
    ledger.write_bytes(content[:page] + b"\xff" * size + content[page + size :])
    stopped = run("enrich", source, "-o", output, *options(endpoint))
    assert (stopped.returncode, output.exists(), len(endpoint.journal.calls)) == (3, False, 200)
    assert f"is damaged and kept as {ledger}.corrupt" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    assert is_right(output, 200)


def test_a_ledger_of_a_newer_version_is_refused_before_any_call_and_left_alone(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    source, output = table(tmp_path / "in.csv", 5), tmp_path / "out.jsonl"
    ledger = Path(f"{output}.ledger")
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    with closing(sqlite3.connect(ledger)) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    before, calls = ledger.read_bytes(), len(endpoint.journal.calls)
    source.write_text(source.read_text().replace("row", "another row"))
    done = run("enrich", source, "-o", output, *options(endpoint))
    assert (done.returncode, len(endpoint.journal.calls)) == (3, calls)
    assert "newer version" in done.stderr
    assert "Traceback" not in done.stderr
    assert ledger.read_bytes() == before


@pytest.mark.parametrize("folder", ["file", "absent"])
def test_an_output_that_cannot_be_written_is_reported_before_any_call(
    tmp_path: Path, endpoint: Endpoint, folder: str
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / folder / "out.jsonl"
    done = run("enrich", table(tmp_path / "in.csv", 5), "-o", output, *options(endpoint))
    assert (done.returncode, endpoint.journal.calls) == (2, [])
    assert str(output) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_cannot_be_written_is_reported_before_any_call(tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "file").touch()
    source, output, ledger = table(tmp_path / "in.csv", 5), tmp_path / "out.jsonl", tmp_path / "file" / "run.ledger"
    done = run("enrich", source, "-o", output, *options(endpoint, "--ledger", ledger))
    assert (done.returncode, endpoint.journal.calls) == (3, [])
    assert f"the ledger {ledger} cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr


def wide(path: Path, rows: int) -> Path:
    """A table that is small as it stands, compressed, and 60 kB a row where it is not."""
    columns = f"range AS id, 'row ' || range AS text, repeat('x', 60000) AS notes FROM range({rows})"
    duckdb.execute(f"COPY (SELECT {columns}) TO '{path}' (COMPRESSION zstd)")
    return path


def test_a_disk_too_full_for_the_output_leaves_nothing_half_written_and_no_call_is_repeated(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    source, output = wide(tmp_path / "in.parquet", 150), tmp_path / "out.jsonl"
    line = enrich(source, output, endpoint)
    full = on_a_small_disk(line, 6_000_000)
    assert full.returncode == 3, full.stderr
    assert f"{tmp_path}: nothing more can be written there" in full.stderr
    assert "Traceback" not in full.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "out.jsonl.ledger"}
    assert len(endpoint.journal.calls) == 150
    assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
    assert is_right(output, 150)
    assert len(endpoint.journal.calls) == 150


def test_a_disk_too_full_for_the_input_is_reported_before_any_call(tmp_path: Path, endpoint: Endpoint) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": f"{number}" * 20_000}) + "\n" for number in range(100)))
    full = on_a_small_disk(enrich(source, tmp_path / "out.jsonl", endpoint), 1_000_000)
    assert (full.returncode, endpoint.journal.calls) == (3, []), full.stderr
    assert "set TMPDIR to another directory for temporary files" in full.stderr
    assert "Traceback" not in full.stderr


def test_a_changed_prompt_is_another_request(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.csv", 20), tmp_path / "out.jsonl"
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    changed = ["--url", endpoint.base_url, "--model", "m", "--prompt", "Translate: {{ text }}"]
    assert run("enrich", source, "-o", output, *changed).returncode == 0
    assert len(endpoint.journal.calls) == len(endpoint.journal.by_prompt) == 40
    assert not any(row["_llm"]["cached"] for row in lines(output))


def test_a_changed_row_is_called_again_and_no_other(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = table(tmp_path / "in.csv", 20), tmp_path / "out.jsonl"
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    source.write_text(source.read_text().replace('"row 7,', '"changed 7,'))
    assert run("enrich", source, "-o", output, *options(endpoint)).returncode == 0
    assert is_right(output, 20)
    assert [row["id"] for row in lines(output) if not row["_llm"]["cached"]] == [7]
    assert len(endpoint.journal.calls) == 21
