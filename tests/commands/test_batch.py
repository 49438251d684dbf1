"""Batches as people meet them: the command, and runs by the executable that a signal ends at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector import sandbox
from connector.ledger.sqlite import SqliteLedger
from tests.commands.test_enrich import command, lines, run, table
from tests.engines.test_batch import Submitted
from tests.patience import PATIENCE
from tests.test_ledgers import on_a_small_disk

ROWS = 20


class Moments:
    """What a sandbox is told of. At one of these moments, a program gets a signal before it gets its answer."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._due: int | None = None
        self._process: subprocess.Popen[str] | None = None
        self._number = signal.SIGKILL
        self._has_begun = threading.Event()

    def notify(self, what: str) -> None:
        """See `connector.sandbox.running`."""
        self.seen.append(what)
        if self._due is not None and len(self.seen) >= self._due:
            self._due = None
            self._has_begun.wait(PATIENCE)
            if self._process is not None:
                self._process.send_signal(self._number)
                if self._number is signal.SIGKILL:
                    self._process.wait()

    def run(self, line: list[str], moment: int, number: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """Runs a program, with a signal after so many more moments: how it ended, and what it said."""
        self._has_begun.clear()
        self._due, self._number = len(self.seen) + moment, number
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as self._process:
            self._has_begun.set()
            _, told = self._process.communicate(timeout=PATIENCE)
            code = self._process.returncode
        self._process, self._due = None, None
        return code, told


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.fixture
def url(moments: Moments) -> Iterator[str]:
    with sandbox.running(notify=moments.notify) as url:
        yield url


def config(folder: Path, url: str) -> Path:
    path = folder / "c.json"
    options = {"poll_seconds": 0.05, "max_batch_requests": 7}
    given = {"url": url, "api_key": sandbox.KEY, "model": sandbox.MODEL, "prompt": "{{ text }}", "batch": options}
    path.write_text(json.dumps(given))
    return path


def enrich(folder: Path, url: str) -> list[str]:
    source = table(folder / "in.csv", ROWS)
    return command("enrich", source, "--config", config(folder, url), "--output", folder / "out.jsonl")


def is_right(folder: Path, url: str) -> bool:
    """Each row once, in order, with an answer, and each request submitted once; nothing is left to be done."""
    rows = lines(folder / "out.jsonl")
    submitted = Submitted(url).lines()
    with SqliteLedger(folder / "out.jsonl.ledger") as ledger:
        left = ledger.jobs()
    return (
        [row["id"] for row in rows] == list(range(ROWS))
        and all(row["_llm"]["status"] == "success" and row["content"] for row in rows)
        and (submitted.total(), max(submitted.values())) == (ROWS, 1)
        and not left
    )


@pytest.mark.parametrize("moment", [1, 3, 5, 8, 13, 21])
def test_a_run_that_is_killed_at_any_moment_goes_on_and_submits_nothing_twice(
    tmp_path: Path, moments: Moments, url: str, moment: int
) -> None:
    line = enrich(tmp_path, url)
    code, told = moments.run(line, moment)
    assert code == -signal.SIGKILL, told
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert is_right(tmp_path, url)


def test_however_often_a_run_is_killed_nothing_is_submitted_twice(tmp_path: Path, moments: Moments, url: str) -> None:
    line, chance = enrich(tmp_path, url), random.Random(3)
    for _ in range(5):
        moments.run(line, chance.randint(1, 8))
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert is_right(tmp_path, url)


@pytest.mark.parametrize(
    ("rows", "words", "submitted"),
    [pytest.param(3, 200_000, 0, id="requests"), pytest.param(1_500, 1, 1_500, id="answers")],
)
def test_a_disk_too_full_for_a_batch_is_reported_and_what_was_submitted_goes_on(
    tmp_path: Path, url: str, rows: int, words: int, submitted: int
) -> None:
    path = config(tmp_path, url)
    options = {"poll_seconds": 0.05}
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "prompt": "{{ text }}" + " word" * words, "batch": options})
    )
    source, output = table(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    line = command("enrich", source, "--config", path, "--output", output)
    full = on_a_small_disk(line, 600_000)
    assert (full.returncode, Submitted(url).lines().total()) == (3, submitted), full.stderr
    assert "waiting rows cannot be kept on disk in" in full.stderr
    assert "Traceback" not in full.stderr
    if submitted:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (done.returncode, len(lines(output))) == (0, rows), done.stderr
        assert Submitted(url).lines().total() == rows


def test_ctrl_c_leaves_the_batches_and_says_how_to_come_back(tmp_path: Path, moments: Moments, url: str) -> None:
    line = enrich(tmp_path, url)
    code, told = moments.run(line, 14, signal.SIGINT)
    assert code == -signal.SIGINT
    assert "without this run" in told
    assert "the same command fetches what" in told
    assert "Traceback" not in told
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert is_right(tmp_path, url)
    assert "of an earlier run: going on with" in done.stderr


def test_each_change_is_said_once_and_how_far_it_is(tmp_path: Path, url: str) -> None:
    done = run(*enrich(tmp_path, url)[3:])
    assert done.returncode == 0
    for state in ("7 requests submitted", "6 requests submitted", "in progress", "finalizing", "completed"):
        assert done.stderr.count(state) == {"7": 2, "6": 1}.get(state[0], 3), done.stderr


def test_one_word_on_the_command_line_is_enough(tmp_path: Path, url: str) -> None:
    settings = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": sandbox.KEY, "OPENAI_MODEL": sandbox.MODEL}
    path = tmp_path / "c.json"
    path.write_text('{"batch": {"poll_seconds": 0.05}}')
    source, output = table(tmp_path / "in.csv", 2), tmp_path / "out.jsonl"
    done = run("enrich", source, "-o", output, "-c", path, "--prompt", "{{ text }}", "--batch", **settings)
    assert done.returncode == 0, done.stderr
    assert len(Submitted(url).batches()) == 1


def test_its_owner_lists_shows_cancels_and_fetches_batches(tmp_path: Path, moments: Moments, url: str) -> None:
    line = enrich(tmp_path, url)
    moments.run(line, 16, signal.SIGINT)
    given = ["--config", config(tmp_path, url)]
    listed = run("batch", "list", *given)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("batch_") == 3
    batches = [json.loads(each) for each in run("batch", "list", "--format", "json", *given).stdout.splitlines()]
    first, second, third = (batch["id"] for batch in batches)
    assert f"batch     {first}" in run("batch", "show", first, *given).stdout
    cancelled = run("batch", "cancel", first, second, *given)
    assert cancelled.stdout.count("cancelling") == 2 or "cannot cancel" in cancelled.stderr.lower()
    while json.loads(run("batch", "show", third, "--format", "json", *given).stdout)["state"] != "completed":
        pass
    ended = run("batch", "cancel", third, *given)
    assert (ended.returncode, "had already ended, as completed: 7 of 7" in ended.stdout) == (0, True), ended
    fetched = run("batch", "fetch", third, *given)
    assert all(json.loads(each)["response"]["status_code"] == 200 for each in fetched.stdout.splitlines())
    stored = run("batch", "fetch", third, "--ledger", tmp_path / "out.jsonl.ledger", *given)
    count = len(fetched.stdout.splitlines())
    assert f"{count} replies stored" in stored.stderr
    with SqliteLedger(tmp_path / "out.jsonl.ledger") as ledger:
        assert ledger.stats().entries == count
    lost = tmp_path / "lost.ledger"
    assert f"{count} replies stored" in run("batch", "fetch", third, "--ledger", lost, *given).stderr
    with SqliteLedger(lost) as ledger:
        assert ledger.stats().entries == count
    ledger_of = ["--ledger", tmp_path / "out.jsonl.ledger"]
    assert run("batch", "forget", third, *ledger_of, *given).stdout == f"{third}: forgotten\n"
    assert "knows no batch" in run("batch", "forget", third, *ledger_of, *given).stderr
    unknown = run("batch", "show", "batch_0", *given)
    assert (unknown.returncode, "no batch batch_0: `batch list` shows" in unknown.stderr) == (3, True)
