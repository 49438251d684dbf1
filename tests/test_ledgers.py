"""Runs over every ledger, by every way in, with real signals and disks: killed, short of room, and once more."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from connector import Connector
from connector import ledger as ledgers
from tests.buckets import bucket
from tests.commands.test_enrich import asked, command, lines, options, run, table
from tests.databases import base
from tests.endpoint import Endpoint, answer_to
from tests.patience import PATIENCE
from tests.protocols.messages import record, schema, state, text_of

LATENCY: Final = 0.02
CONCURRENCY: Final = 8
PLACES: Final[dict[str, Callable[[Path], str]]] = {
    "file": lambda path: f"{path}/run.ledger",
    "postgres": lambda path: base("postgresql", path).url,
    "folder": lambda path: f"{path}/ledger/",
    "bucket": lambda _: bucket(),
    "bucket of SeaweedFS": lambda _: bucket("seaweedfs"),
    "bucket of Google's": lambda _: bucket("gcs"),
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
    """Each row exactly once, in the order of the input, with the answer to its own prompt."""
    found = lines(output)
    return [row["id"] for row in found] == list(range(rows)) and all(
        row["content"] == asked(row["text"]) and row["_llm"]["status"] == "success" for row in found
    )


def stored(place: str) -> int:
    """How many replies the ledger holds, as the next run will find it."""
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        return ledger.stats().entries


def per_kill(place: str) -> int:
    """Calls that one kill may cost: those in flight, on their way to being stored, and collected until they are put."""
    with ledgers.opened(ledgers.location_of(place)) as ledger:
        return int(2 * CONCURRENCY + ledger.commit_seconds * CONCURRENCY / LATENCY)


# --- Whatever ends a run ---------------------------------------------------------------------------------------------

MOMENTS: Final[dict[str, Callable[[random.Random, int], int]]] = {
    "the first calls are in flight": lambda _chance, _rows: CONCURRENCY,
    "the first replies are stored": lambda chance, rows: chance.randrange(CONCURRENCY + 1, rows // 4),
    "there are several commits": lambda chance, rows: chance.randrange(rows // 4, rows - CONCURRENCY),
    "the last replies come": lambda _chance, rows: rows,
}
"""The prompts after which a run is killed."""


def test_however_often_a_run_is_killed_each_row_is_answered_once_and_little_is_paid_twice(
    tmp_path: Path, place: str
) -> None:
    rows, kills, chance = 400, 0, random.Random(1)
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint, place)
        for moment in MOMENTS.values():
            with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
                endpoint.journal.wait_for(prompts=moment(chance, rows))
                process.kill()
            kills += process.returncode != 0
            assert process.returncode == 0 or not output.exists()
        paid, kept = len(endpoint.journal.calls), stored(place)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (done.returncode, kills >= len(MOMENTS) - 1) == (0, True), done.stderr
        assert is_right(output, rows)
        assert len(endpoint.journal.by_prompt) == rows
        assert len(endpoint.journal.calls) == paid + rows - kept
        assert len(endpoint.journal.calls) - rows <= kills * per_kill(place)
        output.unlink()
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
        assert is_right(output, rows)
        assert len(endpoint.journal.calls) == paid + rows - kept, "once more costs nothing"


def on_a_small_disk(line: list[str], size: int) -> subprocess.CompletedProcess[str]:
    """Runs with a limit on the size of files, which stands in for a full disk: writing fails in the same place."""
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.parametrize(("name", "size"), [("file", 200_000), ("folder", 2_000)])
def test_a_disk_too_full_for_the_ledger_stops_the_run_which_goes_on_once_there_is_room(
    tmp_path: Path, name: str, size: int
) -> None:
    rows, place = 1_000, PLACES[name](tmp_path)  # replies are put after 500 at the latest
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    with Endpoint(latency=LATENCY) as endpoint:
        line = enrich(source, output, endpoint, place)
        full = on_a_small_disk(line, size)
        assert full.returncode == 3, full.stderr
        assert f"the ledger {ledgers.location_of(place)} cannot be written" in full.stderr
        assert "make room" in full.stderr
        assert "Traceback" not in full.stderr
        assert not output.exists()
        paid, kept = len(endpoint.journal.calls), stored(place)
        assert kept <= paid < rows
        assert subprocess.run(line, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode == 0
        assert len(endpoint.journal.calls) == paid + rows - kept
    assert is_right(output, rows)


# --- Every way in ----------------------------------------------------------------------------------------------------

ROWS: Final = 6
TEXTS: Final = [f"row {number}" for number in range(ROWS)]


class Given(NamedTuple):
    """A folder with the table `reviews.csv`, and what every config has."""

    folder: Path
    config: dict[str, Any]

    @property
    def input(self) -> dict[str, Any]:
        return {"input": {"type": "files", "path": str(self.folder / "reviews.csv")}, "primary_key": "id"}

    @property
    def output(self) -> Path:
        return self.folder / "out_reviews.jsonl"

    def file(self, name: str, content: Any) -> Path:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    def ran(self, name: str, *words: object, stdin: str = "", **changes: Any) -> list[dict[str, Any]]:
        """What a program of ours says on stdout, whose first arguments `words` may leave to `--config`."""
        program = Path(sys.executable).with_name(f"{name}openai-compatible")
        line = [program, *words, "--config", self.file("config", {**self.config, **changes})]
        done = subprocess.run(
            list(map(str, line)), input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert "secret" not in done.stdout + done.stderr
        return [json.loads(each) for each in done.stdout.splitlines()]

    def catalog(self) -> Path:
        stream = {"name": "reviews", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
        sync = {"sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}
        ids = {"sync_id": 1, "generation_id": 1, "minimum_generation_id": 1}
        return self.file("catalog", {"streams": [{"stream": stream, **sync, **ids}]})


def by_enrich(given: Given) -> list[dict[str, Any]]:
    given.ran("", "enrich", given.folder / "reviews.csv", "--output", given.output)
    return lines(given.output)


def by_airbyte_source(given: Given) -> list[dict[str, Any]]:
    messages = given.ran("source-", "read", "--catalog", given.catalog(), **given.input)
    return [each["record"]["data"] for each in messages if each["type"] == "RECORD"]


def by_airbyte_destination(given: Given) -> list[dict[str, Any]]:
    rows = [{"stream": "reviews", "data": {"id": n, "text": text}, "emitted_at": 1} for n, text in enumerate(TEXTS)]
    ended = {"type": "STREAM_STATUS", "emitted_at": 1.0}
    ended["stream_status"] = {"stream_descriptor": {"name": "reviews"}, "status": "COMPLETE"}
    messages: list[Any] = [*({"type": "RECORD", "record": row} for row in rows), {"type": "TRACE", "trace": ended}]
    path = str(given.folder / "out_{stream}.jsonl")
    given.ran(
        "destination-",
        "write",
        "--catalog",
        given.catalog(),
        stdin=text_of(messages),
        output={"type": "files", "path": path},
    )
    return lines(given.output)


def by_singer_tap(given: Given) -> list[dict[str, Any]]:
    return [each["record"] for each in given.ran("tap-", **given.input) if each["type"] == "RECORD"]


def singer() -> str:
    return text_of([schema(), *(record(number, text=text) for number, text in enumerate(TEXTS)), state(ROWS)])


def by_singer_mapper(given: Given) -> list[dict[str, Any]]:
    return [each["record"] for each in given.ran("map-", stdin=singer()) if each["type"] == "RECORD"]


def by_singer_target(given: Given) -> list[dict[str, Any]]:
    given.ran("target-", stdin=singer(), output={"type": "files", "path": str(given.folder / "out_{stream}.jsonl")})
    return lines(given.output)


def by_multiwoven(given: Given) -> list[dict[str, Any]]:
    messages = given.ran("", "--protocol", "multiwoven", "read", **given.input)
    return [each["record"]["data"] for each in messages if each["type"] == "record"]


def by_python(given: Given) -> list[dict[str, Any]]:
    return list(Connector(given.config).enrich([{"id": number, "text": text} for number, text in enumerate(TEXTS)]))


WAYS: Final[Sequence[Callable[[Given], list[dict[str, Any]]]]] = (
    by_enrich,
    by_airbyte_source,
    by_airbyte_destination,
    by_singer_tap,
    by_singer_mapper,
    by_singer_target,
    by_multiwoven,
    by_python,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_in_keeps_its_replies_in_every_ledger(
    way: Callable[[Given], list[dict[str, Any]]], tmp_path: Path, endpoint: Endpoint, place: str
) -> None:
    config = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "metadata": "none", "cache": place}
    given = Given(tmp_path, config)
    (tmp_path / "reviews.csv").write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(TEXTS)))
    for _ in range(2):
        rows = sorted(way(given), key=lambda row: int(row["id"]))
        assert [row["content"] for row in rows] == list(map(answer_to, TEXTS))
        assert endpoint.journal.by_prompt == dict.fromkeys(TEXTS, 1)
    assert stored(place) == ROWS


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
