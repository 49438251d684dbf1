"""The inline mapper: every message comes out once and in its place, with the columns that its stream gains."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from connector import ConfigError, Connector, __version__
from connector.protocols import singer
from connector.protocols._cut import guessed, walked
from connector.protocols._inline import Inlet
from connector.records import IDLE, Idle
from tests.endpoint import Endpoint, act, answer_to, shuffled

PATIENCE = 20.0
"""Seconds after which something that should come at once is given up."""

Message = dict[str, Any]


def schema(stream: str = "reviews", *columns: str, **more: Any) -> Message:
    properties = {name: {"type": ["null", "string"]} for name in columns or ("text",)}
    described = {"type": "object", "properties": {"id": {"type": "integer"}, **properties}}
    return {"type": "SCHEMA", "stream": stream, "schema": described, "key_properties": ["id"], **more}


def record(number: int, stream: str = "reviews", **more: Any) -> Message:
    return {"type": "RECORD", "stream": stream, "record": {"id": number, "text": f"row {number}"}, **more}


def state(number: int) -> Message:
    return {"type": "STATE", "value": {"bookmarks": {"reviews": {"replication_key_value": number}}}}


def text(messages: Iterable[Message | str]) -> str:
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in messages)


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
            input=text(messages).encode(),
            capture_output=True,
            check=False,
            timeout=60,
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

    def __enter__(self) -> Process:
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
        self.stdin.write(text(messages).encode())

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def lines(self, count: int) -> list[Message]:
        """The next lines, once there are so many."""
        until = time.monotonic() + PATIENCE
        while self._rest.count(b"\n") < count:
            ready, _, _ = select.select([self.stdout], [], [], max(0.0, until - time.monotonic()))
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


# --- Messages ------------------------------------------------------------------------------------------------------


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


ODD = [
    '{"type":"RECORD","stream":"reviews","record":{"id":1,"text":"x","n":12345678901234567890.12345678901234567890}}',
    '{"type": "RECORD", "stream": "reviews", "record": {"id": 1, "text": "}}\\"{", "o": {"a": [{}]}}, "version": 3}',
    '{"record": {"text": "\\u00e9", "id": NaN}, "time_extracted": "}", "stream": "reviews", "type": "RECORD"}',
    '{"type": "RECORD", "stream": "reviews", "record": {"text": "x", "half": "\\ud83d"}, "more": {"a": {"b": "}"}}}',
    '  { "type" : "RECORD" , "stream" : "re\\u0076iews" , "record" : { "text" : "x" } , "version" : 1 } \r',
]


@pytest.mark.parametrize("line", ODD)
def test_a_line_is_never_written_anew_around_the_columns(mapper: Mapper, line: str) -> None:
    done = mapper.run(schema(), line)
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.split("\n")[1].partition(',"label":"echo:')
    assert before + after.partition('"')[2] == line


def test_a_record_of_no_fields_gains_columns_too(mapper: Mapper) -> None:
    _, mapped = mapper.mapped(schema(), {"type": "RECORD", "stream": "reviews", "record": {}}, prompt="Say something")
    assert mapped["record"] == {"label": answer_to("Say something")}


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


@pytest.mark.parametrize("at", [0, 1])
def test_a_pausing_tap_gets_everything_through(tmp_path: Path, at: int) -> None:
    with Endpoint(latency=lambda _: 0.05) as endpoint, Mapper(tmp_path, endpoint).process() as process:
        for first in range(0, 60, 30):
            numbers = range(first, first + 30)
            process.send(schema(), *map(record, numbers), state(at))
            started = time.monotonic()
            assert process.lines(32)[-1] == state(at)
            assert time.monotonic() - started < PATIENCE / 2
        process.stdin.close()


def test_unknown_messages_and_blank_lines_do_no_harm(mapper: Mapper) -> None:
    unknown = {"type": "SOMETHING", "stream": "reviews", "more": {"record": {}}}
    assert mapper.mapped("", unknown, schema(), "  ", unknown)[2] == unknown


# --- Streams -------------------------------------------------------------------------------------------------------

PASSING = '{"type" : "RECORD",  "stream": "users", "record": {"id": 1.50, "text": "\\u00e9"}}'


@pytest.mark.parametrize(
    "streams",
    [["reviews"], '["re*"]', {"reviews": None}, '{"reviews": {}, "nowhere": {}}', {"re?iews": {"metadata": "none"}}],
)
def test_streams_that_are_not_named_pass_byte_for_byte(mapper: Mapper, endpoint: Endpoint, streams: Any) -> None:
    passing = json.dumps(schema("users", "label"), indent=None, separators=(" ,", ": "))
    done = mapper.run(passing, PASSING, schema(), PASSING, record(1), PASSING, streams=streams)
    lines = done.stdout.splitlines()
    assert [line for number, line in enumerate(lines) if number not in (2, 4)] == [passing, *[PASSING] * 3]
    assert json.loads(lines[4])["record"]["label"] == answer_to("row 1")
    assert set(endpoint.journal.by_prompt) == {"row 1"}


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


def test_a_schema_of_its_own_replaces_the_response_format(mapper: Mapper) -> None:
    own = {"type": "object", "properties": {"mood": {"type": "string"}}}
    described, _ = mapper.mapped(schema(), record(1), streams={"reviews": {"output_schema": own}})
    assert list(described["schema"]["properties"]) == ["id", "text", "mood"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"streams": []}, "streams: is neither a list of stream names nor an object"),
        ({"streams": {"a": 1}}, "streams: the options of 'a' are no object"),
        ({"streams": "[a"}, "streams: is not JSON"),
        ({"streams": {"a": {"concurrency": 1}}}, "streams.a: concurrency: is no option that a stream can have"),
        ({"streams": {"a": {"prompt": "{{"}}}, "streams.a: prompt"),
        ({"streams": ["a"], "prompt": None}, "streams.a: request_format: is missing"),
        ({"prompt": "{{ nowhere }}"}, 'stream "reviews": prompt: there is no column "nowhere"'),
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


def test_a_schema_may_come_again_and_bring_columns(mapper: Mapper) -> None:
    given = [schema(), record(1), schema("reviews", "text", "more"), record(2), schema("reviews", "text", "more")]
    mapped = mapper.mapped(*given)
    assert [list(each["schema"]["properties"])[-1] for each in mapped if each["type"] == "SCHEMA"] == ["label"] * 3


# --- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "it is not JSON"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"id": 1}, }', "it is not JSON"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"id": 1}', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "it is no message"),
        ('{"stream": "reviews"}', "it is no message"),
        ('{"type": "RECORD", "stream": "other", "record": {}}', 'a RECORD of stream "other" comes before its SCHEMA'),
        ('{"record": {}, "type": "RECORD", "stream": "other"}', 'a RECORD of stream "other" comes before its SCHEMA'),
        ('{"type": "RECORD", "stream": "reviews", "record": 1}', "the RECORD has no record, or it is no object"),
        ('{"type": "RECORD", "stream": "reviews"}', "the RECORD has no record, or it is no object"),
        ('{"type": "RECORD", "record": {}}', "the RECORD has no stream"),
        ('{"type": "RECORD", "stream": "a\tb", "record": {}}', "it is not JSON"),
        ('{"type": "BATCH", "stream": "reviews", "manifest": []}', "a BATCH message cannot be enriched"),
        ('{"type": "SCHEMA", "stream": "other"}', "the SCHEMA has no stream, or no schema"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"text": "", "label": 1}}', 'has "label" already'),
    ],
)
def test_a_line_that_cannot_be_is_told_by_its_number_and_all_before_it_is_out(
    mapper: Mapper, line: str, told: str
) -> None:
    given = [schema(), *map(record, range(30)), state(9)]
    done = mapper.run(*given, "", line, record(77))
    lines = [json.loads(each) for each in done.stdout.splitlines()]
    assert done.returncode == 2
    assert f"standard input, line {len(given) + 2}: {told}" in done.stderr or told in done.stderr
    assert f"line {len(given) + 2}: " in done.stderr
    assert len(lines) == len(given)
    assert lines[-1] == state(9)
    assert "Traceback" not in done.stderr


def test_a_batch_of_a_stream_that_passes_passes(mapper: Mapper) -> None:
    batch = {"type": "BATCH", "stream": "users", "manifest": ["file://x"]}
    assert mapper.mapped(schema("users"), batch, streams=["reviews"])[1] == batch


def test_a_bad_key_ends_it_and_no_state_passes_what_was_not_delivered(mapper: Mapper) -> None:
    bad = record(3) | {"record": {"id": 3, "text": "[[fault:401]]"}}
    done = mapper.run(schema(), record(1), state(1), bad, state(3))
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert types[:1] == ["SCHEMA"]
    assert types.count("STATE") <= 1
    assert "canary" not in done.stderr + done.stdout


@pytest.mark.parametrize(("on_error", "numbers", "code"), [("record", [1, 2, 3], 0), ("skip", [1, 3], 0)])
def test_a_failed_row_is_kept_or_left_out(mapper: Mapper, on_error: str, numbers: list[int], code: int) -> None:
    bad = record(2) | {"record": {"id": 2, "text": "[[fault:400]]"}}
    done = mapper.run(schema(), record(1), bad, state(2), record(3), on_error=on_error, metadata="status")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    rows = {each["record"]["id"]: each["record"] for each in messages if each["type"] == "RECORD"}
    assert (done.returncode, list(rows)) == (code, numbers)
    assert state(2) in messages
    assert 2 not in rows or (rows[2]["label"], rows[2]["_llm"]["status"]) == (None, "error")


def test_a_failed_row_stops_the_run_where_that_is_asked_for(mapper: Mapper) -> None:
    bad = record(2) | {"record": {"id": 2, "text": "[[fault:400]]"}}
    done = mapper.run(schema(), record(1), state(1), bad, state(2), on_error="fail")
    assert done.returncode == 1
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["SCHEMA", "RECORD", "STATE"]
    assert 'stream "reviews": a row failed' in done.stderr


# --- The process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_flight_and_ends_the_process(tmp_path: Path, number: int) -> None:
    with Endpoint(latency=lambda _: 0.5) as endpoint, Mapper(tmp_path, endpoint).process(concurrency=4) as process:
        process.send(schema(), *map(record, range(4)), state(4), *map(record, range(4, 200)))
        process.lines(1)
        until = time.monotonic() + PATIENCE
        while len(endpoint.journal.calls) < 4 and time.monotonic() < until:
            time.sleep(0.01)
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
        one.stdin.write(text([schema(), *map(record, range(5))]).encode())
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
def test_a_config_that_cannot_be_read_is_told(tmp_path: Path, content: str | None) -> None:
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


def test_version_and_help_are_told() -> None:
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


# --- Airbyte's messages, in flight ---------------------------------------------------------------------------------------


def in_flight(number: int, stream: str = "reviews", **more: Any) -> Message:
    row = {"stream": stream, "data": {"id": number, "text": f"row {number}"}, "emitted_at": 1, **more}
    return {"type": "RECORD", "record": row}


AIRBYTE_STATE = {"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_descriptor": {"name": "reviews"}}}}
LOG = {"type": "LOG", "log": {"level": "INFO", "message": "}"}}


@pytest.mark.parametrize("first", [[], [LOG], [AIRBYTE_STATE]])
@pytest.mark.parametrize("more", [{}, {"meta": {"changes": []}}, {"namespace": "public"}])
def test_airbyte_s_messages_are_known_by_the_first(mapper: Mapper, first: list[Message], more: Message) -> None:
    given = [*first, in_flight(1, **more), AIRBYTE_STATE, LOG, in_flight(2, "users"), in_flight(3)]
    mapped = mapper.mapped(*given, streams=["reviews"])
    for each in (given[len(first)], given[-1]):
        each["record"]["data"]["label"] = answer_to(each["record"]["data"]["text"])
    assert mapped == given


def test_airbyte_s_usual_order_of_fields_passes_unparsed(mapper: Mapper) -> None:
    line = '{"type":"RECORD","record":{"namespace":null,"stream":"users","data":{"n":1.50},"emitted_at":1}}'
    assert mapper.run(LOG, line, streams=["reviews"]).stdout.splitlines()[1] == line


def test_airbyte_s_catalog_gains_the_columns(mapper: Mapper) -> None:
    described = {"type": "object", "properties": {"id": {}, "text": {}}}
    streams = [{"name": name, "json_schema": described, "supported_sync_modes": []} for name in ("reviews", "users")]
    mapped, row = mapper.mapped(
        {"type": "CATALOG", "catalog": {"streams": streams}}, in_flight(1), streams=["reviews"], metadata="status"
    )
    reviews, users = mapped["catalog"]["streams"]
    assert list(reviews["json_schema"]["properties"]) == ["id", "text", "label", "_llm"]
    assert users == streams[1]
    assert row["record"]["data"]["_llm"]["status"] == "success"


# --- For any input -------------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :  ")])


@given(row=ROWS, more=st.dictionaries(st.text(), JSON_VALUES, max_size=3), order=st.randoms(), spaces=SPACES)
@settings(deadline=None)
def test_the_row_of_any_record_is_found_and_nothing_around_it_changes(
    row: Message, more: Message, order: Any, spaces: tuple[str, str]
) -> None:
    members = list(({"type": "RECORD", "stream": "s", "record": row} | more | {"record": row}).items())
    order.shuffle(members)
    line = json.dumps(dict(members), separators=spaces).encode()
    cut = walked(line, ("record",))
    assert json.dumps(cut.row) == json.dumps(row)
    assert cut.head + cut.tail == line
    assert json.loads(cut.head + (b',"\\u0000new":1' if row else b'"\\u0000new":1') + cut.tail)["record"].keys() == {
        *row,
        "\0new",
    }


@given(row=ROWS, more=st.dictionaries(st.text(), JSON_VALUES, max_size=3), spaces=SPACES)
@settings(deadline=None)
def test_a_guess_is_right_or_none_is_made(row: Message, more: Message, spaces: tuple[str, str]) -> None:
    line = json.dumps({"type": "RECORD", "stream": "s", "record": row, **more}, separators=spaces).encode()
    match = singer._SINGER.head.match(line)  # noqa: SLF001 - the pattern that is under test
    assert match is not None or {"type", "stream", "record"} & set(more)
    if match and "record" not in more:
        cut = guessed(line, match.end(), 1)
        exact = walked(line, ("record",))
        assert cut is None or (cut.head, cut.tail) == (exact.head, exact.tail)


KINDS = st.sampled_from(["reviews", "users", "other", "STATE", "ACTIVATE_VERSION", "SCHEMA", "pause"])


@given(kinds=st.lists(KINDS, max_size=60))
@settings(deadline=None, max_examples=60)
def test_any_interleaving_comes_out_whole_and_in_order(busy: Endpoint, kinds: list[str]) -> None:
    streams = ("reviews", "users", "other")
    given: list[Message | None] = [schema(name) for name in streams]
    for number, kind in enumerate(kinds):
        given.append(
            None
            if kind == "pause"
            else schema("reviews")
            if kind == "SCHEMA"
            else record(number, kind)
            if kind in streams
            else {"type": kind, "number": number}
        )
    config = {"url": busy.base_url, "model": "m", "prompt": "{{ text }}", "streams": ["reviews", "users"]}
    transform = Connector(config | {"cache": "none", "metadata": "none", "concurrency": 16}).transform()
    inlet = Inlet(transform, singer._form_of)  # noqa: SLF001 - as the mapper makes it
    lines = (None if each is None else json.dumps(each).encode() for each in given)
    out: list[bytes] = []
    with closing(transform.run(inlet.items(lines))) as results:
        out.extend(inlet.written(each) for each in results if not isinstance(each, Idle))
    mapped = [json.loads(line) for line in b"".join(out).splitlines()]
    for each in mapped:
        if each["type"] == "RECORD" and each["stream"] != "other":
            assert each["record"].pop("content") == answer_to(each["record"]["text"])
        elif each["type"] == "SCHEMA" and each["stream"] != "other":
            del each["schema"]["properties"]["content"]
    assert mapped == [each for each in given if each is not None]


@pytest.fixture(scope="module")
def busy() -> Iterator[Endpoint]:
    with Endpoint(latency=shuffled(0.0, 0.01)) as endpoint:
        yield endpoint


def test_memory_is_bounded_while_a_slow_call_holds_everything_up(mapper: Mapper) -> None:
    """The input waits once 64 MiB are on their way."""
    transform = Connector(mapper.config | {"streams": ["reviews"], "cache": "none"}).transform()
    inlet = Inlet(transform, singer._form_of)  # noqa: SLF001 - as the mapper makes it
    passing = json.dumps({"type": "STATE", "value": "x" * (1 << 20)}).encode()
    items = inlet.items(passing for _ in range(200))
    taken = 0
    for item in items:
        if item is IDLE:
            break
        taken += 1
    assert taken < 70


def test_a_stream_s_missing_column_is_told_for_that_stream(mapper: Mapper) -> None:
    transform = Connector(mapper.config | {"streams": ["a*"]}).transform()
    assert transform.open("b", ["id"]) is None
    with pytest.raises(ConfigError, match='stream "a1": prompt: there is no column "text"'):
        transform.open("a1", ["id"])
    assert list(transform.open("a1") or ()) == ["label"]


def test_an_outage_is_no_end_of_the_records(tmp_path: Path) -> None:
    with Endpoint(script=lambda call: act(call, "500") if call.attempt == 1 else None) as endpoint:
        mapped = Mapper(tmp_path, endpoint).mapped(schema(), *map(record, range(3)))
    assert len(mapped) == 4
