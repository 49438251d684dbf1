"""Nothing is paid twice: not after a preview, not for another format of the output, not at another port."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.commands.test_enrich import lines, run
from tests.endpoint import Endpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": f"row {n}"}) + "\n" for n in range(40)))
    return path


def options(endpoint: Endpoint, prompt: str = "Say {{ text }}") -> list[object]:
    return ["--url", endpoint.base_url, "--model", "m", "--prompt", prompt]


def test_what_a_preview_has_paid_for_is_in_the_ledger_of_the_run_that_follows(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    run("preview", source, "--call", "--rows", 7, *options(endpoint))
    assert len(endpoint.journal.calls) == 7
    told = run("enrich", source, "-o", tmp_path / "out.csv", "--dry-run", *options(endpoint)).stdout
    assert told.startswith("40 rows: 7 in the ledger, 33 calls, cost unknown")
    done = run("enrich", source, "-o", tmp_path / "out.csv", *options(endpoint))
    assert len(endpoint.journal.calls) == 40
    assert "33 calls, 7 rows answered without a new call" in done.stderr
    stats = run("ledger", "stats", tmp_path / "out.csv.ledger")
    assert "entries     40" in stats.stdout


@pytest.mark.parametrize("named", [False, True])
def test_so_it_is_in_a_ledger_that_the_command_names(
    tmp_path: Path, source: Path, endpoint: Endpoint, *, named: bool
) -> None:
    run("preview", source, "--call", *options(endpoint))
    ledger = ["--ledger", tmp_path / "mine"] if named else []
    run("enrich", source, "-o", tmp_path / "out.csv", *ledger, *options(endpoint))
    assert len(endpoint.journal.calls) == 40


def test_the_same_table_in_another_format_finds_the_ledger_of_the_first(
    tmp_path: Path, source: Path, endpoint: Endpoint
) -> None:
    run("enrich", source, "-o", tmp_path / "out.parquet", *options(endpoint))
    for name in ("out.jsonl", "labelled.csv"):
        done = run("enrich", source, "-o", tmp_path / name, *options(endpoint))
        assert done.returncode == 0
        assert f"replies to these requests are in {tmp_path / 'out.parquet.ledger'}" in done.stderr
        assert "0 calls, 40 rows answered without a new call" in done.stderr
    assert len(endpoint.journal.calls) == 40
    (tmp_path / "out.parquet.ledger").unlink()
    assert "0 calls" in run("enrich", source, "-o", tmp_path / "out.jsonl", *options(endpoint)).stderr
    assert all(row["content"] for row in lines(tmp_path / "out.jsonl"))


def test_it_says_why_the_ledger_of_the_first_does_not_help(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    run("enrich", source, "-o", tmp_path / "out.parquet", *options(endpoint))
    done = run("enrich", source, "-o", tmp_path / "out.csv", *options(endpoint, "Judge {{ text }}"))
    first = tmp_path / "out.parquet.ledger"
    assert f"{first}, the ledger of another output of this name, has no reply to these requests" in done.stderr
    assert "40 calls" in done.stderr


def test_a_ledger_that_another_run_has_is_said_to_be_in_use(tmp_path: Path, source: Path, endpoint: Endpoint) -> None:
    run("enrich", source, "-o", tmp_path / "out.parquet", *options(endpoint))
    first = tmp_path / "out.parquet.ledger"
    held = sqlite3.connect(first, isolation_level=None)
    held.execute("PRAGMA locking_mode=EXCLUSIVE")
    held.execute("BEGIN EXCLUSIVE")
    done = run("enrich", source, "-o", tmp_path / "out.csv", *options(endpoint))
    held.close()
    assert done.returncode == 0
    assert f"{first}: a run is using this ledger" in done.stderr
    assert "paid for again" in done.stderr


@pytest.mark.parametrize("content", [b"", b"not a ledger at all", b"SQLite format 3\0" + b"\0" * 100])
def test_what_is_not_a_ledger_stays_as_it_is(tmp_path: Path, source: Path, endpoint: Endpoint, content: bytes) -> None:
    (tmp_path / "other.ledger").write_bytes(content)
    done = run("enrich", source, "-o", tmp_path / "out.csv", *options(endpoint))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other.ledger").read_bytes() == content
    assert "other.ledger" not in done.stderr


def test_a_named_endpoint_is_the_same_at_another_port(tmp_path: Path, source: Path) -> None:
    for calls in (40, 0):
        with Endpoint() as endpoint:
            done = run("enrich", source, "-o", tmp_path / "out.csv", "--endpoint-id", "lab", *options(endpoint))
            assert done.returncode == 0, done.stderr
            assert len(endpoint.journal.calls) == calls
    with Endpoint() as endpoint:
        run("enrich", source, "-o", tmp_path / "out.csv", "--endpoint-id", "other", *options(endpoint))
        assert len(endpoint.journal.calls) == 40
