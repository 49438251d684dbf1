"""Airbyte's destination on the command line: rows come in and are stored, enriched; a STATE comes out once it holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airbyte_protocol.models import AirbyteMessage  # type: ignore[import-untyped]  # it has no py.typed

from connector.config.config import Config
from tests.endpoint import Endpoint, answer_to
from tests.patience import PATIENCE
from tests.protocols.test_airbyte import Messages, of_type, run
from tests.stores.helpers import table

Message = dict[str, Any]


def record(number: int, stream: str = "reviews", **more: Any) -> Message:
    data = {"id": number, "text": f"row {number}", **more}
    return {"type": "RECORD", "record": {"stream": stream, "data": data, "emitted_at": 1700000000000}}


def state(number: int, stream: str = "reviews") -> Message:
    described = {"stream_descriptor": {"name": stream}, "stream_state": {"at": number, "é": 1.0}}
    return {"type": "STATE", "state": {"type": "STREAM", "stream": described}}


def status(value: str, stream: str = "reviews") -> Message:
    told = {"stream_descriptor": {"name": stream}, "status": value}
    return {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1.0, "stream_status": told}}


def lines_of(messages: Iterable[Message | str]) -> str:
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in messages)


class Sync:
    """A directory with a destination's config and catalogue."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path
        self.config: Message = {
            "url": endpoint.base_url,
            "api_key": "sk-canary",
            "model": "m",
            "prompt": "{{ text }}",
            "streams": ["reviews"],
            "cache": str(path / "ledger"),
            "output": {"type": "files", "path": str(path / "{stream}.jsonl")},
        }

    def command(self, *streams: Message, mode: str = "append", **changes: Any) -> list[str]:
        catalog = {"streams": list(streams) or [self.stream("reviews", mode), self.stream("others", mode)]}
        (self.path / "config.json").write_text(json.dumps({**self.config, **changes}))
        (self.path / "catalog.json").write_text(json.dumps(catalog))
        return ["write", "--config", str(self.path / "config.json"), "--catalog", str(self.path / "catalog.json")]

    def stream(self, name: str, mode: str = "append", **more: Any) -> Message:
        fields = {"id": {"type": "integer"}, "text": {"type": ["null", "string"]}}
        stream = {"name": name, "json_schema": {"type": "object", "properties": fields}}
        return {"stream": stream, "sync_mode": "incremental", "destination_sync_mode": mode, **more}

    def write(self, *messages: Message | str, mode: str = "append", **changes: Any) -> tuple[int, list[str], Messages]:
        """The exit code, the lines of stdout, and what they say."""
        done = subprocess.run(
            [sys.executable, "-m", "connector", *self.command(mode=mode, **changes)],
            input=lines_of(messages),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stdout + done.stderr
        lines = done.stdout.splitlines()
        for line in lines:
            AirbyteMessage.model_validate_json(line)
        return done.returncode, lines, [json.loads(line) for line in lines]

    def rows(self, stream: str = "reviews") -> list[Message]:
        path = self.path / f"{stream}.jsonl"
        return table(path) if path.exists() else []

    def ids(self, stream: str = "reviews") -> list[int]:
        return [row["id"] for row in self.rows(stream)]

    @contextmanager
    def running(self, *messages: Message, **changes: Any) -> Iterator[subprocess.Popen[str]]:
        """The program, which has been sent these messages and waits for more."""
        command = [sys.executable, "-m", "connector", *self.command(**changes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdin
                process.stdin.write(lines_of(messages))
                process.stdin.flush()
                yield process
            finally:
                process.kill()


@pytest.fixture
def sync(tmp_path: Path, endpoint: Endpoint) -> Sync:
    return Sync(tmp_path, endpoint)


def error_of(messages: Messages) -> Message:
    (error,) = [trace["error"] for trace in of_type(messages, "TRACE") if trace["type"] == "ERROR"]
    return dict(error)


def test_rows_are_enriched_and_stored_in_their_order_others_as_they_are(sync: Sync) -> None:
    rows = [record(number % 7 * 10 + number, note=number or None) for number in range(40)]
    code, _, _ = sync.write(*rows, record(1, "others", deep={"a": [1, None]}), status("COMPLETE"))
    assert code == 0
    stored = sync.rows()
    assert [row["id"] for row in stored] == [each["record"]["data"]["id"] for each in rows]
    assert all(row["content"] == answer_to(row["text"]) for row in stored)
    assert {row["_llm"]["status"] for row in stored} == {"success"}
    assert sync.rows("others") == [{"id": 1, "text": "row 1", "deep": {"a": [1, None]}}]


@pytest.mark.parametrize("mode", ["overwrite", "append", "append_dedup"])
def test_states_come_out_as_they_came_and_in_their_order(sync: Sync, mode: str) -> None:
    states = [state(3), state(1, "others"), {"type": "STATE", "state": {"data": {"x": 12345678901234567890}}}]
    odd = '{ "state":{"type":"LEGACY", "data": {"a": 1.50}} ,"type" : "STATE" }'
    streams = [sync.stream(name, mode, primary_key=[["id"]]) for name in ("reviews", "others")]
    command = sync.command(*streams)
    ended = [status("COMPLETE"), status("COMPLETE", "others")]
    given = lines_of([states[0], record(1), states[1], record(1, "others"), states[2], record(2), odd, *ended])
    done = subprocess.run(
        [sys.executable, "-m", "connector", *command], input=given, capture_output=True, text=True, check=True
    )
    told = [line for line in done.stdout.splitlines() if json.loads(line)["type"] == "STATE"]
    counts = (0, 0, 2, 1)
    for line, given, count in zip(told, [*map(json.dumps, states), odd], counts, strict=True):
        assert line.replace(f',"destinationStats":{{"recordCount":{count}.0}}', "") == given
    assert sync.ids() == [1, 2]


def test_a_state_says_how_many_rows_of_its_stream_have_come_since_the_one_before(sync: Sync) -> None:
    bad = record(2)
    bad["record"]["data"]["text"] = "[[fault:400]]"
    whole = {"type": "STATE", "state": {"type": "LEGACY", "data": {}, "destinationStats": {"recordCount": 99.0}}}
    given = [record(1), record(1, "others"), bad, state(1), state(2), record(3), whole]
    _, _, messages = sync.write(*given, on_error="skip")
    assert [each["destinationStats"] for each in of_type(messages, "STATE")] == [
        {"recordCount": 1.0, "rejectedRecordCount": 1.0},
        {"recordCount": 0.0},
        {"recordCount": 2.0},
    ]


def test_rows_of_an_earlier_sync_stay_go_or_are_replaced_as_the_catalog_says(sync: Sync) -> None:
    sync.write(record(1), record(2))
    sync.write(record(2), record(3))
    assert sync.ids() == [1, 2, 2, 3]
    keyed = sync.stream("reviews", "append_dedup", primary_key=[["id"]])
    subprocess.run(
        [sys.executable, "-m", "connector", *sync.command(keyed)], input=lines_of([record(1)]), text=True, check=True
    )
    assert sync.ids() == [2, 3, 1]
    sync.write(record(9), status("COMPLETE"), status("COMPLETE", "others"), mode="overwrite")
    assert sync.ids() == [9]


def test_a_state_comes_out_while_the_source_pauses_and_what_came_before_it_outlives_a_kill(sync: Sync) -> None:
    with sync.running(*(record(number) for number in range(5)), state(1), record(5)) as process:
        assert process.stdout
        told = json.loads(process.stdout.readline())
        process.kill()
    assert told["state"].pop("destinationStats") == {"recordCount": 5.0}
    assert told == state(1)
    assert sync.ids()[:5] == list(range(5))


def test_a_state_behind_rows_that_overwrite_waits_for_the_end(sync: Sync, endpoint: Endpoint) -> None:
    with sync.running(record(1), state(1), mode="overwrite") as process:
        assert process.stdout
        endpoint.journal.wait_for(calls=1)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(PATIENCE) == -signal.SIGTERM
    assert [json.loads(line)["type"] for line in rest.splitlines()] == ["LOG", "LOG"]
    assert sync.rows() == []


def test_sigterm_stores_and_tells_what_is_whole(sync: Sync) -> None:
    with sync.running(record(1), state(1)) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["type"] == "STATE"
        assert process.stdin
        process.stdin.write(lines_of([record(2), state(2)]))
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(PATIENCE) == -signal.SIGTERM
    told = [1, *(each["state"]["stream"]["stream_state"]["at"] for each in rest if each["type"] == "STATE")]
    assert len(sync.rows()) == len(told)
    assert rest[-1]["log"]["message"] == f'rows stored: {len(told)} of "reviews"'


BROKEN: list[tuple[str | Message, str]] = [
    ('{"type": "RECORD", "record"', "line 3: it is not JSON"),
    ("[1]", "line 3: this is not a message"),
    ({"type": "RECORD"}, "line 3: the RECORD has no stream"),
    ({"type": "RECORD", "record": {"stream": "reviews", "data": [1]}}, "line 3: the RECORD has no stream, or no data"),
    (record(2, "nowhere"), 'line 3: there is no stream "nowhere" in the catalog; there are: reviews, others'),
    (record(2, content="mine"), 'line 3: the record of stream "reviews" already has "content"'),
    (json.dumps(record(2, deep=0)).replace("0", "[" * 300 + "]" * 300, 1), "line 3: the RECORD is nested too deeply"),
]


@pytest.mark.parametrize(("broken", "told"), BROKEN, ids=[told[8:40] for _, told in BROKEN])
def test_a_bad_message_is_named_by_its_line_and_what_came_before_it_is_stored(
    sync: Sync, broken: str | Message, told: str
) -> None:
    code, lines, messages = sync.write(record(1), state(1), broken, record(3), state(3))
    assert code == 1
    assert json.loads(lines[0])["type"] == "STATE"
    assert len(of_type(messages, "STATE")) == 1
    assert error_of(messages)["failure_type"] == "config_error"
    assert told in error_of(messages)["message"]
    assert sync.ids() == [1]


def test_a_broken_stdin_is_reported(sync: Sync, tmp_path: Path) -> None:
    with (tmp_path / "written").open("w") as unreadable:
        command = [sys.executable, "-m", "connector", *sync.command()]
        done = subprocess.run(command, stdin=unreadable, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert (
        "standard input cannot be read" in error_of([json.loads(line) for line in done.stdout.splitlines()])["message"]
    )


def test_blank_lines_and_other_messages_are_passed_over(sync: Sync) -> None:
    code, _, messages = sync.write("", {"type": "LOG", "log": {"level": "INFO", "message": "x"}}, record(1), state(1))
    assert (code, len(of_type(messages, "STATE")), sync.ids()) == (0, 1, [1])


def test_a_run_that_the_endpoint_ends_stores_what_is_answered_and_goes_on_without_paying_again(
    sync: Sync, endpoint: Endpoint
) -> None:
    bad = record(2)
    bad["record"]["data"]["text"] = "[[fault:401]]"
    code, _, messages = sync.write(record(1), state(1), bad, state(2))
    assert (code, sync.ids()) == (1, [1])
    assert len(of_type(messages, "STATE")) == 1
    assert "the endpoint refuses the key" in error_of(messages)["message"]
    sync.write(record(1))
    assert sum(call.prompt == "row 1" for call in endpoint.journal.calls) == 1


def test_an_output_that_cannot_be_written_is_found_before_anything_is_paid_for(sync: Sync) -> None:
    url = f"sqlite:///{sync.path}/out.db"
    output = {"type": "sql", "url": url, "table": "{stream}"}
    sync.write(record(1), output=output)
    os.chmod(sync.path / "out.db", 0o400)  # noqa: PTH101 - as in a shell
    done = subprocess.run(["id", "-u"], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "0":  # root may write anything: a view cannot be written to by anybody
        os.chmod(sync.path / "out.db", 0o600)  # noqa: PTH101 - as above
        sqlite(sync.path / "out.db", "DROP TABLE reviews", "CREATE VIEW reviews AS SELECT 1 AS id, '' AS text")
    code, _, messages = sync.write(record(1), state(1), output=output)
    assert (code, of_type(messages, "STATE")) == (1, [])
    assert error_of(messages)["failure_type"] == "config_error"
    assert "the database says" in error_of(messages)["message"]


def sqlite(path: Path, *statements: str) -> None:
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); [c.execute(s) for s in sys.argv[2:]]; c.commit()"
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=True)


@pytest.mark.parametrize("ended", [[], ["STARTED"], ["INCOMPLETE"], ["COMPLETE", "INCOMPLETE"]])
def test_a_source_that_did_not_finish_overwrites_nothing(sync: Sync, ended: list[str]) -> None:
    whole = status("COMPLETE", "others")
    sync.write(record(1), status("COMPLETE"), whole, mode="overwrite")
    given = [record(2), state(2), *map(status, ended)]
    code, _, messages = sync.write(*given, record(5, "others"), whole, mode="overwrite")
    assert (code, sync.ids(), sync.ids("others")) == (1, [1], [5])
    assert of_type(messages, "STATE") == []
    assert "did not report that it has finished reviews" in error_of(messages)["message"]


@pytest.mark.parametrize(("on_error", "ids", "code"), [("record", [1, 2, 3], 0), ("skip", [1, 3], 0), ("fail", [1], 1)])
def test_a_row_that_fails_is_kept_left_out_or_the_end(sync: Sync, on_error: str, ids: list[int], code: int) -> None:
    bad = record(2)
    bad["record"]["data"]["text"] = "[[fault:400]]"
    ended, _, messages = sync.write(record(1), bad, record(3), state(3), on_error=on_error)
    assert (ended, sync.ids()) == (code, ids)
    assert len(of_type(messages, "STATE")) == (code == 0)


@pytest.mark.parametrize(
    ("stream", "changes", "told"),
    [
        ({"destination_sync_mode": "INVALID"}, {}, 'there is no sync mode "INVALID"'),
        ({"destination_sync_mode": "append_dedup"}, {}, "append_dedup needs a primary key"),
        ({"destination_sync_mode": "append_dedup", "primary_key": [["a", "b"]]}, {}, "columns are not nested"),
        ({}, {"output": None}, "output: is missing"),
        ({}, {"output": {"type": "stdio"}}, "output"),
        ({}, {"prompt": "{{ nowhere }}"}, 'there is no column "nowhere"'),
        ({"stream": {"name": 3}}, {}, "is not a configured Airbyte catalog"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_paid_for(
    sync: Sync, endpoint: Endpoint, stream: Message, changes: Message, told: str
) -> None:
    command = sync.command({**sync.stream("reviews"), **stream}, **changes)
    code, messages, _ = run(*command)
    assert code == 1
    assert error_of(messages)["failure_type"] == "config_error"
    assert told in error_of(messages)["message"]
    assert not endpoint.journal.calls


@pytest.mark.parametrize(
    ("path", "verdict"), [("{stream}.csv", "SUCCEEDED"), ("nowhere/x.csv", "FAILED"), ("x.doc", "FAILED")]
)
def test_check_looks_at_the_output(sync: Sync, path: str, verdict: str) -> None:
    command = sync.command(output={"type": "files", "path": str(sync.path / path)})
    code, (message,), _ = run("check", *command[1:3])
    assert (code, message["connectionStatus"]["status"]) == (0, verdict)
    assert verdict == "SUCCEEDED" or path in message["connectionStatus"]["message"]


def test_the_output_is_for_whom_its_permissions_say(sync: Sync) -> None:
    for name, options in {"mine": {}, "ours": {"permissions": "640"}, "old.csv": {"permissions": "0644"}}.items():
        path = sync.path / (name if "." in name else f"{name}.jsonl")
        given = [sync.stream("reviews", "append_dedup", primary_key=[["id"]])]
        for number in (1, 2):
            command = sync.command(*given, output={"type": "files", "path": str(path), **options})
            subprocess.run(
                [sys.executable, "-m", "connector", *command], input=lines_of([record(number)]), text=True, check=True
            )
        assert oct(path.stat().st_mode)[-3:] == options.get("permissions", "600")[-3:]


def test_spec_tells_the_modes_and_the_form_of_the_output() -> None:
    _, (message,), _ = run("spec")
    assert message["spec"]["supported_destination_sync_modes"] == ["overwrite", "append", "append_dedup"]
    branches = message["spec"]["connectionSpecification"]["properties"]["output"]["oneOf"]
    assert [branch["properties"]["type"]["const"] for branch in branches] == ["files", "sql"]


@pytest.mark.parametrize("name", ["source", "destination"])
def test_the_sample_configs_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    path = Path(__file__).parents[2] / "sample_configs" / "airbyte" / f"{name}.json"
    config = Config.load(path)
    assert (config.input is None) == (name == "destination") == (config.output is not None)
