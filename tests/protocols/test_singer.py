"""The inline mapper: every message comes out once and in its place, with the columns that its stream gains."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import pytest
from jsonschema import Draft7Validator

from connector import __version__
from tests.endpoint import Endpoint, act, answer_to, shuffled
from tests.patience import PATIENCE
from tests.protocols.messages import Message, record, schema, state, text_of


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "connector", *map(str, arguments)]


class Mapper:
    """A config, and the process that maps by it."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self._path = path
        self.config: Message = {
            "url": endpoint.base_url,
            "api_key": "sk-canary",
            "model": "m",
            "prompt": "{{ text }}",
            "response_format": {"label": "{{ content }}"},
            "metadata": "none",
        }

    def file(self, **changes: Any) -> Path:
        path = self._path / "config.json"
        path.write_text(json.dumps({**self.config, **changes}))
        return path

    def run(self, *messages: Message | str, **changes: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command("--config", self.file(**changes)),
            input=text_of(messages).encode(),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def mapped(self, *messages: Message | str, **changes: Any) -> list[Message]:
        done = self.run(*messages, **changes)
        assert done.returncode == 0, done.stderr
        assert "canary" not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def process(self, **changes: Any) -> Iterator[Process]:
        with Process(command("--config", self.file(**changes))) as process:
            yield process


class Process:
    """A mapper whose standard streams are in the test's hands."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for stream in (self.stdin, self.stdout, self._process.stderr):
            if stream:
                stream.close()
        self._process.wait()

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout
        return self._process.stdout

    def send(self, *messages: Message | str) -> None:
        self.stdin.write(text_of(messages).encode())

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def lines(self, count: int) -> list[Message]:
        """The next lines, once there are so many."""
        while self._rest.count(b"\n") < count:
            ready, _, _ = select.select([self.stdout], [], [], PATIENCE)
            chunk = os.read(self.stdout.fileno(), 1 << 16) if ready else b""
            assert chunk, f"only this has come: {self._rest!r}"
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n", count)
        return [json.loads(line) for line in lines]

    def ended(self) -> tuple[int, str]:
        """Exit code and stderr, whoever has closed the rest."""
        assert self._process.stderr
        told = self._process.stderr.read().decode()
        return self._process.wait(PATIENCE), told

    def end(self) -> tuple[int, list[Message], str]:
        """Exit code, what else came on stdout, and stderr."""
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, [json.loads(line) for line in (self._rest + out).splitlines()], err.decode()


@pytest.fixture
def mapper(tmp_path: Path, endpoint: Endpoint) -> Mapper:
    return Mapper(tmp_path, endpoint)


# --- Messages --------------------------------------------------------------------------------------------------------


def test_a_record_keeps_all_it_has_and_gains_its_columns(mapper: Mapper) -> None:
    given = record(1, version=7, time_extracted="2024-01-01T00:00:00.000000Z", unknown={"a": [1]})
    _, mapped = mapper.mapped(schema(), given)
    assert mapped == given | {"record": {**given["record"], "label": answer_to("row 1")}}


def test_a_schema_gains_nullable_columns_and_keeps_everything_else(mapper: Mapper) -> None:
    given = schema(bookmark_properties=["id"], unknown={"a": 1})
    given["schema"] |= {"additionalProperties": False, "required": ["id"], "x-unknown": [1.5]}
    answered = {"type": "object", "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}}}
    mapped, row = mapper.mapped(given, record(1), output_schema=answered, response_format=None, metadata="full")
    properties = mapped["schema"].pop("properties")
    assert properties["mood"] == {"type": ["null", "string"], "enum": ["good", "bad", None]}
    assert properties["_llm"]["type"] == ["null", "object"]
    assert list(properties) == ["id", "text", "mood", "_llm"]
    Draft7Validator({**mapped["schema"], "properties": properties}).validate(row["record"])
    del given["schema"]["properties"]
    assert mapped == given


@pytest.mark.parametrize(("metadata", "columns"), [("full", 14), ("status", 2), ("none", 0)])
def test_provenance_is_as_asked_for_in_schema_and_record(mapper: Mapper, metadata: str, columns: int) -> None:
    described, mapped = mapper.mapped(schema(), record(1), metadata=metadata)
    assert len(mapped["record"].get("_llm", {})) == columns
    assert ("_llm" in described["schema"]["properties"]) is bool(columns)


def test_every_record_comes_once_and_no_state_overtakes_one(tmp_path: Path) -> None:
    messages: list[Message] = [schema()]
    for number in range(400):
        messages.append(record(number))
        if number % 7 == 0:
            messages.append(state(number))
        if number % 50 == 0:
            messages.append({"type": "ACTIVATE_VERSION", "stream": "reviews", "version": number})
    with Endpoint(latency=shuffled(0.0, 0.05)) as endpoint:
        _, *mapped = Mapper(tmp_path, endpoint).mapped(*messages, concurrency=32)
    for given in messages:
        if given["type"] == "RECORD":
            given["record"]["label"] = answer_to(given["record"]["text"])
    assert mapped == messages[1:]


def test_a_pausing_tap_gets_everything_through(tmp_path: Path) -> None:
    with Endpoint(latency=lambda _: 0.05) as endpoint, Mapper(tmp_path, endpoint).process() as process:
        for first in range(0, 60, 30):
            numbers = range(first, first + 30)
            process.send(schema(), *map(record, numbers), state(first))
            assert process.lines(32)[-1] == state(first)
        process.stdin.close()


# --- Streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_can_have_options_of_its_own(mapper: Mapper, endpoint: Endpoint) -> None:
    streams = {
        "reviews": {"prompt": "Review {{ text }}", "model": "other"},
        "re*": {"response_format": {"tokens": "{{ usage.total_tokens }}"}, "metadata": "status"},
    }
    base = {"request_format": {"model": "m", "messages": [{"role": "user", "content": "Base {{ text }}"}]}}
    given = [schema(), schema("replies"), record(1), record(2, "replies")]
    first, second, review, reply = mapper.mapped(*given, streams=streams, **base)
    assert list(first["schema"]["properties"]) == ["id", "text", "label"]
    assert second["schema"]["properties"]["tokens"] == {"type": ["null", "integer"]}
    assert review["record"]["label"] == answer_to("Review row 1")
    assert isinstance(reply["record"]["tokens"], int)
    assert reply["record"]["_llm"] == {"status": "success", "error": None}
    assert {(call.prompt, call.body["model"]) for call in endpoint.journal.calls} == {
        ("Review row 1", "other"),
        ("Base row 2", "m"),
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"streams": {"a": {"concurrency": 1}}}, "streams.a: concurrency: is not an option that a stream can have"),
        ({"prompt": "{{ nowhere }}"}, 'there is no column "nowhere" in the input; there are: id, text'),
        ({"response_format": {"text": "{{ content }}"}}, 'the column "text" is in the input already'),
    ],
)
def test_a_config_that_cannot_work_ends_with_2_before_any_call(
    mapper: Mapper, endpoint: Endpoint, changes: dict[str, Any], told: str
) -> None:
    done = mapper.run(schema(), record(1), **changes)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not endpoint.journal.calls


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "it is not JSON"),
        (json.dumps({"type": "BATCH", "stream": "reviews"}), "the BATCH has the encoding"),
    ],
)
def test_a_line_that_cannot_be_ends_it_behind_all_before_it(mapper: Mapper, line: str, told: str) -> None:
    done = mapper.run(schema(), record(1), state(1), line, record(2))
    assert done.returncode == 2
    assert [json.loads(each)["type"] for each in done.stdout.splitlines()] == ["SCHEMA", "RECORD", "STATE"]
    assert f"openai-compatible: standard input, line 4: {told}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_key_ends_it_and_no_state_passes_what_was_not_delivered(mapper: Mapper) -> None:
    bad = record(3, text="[[fault:401]]")
    done = mapper.run(schema(), record(1), state(1), bad, state(3))
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert types[:1] == ["SCHEMA"]
    assert types.count("STATE") <= 1
    assert "canary" not in done.stderr + done.stdout


def test_a_set_up_that_cannot_work_is_reported_with_what_to_change(mapper: Mapper, endpoint: Endpoint) -> None:
    done = mapper.run(schema(), record(1), url=f"{endpoint.origin}/v2")
    assert done.returncode == 3
    assert f"{endpoint.url} answers: set url to that" in done.stderr


@pytest.mark.parametrize(("on_error", "numbers"), [("record", [1, 2, 3]), ("skip", [1, 3])])
def test_a_failed_row_is_kept_or_left_out(mapper: Mapper, on_error: str, numbers: list[int]) -> None:
    bad = record(2, text="[[fault:400]]")
    done = mapper.run(schema(), record(1), bad, state(2), record(3), on_error=on_error, metadata="status")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    rows = {each["record"]["id"]: each["record"] for each in messages if each["type"] == "RECORD"}
    assert (done.returncode, list(rows)) == (0, numbers)
    assert state(2) in messages
    assert 2 not in rows or (rows[2]["label"], rows[2]["_llm"]["status"]) == (None, "error")


def test_a_failed_row_stops_the_run_where_that_is_asked_for(mapper: Mapper) -> None:
    bad = record(2, text="[[fault:400]]")
    done = mapper.run(schema(), record(1), state(1), bad, state(2), on_error="fail")
    assert done.returncode == 1
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["SCHEMA", "RECORD", "STATE"]
    assert 'stream "reviews": a row failed' in done.stderr


# --- The process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_flight_and_ends_the_process(tmp_path: Path, number: int) -> None:
    with Endpoint(latency=lambda _: 0.5) as endpoint, Mapper(tmp_path, endpoint).process(concurrency=4) as process:
        process.send(schema(), *map(record, range(4)), state(4), *map(record, range(4, 200)))
        process.lines(1)
        endpoint.journal.wait_for(calls=4)
        process.signal(number)
        code, messages, stderr = process.end()
        assert code == -number
        assert messages[:4] == [
            record(each) | {"record": {"id": each, "text": f"row {each}", "label": answer_to(f"row {each}")}}
            for each in range(4)
        ]
        assert messages[4] == state(4)
        assert len(endpoint.journal.calls) < 50
        assert "Traceback" not in stderr


@pytest.mark.parametrize("streams", [["reviews"], ["others"]])
def test_a_reader_that_goes_away_ends_it_quietly_and_not_as_a_success(mapper: Mapper, streams: list[str]) -> None:
    with mapper.process(streams=streams) as process:
        process.send(schema())
        process.lines(1)
        process.stdout.close()
        for number in range(100):
            try:
                process.send(*(record(number * 100 + each) for each in range(100)))
            except BrokenPipeError:
                break
        process.stdin.close()
        code, stderr = process.ended()
        assert code == 3
        assert "Traceback" not in stderr
        assert "Exception" not in stderr


def test_a_full_disk_behind_stdout_is_reported(mapper: Mapper) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("--config", mapper.file()),
            input=text_of([schema(), *map(record, range(3))]).encode(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE,
        )
    assert done.returncode == 3
    assert b"standard output cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_was_answered_once_is_not_asked_again(mapper: Mapper, endpoint: Endpoint) -> None:
    given = [schema(), *map(record, range(20))]
    assert mapper.mapped(*given) == mapper.mapped(*given)
    assert len(endpoint.journal.calls) == 20


def test_mappers_in_a_row_do_not_wait_for_each_other(mapper: Mapper, tmp_path: Path) -> None:
    first, second = mapper.file(), tmp_path / "second.json"
    second.write_text(json.dumps({**mapper.config, "response_format": {"second": "{{ content }}"}}))
    with (
        subprocess.Popen(command("--config", first), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one,
        subprocess.Popen(
            command("--config", second), stdin=one.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as two,
    ):
        assert one.stdin
        one.stdin.write(text_of([schema(), *map(record, range(5))]).encode())
        one.stdin.close()
        out, err = two.communicate(timeout=PATIENCE)
    assert (one.returncode, two.returncode) == (0, 0)
    assert list(json.loads(out.splitlines()[-1])["record"]) == ["id", "text", "label", "second"]
    assert b"in memory" not in err


def test_two_runs_on_one_ledger_both_come_to_their_end(mapper: Mapper) -> None:
    with mapper.process() as first:
        first.send(schema(), record(1))
        first.lines(2)
        done = mapper.run(schema(), record(1))
        assert done.returncode == 0
        assert "another run has the ledger" in done.stderr
        first.stdin.close()


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_config_that_cannot_be_read_is_reported(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config.json"
    if content:
        path.write_text(content)
    done = subprocess.run(command("--config", path), input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_about_says_what_it_is_and_takes() -> None:
    done = subprocess.run(command("--about", "--format", "json"), capture_output=True, text=True, check=True)
    about = json.loads(done.stdout)
    assert about["name"] == "map-openai-compatible"
    assert about["version"] == __version__
    assert about["settings"]["properties"]["api_key"]["writeOnly"] is True
    assert about["capabilities"]


def test_discover_has_no_streams_to_tell() -> None:
    done = subprocess.run(command("--discover"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"streams": []}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"prompt": None, "streams": {"a": {"prompt": "{{ text }}"}}}, 0),
        ({"url": "http://127.0.0.1:9/v1"}, 1),
        ({"prompt": None}, 1),
        ({"streams": {"a": {"prompt": "{{"}}}, 1),
    ],
)
def test_test_tries_config_and_connection(mapper: Mapper, changes: dict[str, Any], code: int) -> None:
    done = subprocess.run(
        command("--config", mapper.file(**changes), "--test"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help_are_printed() -> None:
    done = subprocess.run(command("--version"), capture_output=True, text=True, check=True)
    assert __version__ in done.stdout
    done = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
    assert "--config FILE" in done.stdout
    assert "--about" in done.stdout


@pytest.mark.parametrize("words", [["--test"], ["--protocol", "singer", "read"], ["--protocol", "singer", "spec"]])
def test_what_it_cannot_do_is_a_wrong_command(words: list[str]) -> None:
    done = subprocess.run(command(*words), input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_an_outage_is_not_the_end_of_the_records(tmp_path: Path) -> None:
    with Endpoint(script=lambda call: act(call, "500") if call.attempt == 1 else None) as endpoint:
        mapped = Mapper(tmp_path, endpoint).mapped(schema(), *map(record, range(3)))
    assert len(mapped) == 4
