"""`ledger`: what its owner sees of one, what goes, and that nothing happens to what is none, damaged, or in use."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from connector.base.amounts import counted
from connector.base.records import Reply
from connector.ledger import Url, opened
from connector.ledger.sqlite import SqliteLedger
from tests.commands.test_enrich import command, lines, options, run, table
from tests.databases import base
from tests.endpoint import Endpoint

OLD = 1_700_000_000
"""2023-11-14T22:13:20Z"""
NEW = 2**31
"""2038-01-19T03:14:08Z"""


def reply(status: int = 200, *, cost: float | None = None, text: str = "fine") -> Reply:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 20, **({} if cost is None else {"cost": cost})}
    body = (
        {"choices": [{"message": {"content": text}}], "usage": usage} if status == 200 else {"error": {"message": "no"}}
    )
    return Reply(status, body, {})


def key(number: int) -> bytes:
    return bytes([number] * 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three answers and a refusal, of which two were stored long ago."""
    path = tmp_path / "run.ledger"
    with SqliteLedger(path, now=lambda: OLD) as ledger:
        ledger.put([(key(0), reply(cost=0.25)), (key(1), reply(400))])
    with SqliteLedger(path, now=lambda: NEW) as ledger:
        ledger.put([(key(2), reply(cost=0.5)), (key(3), reply())])
    return path


def shown(path: Path) -> dict[str, str]:
    """What `stats` says, by its first column."""
    done = run("ledger", "stats", path)
    assert (done.returncode, done.stderr) == (0, "")
    return {line[:12].strip(): line[12:] for line in done.stdout.splitlines()}


def test_stats_tell_how_much_there_is_and_what_it_cost(path: Path) -> None:
    told = shown(path)
    assert {name: told[name] for name in told if name not in ("ledger", "size")} == {
        "entries": "4",
        "status 200": "3",
        "status 400": "1",
        "tokens": "3,000 in, 60 out (from 3 replies)",
        "cost": "$0.75 (from 2 replies)",
        "oldest": "2023-11-14T22:13:20Z",
        "newest": "2038-01-19T03:14:08Z",
    }
    assert told["ledger"] == str(path)
    assert told["size"].endswith(" kB")


def test_stats_of_an_empty_ledger_are_empty_and_claim_no_cost(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "run.ledger").close()
    told = shown(tmp_path / "run.ledger")
    assert (told["entries"], told["tokens"], told["cost"], told["oldest"]) == ("0", "unknown", "unknown", "none")


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (["--failed"], [0, 2, 3]),
        (["--older-than", "2"], [2, 3]),
        (["--older-than", "0.5", "--failed"], [2, 3]),
        (["--older-than", "36500"], [0, 1, 2, 3]),
    ],
)
def test_prune_deletes_what_it_is_told_to_and_says_how_much(path: Path, which: list[str], left: list[int]) -> None:
    done = run("ledger", "prune", path, *which)
    assert done.returncode == 0, done.stderr
    assert f"deleted     {counted(4 - len(left), 'entry', 'entries')}" in done.stdout
    assert f"left        {len(left)} entries" in done.stdout
    with SqliteLedger(path) as ledger:
        assert [entry.key for entry in ledger.entries()] == [key(number) for number in left]


def test_prune_gives_the_space_back(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    with SqliteLedger(path) as ledger:
        ledger.put([(bytes([number] * 16), reply(text=f"{number}" * 10_000)) for number in range(200)])
    before = path.stat().st_size
    done = run("ledger", "prune", path, "--older-than", "-1")
    assert done.returncode == 0, done.stderr
    assert "deleted     200 entries" in done.stdout
    assert "left        0 entries" in done.stdout
    assert path.stat().st_size < before / 10
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_prune_of_a_database_that_grows_by_it_frees_nothing(tmp_path: Path) -> None:
    url = base("postgresql", tmp_path).url
    with opened(Url(url)) as ledger:
        ledger.put([(key(0), reply()), (key(1), reply())])
    done = run("ledger", "prune", url, "--older-than", "-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 entries (0 bytes freed)" in done.stdout


def test_prune_asks_what_is_to_go(path: Path) -> None:
    done = run("ledger", "prune", path)
    assert done.returncode == 2
    assert "--older-than DAYS, --failed" in done.stderr
    assert shown(path)["entries"] == "4"


def test_export_gives_every_reply_as_a_line(path: Path) -> None:
    done = run("ledger", "export", path)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(row) for row in found] == [{"key", "status", "stored_at", "usage", "body"}] * 4
    assert [row["status"] for row in found] == [200, 400, 200, 200]
    assert found[0]["key"] == key(0).hex()
    assert found[0]["stored_at"] == "2023-11-14T22:13:20Z"
    assert found[0]["usage"]["input_tokens"] == 1_000
    assert found[0]["body"]["choices"][0]["message"]["content"] == "fine"
    assert found[1]["body"] == {"error": {"message": "no"}}


def test_export_leaves_bodies_out_where_that_is_wanted(path: Path) -> None:
    done = run("ledger", "export", path, "--no-body")
    assert [set(json.loads(line)) for line in done.stdout.splitlines()] == [{"key", "status", "stored_at", "usage"}] * 4


def test_export_writes_valid_unicode_and_whole_numbers_whatever_a_reply_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    with SqliteLedger(path) as ledger:
        ledger.put([(bytes(16), Reply(200, {"text": "half \ud83d", "number": 2**70}, {}))])
    done = subprocess.run(command("ledger", "export", path), capture_output=True, check=True)
    row = json.loads(done.stdout.decode("utf-8"))
    assert row["body"]["number"] == 2**70
    assert row["body"]["text"].startswith("half ")
    row["body"]["text"].encode()


def test_export_gives_a_vector_as_the_text_that_it_came_as(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    with SqliteLedger(path) as ledger:
        body = {"data": [{"index": 0, "embedding": b"\0\0\x80?"}]}
        ledger.put([(bytes(16), Reply(200, body, {}))])
    (line,) = run("ledger", "export", path).stdout.splitlines()
    assert json.loads(line)["body"] == {"data": [{"index": 0, "embedding": "AACAPw=="}]}


def test_export_ends_quietly_where_nobody_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    with SqliteLedger(path) as ledger:
        ledger.put([(number.to_bytes(2) * 8, reply(text="x" * 1_000)) for number in range(2_000)])
    line = " ".join(f"'{word}'" for word in command("ledger", "export", path))
    done = subprocess.run(["bash", "-c", f"{line} | head -n 1"], capture_output=True, text=True, check=False)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_the_keys_are_those_that_rows_name(tmp_path: Path, endpoint: Endpoint) -> None:
    output = tmp_path / "out.jsonl"
    run("enrich", table(tmp_path / "in.csv", 3), "-o", output, *options(endpoint))
    exported = run("ledger", "export", f"{output}.ledger").stdout.splitlines()
    assert {json.loads(line)["key"] for line in exported} == {row["_llm"]["prompt_hash"] for row in lines(output)}


FAULTS = ("400", "length", "filter", "content-empty", "choices-null", "text-missing")


@pytest.mark.parametrize("schema", [{"label": {"enum": ["good", "bad"]}}, {"label": {"type": "string"}}, None])
def test_prune_failed_takes_exactly_what_retry_failed_would_call_again(
    schema: dict[str, object] | None, tmp_path: Path
) -> None:
    source, output, config = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "c.json"
    texts = ["fine", "well", *(f"[[fault:{fault}]]" for fault in FAULTS), "[[fault:length]] again"]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    form = schema and {"type": "object", "properties": schema, "required": list(schema)}
    config.write_text(json.dumps({"output_schema": form, "max_repairs": 0, "max_template_error_percent": 100}))
    with Endpoint() as endpoint:
        words = [*options(endpoint), "--config", config]
        run("enrich", source, "-o", output, *words)
        failed = [row["_llm"]["prompt_hash"] for row in lines(output) if row["_llm"]["status"] != "success"]
        before = len(endpoint.journal.calls)
        run("enrich", source, "-o", output, *words, "--retry-failed")
        again = [call.prompt for call in endpoint.journal.calls[before:]]
        done = run(
            "ledger", "prune", f"{output}.ledger", "--failed", "--config", config, OPENAI_BASE_URL=endpoint.base_url
        )
        left = {json.loads(line)["key"] for line in run("ledger", "export", f"{output}.ledger").stdout.splitlines()}
        before = len(endpoint.journal.calls)
        run("enrich", source, "-o", output, *words)
        after = [call.prompt for call in endpoint.journal.calls[before:]]
    assert (done.returncode, done.stderr) == (0, "")
    assert len(failed) == len(set(failed)) >= len(FAULTS)
    assert left == {row["_llm"]["prompt_hash"] for row in lines(output)} - set(failed)
    assert sorted(again) == sorted(after)


def test_prune_failed_without_a_config_says_what_it_cannot_know(path: Path) -> None:
    done = run("ledger", "prune", path, "--failed")
    assert "give its --config or --column" in done.stderr


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ({"prices": {"input": 100, "output": 1000}}, "$0.87 (from 3 replies)"),
        ({}, "$0.75 (from 2 replies)"),
    ],
)
def test_stats_tell_the_cost_by_the_prices_of_the_config(options: dict[str, object], cost: str, path: Path) -> None:
    config = path.with_name("c.json")
    config.write_text(json.dumps({"url": "http://localhost/v1", **options}))
    told = run("ledger", "stats", path, "--config", config).stdout.splitlines()
    assert [line[12:] for line in told if line.startswith("cost")] == [cost]


ACTIONS = [["stats"], ["prune", "--failed"], ["export"]]


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
@pytest.mark.parametrize(
    ("make", "told", "code"),
    [
        (Path.exists, "there is no such file", 2),
        (Path.mkdir, "there is no ledger in this folder", 2),
        (Path.touch, "this is not a ledger", 2),
        (lambda path: path.write_text("id,text\n" * 1_000), "this is not a ledger", 2),
        (other_database, "the database of another program", 3),
    ],
    ids=["absent", "folder", "empty", "text", "database"],
)
def test_what_is_not_a_ledger_is_reported_and_left_alone(
    tmp_path: Path, action: list[str], make: Callable[[Path], object], told: str, code: int
) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    done = run("ledger", *action, path)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (path.read_bytes() if path.is_file() else None) == before
    assert {each.name for each in tmp_path.iterdir()} <= {"file"}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_one_in_use_is_refused_at_once(path: Path, action: list[str]) -> None:
    with SqliteLedger(path):
        done = run("ledger", *action, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a run is using this ledger" in done.stderr


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_a_damaged_one_is_reported_and_left_as_it_is(path: Path, action: list[str]) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(number.to_bytes(2) * 8, reply(text="x" * 1_000)) for number in range(200)])
    os.truncate(path, path.stat().st_size // 2)
    before = path.read_bytes()
    done = run("ledger", *action, path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before


def test_what_a_killed_run_has_stored_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    program = (
        "import os, sys; from pathlib import Path; from connector.ledger.sqlite import SqliteLedger; "
        "from connector.base.records import Reply; ledger = SqliteLedger(Path(sys.argv[1])); "
        "ledger.put([(bytes(16), Reply(200, {}, {}))]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([*command()[:1], "-c", program, str(path)], check=False)
    assert shown(path)["entries"] == "1"
