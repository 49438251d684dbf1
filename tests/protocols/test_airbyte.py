"""Airbyte's verbs on the command line: every stdout line is a message, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector import Config, sandbox
from connector.base.records import ROW_KEY
from connector.config.spec import spec
from connector.protocols._airbyte_spec import specification
from tests.endpoint import Endpoint, answer_to
from tests.patience import PATIENCE
from tests.stores.helpers import parquet

Messages = list[dict[str, Any]]


def run(*arguments: object) -> tuple[int, Messages, str]:
    done = subprocess.run(
        [sys.executable, "-m", "connector", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=dict(os.environ),
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def of_type(messages: Messages, kind: str) -> Messages:
    return [message[kind.lower()] for message in messages if message["type"] == kind]


def statuses_of(messages: Messages) -> list[str]:
    return [trace["stream_status"]["status"] for trace in of_type(messages, "TRACE") if "stream_status" in trace]


class Project:
    """A directory with a table, a config and a catalogue."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path
        self.table = path / "reviews.csv"
        self.config: dict[str, Any] = {
            "url": endpoint.base_url,
            "api_key": "sk-canary",
            "model": "m",
            "prompt": "{{ text }}",
            "input": {"type": "files", "path": str(self.table)},
            "primary_key": "id",
            "cursor_field": "at",
        }
        self.write_rows(range(25))

    def write_rows(self, numbers: Sequence[int]) -> None:
        rows = [f"{number},row {number},2024-01-{1 + number // 2:02}" for number in numbers]
        self.table.write_text("\n".join(["id,text,at", *rows, ""]))

    def file(self, name: str, content: Any) -> Path:
        path = self.path / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    def verb(self, name: str, *more: object, **changes: Any) -> tuple[int, Messages, str]:
        return run(name, "--config", self.file("config", {**self.config, **changes}), *more)

    def catalog(self, sync_mode: str = "full_refresh", name: str = "reviews") -> Path:
        stream = {"name": name, "json_schema": {}}
        return self.file("catalog", {"streams": [{"stream": stream, "sync_mode": sync_mode}]})

    def read(self, sync_mode: str = "full_refresh", state: Any = None, **changes: Any) -> tuple[int, Messages, str]:
        more = [] if state is None else ["--state", self.file("state", state)]
        return self.verb("read", "--catalog", self.catalog(sync_mode), *more, **changes)


@pytest.fixture
def project(tmp_path: Path, endpoint: Endpoint) -> Project:
    return Project(tmp_path, endpoint)


SPEC = Path(__file__).parents[2] / "spec"


@pytest.mark.parametrize("role", ["source", "destination"])
def test_spec_is_the_generated_file_of_the_source_or_the_destination(role: str) -> None:
    done = subprocess.run([program(role), "spec"], capture_output=True, text=True, check=True)
    spec = json.loads(done.stdout)["spec"]
    assert spec == json.loads((SPEC / f"{role}.json").read_text())
    schema = spec["connectionSpecification"]
    Draft7Validator.check_schema(schema)
    assert schema["properties"]["api_key"]["airbyte_secret"] is True
    assert schema["required"] == [{"source": "input", "destination": "output"}[role]]
    assert ("input" in schema["properties"]) == (role == "source") != ("output" in schema["properties"])
    assert ("supported_destination_sync_modes" in spec) == (role == "destination")


def test_the_program_s_own_name_says_what_both_can_be_told() -> None:
    code, (message,), _ = run("spec")
    named = json.loads((SPEC / "connection.json").read_text())["properties"].keys() - {"max_template_error_percent"}
    assert (code, message["spec"]["connectionSpecification"]["properties"].keys()) == (0, named)


FORMS: dict[str, list[Any]] = {
    "request_format": [{"model": "m", "messages": []}, '{"model": "m"}'],
    "response_format": [{"label": "{{ content }}"}],
    "output_schema": [{"type": "object", "properties": {"a": {"type": "string"}}}],
    "headers": [{"a": "b"}, '{"a": "b"}'],
    "query": [{"a": "b"}],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "models": [[{"name": "m", "id": "m"}]],
    "tool_choice": ["auto", {"type": "function", "function": {"name": "f"}}],
    "primary_key": ["id, at", ["id", "at"]],
    "image_columns": [["photo"]],
    "streams": [["a"], {"a": {"prompt": "{{ b }}"}}, '["a"]'],
    "config": [{"timeout": 3}, {"timeout": "3"}],
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_text_in_a_form_may_be_an_object_or_a_list_in_json(name: str) -> None:
    schema = specification(spec(), None)["connectionSpecification"]
    for value in FORMS[name]:
        Draft7Validator(schema).validate({name: value})
        Config(**{"url": "http://localhost/v1", "prompt": "x", name: value} if "format" not in name else {name: value})
    assert "anyOf" not in json.dumps(schema)
    assert schema["properties"][name].get("multiline") or "type" not in schema["properties"][name] or name == "config"


def program(role: str) -> Path:
    """The executable of a source or destination, as it is installed."""
    return Path(sys.executable).with_name(f"{role}-openai-compatible")


def test_check_succeeds(project: Project) -> None:
    code, (message,), _ = project.verb("check")
    assert (code, message["connectionStatus"]["status"]) == (0, "SUCCEEDED")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"url": "http://127.0.0.1:9/v1"}, "refuses connections"),
        ({"prompt": "{{ nowhere }}"}, 'there is no column "nowhere"'),
        ({"response_format": {"text": "{{ content }}"}}, 'the column "text" is in the input already'),
        ({"input": {"type": "files", "path": "nowhere.csv"}}, "nowhere.csv"),
        ({"concurrency": "many"}, "is not a whole number"),
        ({"prompt": None}, "give a prompt (--prompt)"),
    ],
)
def test_a_failed_check_says_what_to_change_and_exits_0(project: Project, changes: dict[str, Any], told: str) -> None:
    code, (message,), stderr = project.verb("check", **changes)
    assert (code, message["connectionStatus"]["status"]) == (0, "FAILED")
    assert told in message["connectionStatus"]["message"]
    assert "canary" not in str(message) + stderr


@pytest.mark.parametrize(("role", "verdict"), [("source", "SUCCEEDED"), ("destination", "FAILED")])
def test_without_input_and_output_only_a_source_can_do_something(project: Project, role: str, verdict: str) -> None:
    """It has the stream of models."""
    config = project.file("config", {name: each for name, each in project.config.items() if name != "input"})
    command = [str(program(role)), "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status = json.loads(done.stdout)["connectionStatus"]
    assert status["status"] == verdict, status
    assert (verdict == "SUCCEEDED") != ("output: is missing: say where to write the rows" in status.get("message", ""))


@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_config_may_come_through_a_pipe(project: Project, role: str) -> None:
    config = json.dumps({**project.config, "output": {"type": "files", "path": str(project.path / "{stream}.jsonl")}})
    command = [str(program(role)), "check", "--config", "/dev/stdin"]
    done = subprocess.run(command, input=config, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["connectionStatus"]["status"] == "SUCCEEDED", done.stdout


def test_check_tells_a_ledger_that_read_could_not_open(project: Project, endpoint: Endpoint) -> None:
    for cache in (project.table / "x.ledger", Path("/proc/nowhere/x.ledger")):
        code, (message, *_), _ = project.verb("check", cache=str(cache))
        assert (code, message["connectionStatus"]["status"]) == (0, "FAILED"), cache
        assert str(cache) in message["connectionStatus"]["message"]
        read_code, _, _ = project.read(cache=str(cache))
        assert read_code == 1
    assert not endpoint.journal.calls


@pytest.mark.parametrize("name", ["x.ledger", "folder/"])
def test_check_leaves_no_ledger_behind_where_there_was_none(project: Project, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "replies" / "deep"
    code, (message, *_), _ = project.verb("check", cache=f"{folder}/{name}")
    assert (code, message["connectionStatus"]["status"]) == (0, "SUCCEEDED")
    assert not (tmp_path / "replies").exists()
    cache = folder / name
    folder.mkdir(parents=True)
    cache.mkdir() if name.endswith("/") else cache.touch()
    project.verb("check", cache=f"{folder}/{name}")
    assert [*(tmp_path / "replies").rglob("*")] == [folder, cache]


def test_discover_gives_the_input_s_columns_then_the_mapped_ones_then_the_provenance(project: Project) -> None:
    code, (message,), _ = project.verb("discover")
    stream, *_ = message["catalog"]["streams"]
    properties = stream["json_schema"]["properties"]
    assert code == 0
    assert list(properties) == ["id", "text", "at", "content", "_llm"]
    assert properties["id"]["type"] == ["null", "integer"]
    assert properties["content"]["type"] == ["null", "string"]
    assert stream["source_defined_primary_key"] == [["id"]]
    assert (stream["default_cursor_field"], stream["supported_sync_modes"]) == (["at"], ["full_refresh", "incremental"])


def test_clashing_names_are_refused_by_discover_naming_both_sides(project: Project) -> None:
    code, messages, _ = project.verb("discover", response_format={"text": "{{ content }}"})
    (trace,) = of_type(messages, "TRACE")
    assert code == 1
    assert trace["error"]["failure_type"] == "config_error"
    assert trace["error"]["message"].startswith('response_format: the column "text" is in the input already')


def test_read_gives_every_row_once_and_a_state_behind_them(project: Project) -> None:
    code, messages, _ = project.read()
    records = of_type(messages, "RECORD")
    assert code == 0
    assert sorted(record["data"]["id"] for record in records) == list(range(25))
    assert all(record["data"]["content"] == answer_to(record["data"]["text"]) for record in records)
    assert [message["type"] for message in messages[-3:]] == ["STATE", "LOG", "TRACE"]
    assert statuses_of(messages) == ["STARTED", "RUNNING", "COMPLETE"]


def test_a_read_goes_through_batches_where_the_config_says_so(project: Project) -> None:
    with sandbox.running() as url:
        changes = {"url": url, "api_key": sandbox.KEY, "model": sandbox.MODEL, "batch": '{"poll_seconds": 0.05}'}
        code, messages, _ = project.verb("read", "--catalog", project.catalog(), **changes)
    assert code == 0
    records = [record["data"] for record in of_type(messages, "RECORD")]
    assert sorted(record["id"] for record in records) == list(range(25))
    assert all(record["content"] == f"Sandbox reply to: row {record['id']}" for record in records)
    assert any("batch" in log["message"] and "completed" in log["message"] for log in of_type(messages, "LOG"))


def test_a_read_logs_what_it_came_to_and_why_rows_failed(project: Project) -> None:
    _, messages, _ = project.read(prompt="{{ text }} {{ 1 / (id % 5) }}")
    (said,) = (each["message"] for each in of_type(messages, "LOG"))
    assert said.splitlines()[0].endswith("20 success, 5 error")
    assert "  5 × prompt: " in said
    assert "division by zero" in said


def test_every_record_fits_the_discovered_schema(project: Project) -> None:
    _, (message,), _ = project.verb("discover")
    validator = Draft7Validator(message["catalog"]["streams"][0]["json_schema"])
    project.table.write_text("id,text,at\n1,fine,2024-01-01\n2,[[fault:400]],2024-01-02\n3,,2024-01-03\n")
    _, messages, _ = project.read()
    records = of_type(messages, "RECORD")
    assert len(records) == 3
    assert not [error.message for record in records for error in validator.iter_errors(record["data"])]
    changed = {
        record["data"]["id"]: [each["field"] for each in record.get("meta", {}).get("changes", [])]
        for record in records
    }
    assert changed == {1: [], 2: ["content"], 3: ["content"]}


def test_an_incremental_read_goes_on_behind_its_state(project: Project, endpoint: Endpoint) -> None:
    _, messages, _ = project.read("incremental")
    states = [message for message in messages if message["type"] == "STATE"]
    project.write_rows(range(30))
    _, more, _ = project.read("incremental", [state["state"] for state in states[-1:]])
    assert sorted(record["data"]["id"] for record in of_type(more, "RECORD")) == list(range(25, 30))
    _, none, _ = project.read("incremental", [of_type(more, "STATE")[-1]])
    assert not of_type(none, "RECORD")
    assert of_type(none, "STATE")
    assert len(endpoint.journal.calls) == 30


@pytest.mark.parametrize("state", [None, [], {}])
def test_no_state_in_any_form_starts_from_the_beginning(project: Project, state: Any) -> None:
    _, messages, _ = project.read("incremental", state)
    assert len(of_type(messages, "RECORD")) == 25


def test_only_the_selected_columns_come_out(project: Project) -> None:
    schema: dict[str, Any] = {"properties": {"id": {}, "content": {}}}
    catalog = {"streams": [{"stream": {"name": "reviews", "json_schema": schema}, "sync_mode": "full_refresh"}]}
    _, messages, _ = project.verb("read", "--catalog", project.file("catalog", catalog))
    assert {tuple(record["data"]) for record in of_type(messages, "RECORD")} == {("id", "content")}


def test_a_full_read_starts_over_behind_a_complete_one_and_goes_on_behind_an_interrupted_one(project: Project) -> None:
    _, messages, _ = project.read()
    *_, interrupted, complete = of_type(messages, "STATE")
    project.write_rows(range(30))
    for mode, cursor_field in (("full_refresh", "at"), ("incremental", None)):
        _, anew, _ = project.read(mode, [complete], cursor_field=cursor_field)
        assert len(of_type(anew, "RECORD")) == 30
    _, rest, _ = project.read(state=[interrupted])
    assert [record["data"]["id"] for record in of_type(rest, "RECORD")] == list(range(25, 30))


def keys_of(messages: Messages) -> dict[int, str]:
    return {record["data"]["id"]: record["data"][ROW_KEY] for record in of_type(messages, "RECORD")}


def test_a_stream_without_a_primary_key_gets_a_row_key_that_stays(project: Project) -> None:
    _, (message,), _ = project.verb("discover", primary_key=None)
    stream, *_ = message["catalog"]["streams"]
    assert stream["source_defined_primary_key"] == [[ROW_KEY]]
    assert stream["json_schema"]["properties"][ROW_KEY]["type"] == "string"
    catalog = project.file("keyed", {"streams": [{"stream": stream, "sync_mode": "incremental"}]})
    _, first, _ = project.verb("read", "--catalog", catalog, primary_key=None)
    project.write_rows([*range(30, 40), *range(25)])
    _, second, _ = project.verb("read", "--catalog", catalog, primary_key=None, concurrency=2)
    before, after = keys_of(first), keys_of(second)
    assert len(set(after.values())) == 35
    assert before.items() <= after.items()
    validator = Draft7Validator({**stream["json_schema"], "additionalProperties": False})
    assert not [error for record in of_type(first, "RECORD") for error in validator.iter_errors(record["data"])]


def test_identical_rows_have_keys_of_their_own_that_a_resumed_read_gives_as_well(project: Project) -> None:
    project.table.write_text("id,text,at\n" + "1,same,2024-01-01\n" * 2500)
    stream = {"name": "reviews", "json_schema": {}, "source_defined_primary_key": [[ROW_KEY]]}
    catalog = project.file("keyed", {"streams": [{"stream": stream, "sync_mode": "incremental"}]})
    _, whole, _ = project.verb("read", "--catalog", catalog, primary_key=None)
    keys = [record["data"][ROW_KEY] for record in of_type(whole, "RECORD")]
    assert len(set(keys)) == 2500
    state = project.file("state", [of_type(whole, "STATE")[0]])
    _, rest, _ = project.verb("read", "--catalog", catalog, "--state", state, primary_key=None)
    resumed = [record["data"][ROW_KEY] for record in of_type(rest, "RECORD")]
    assert len(resumed) == 1500
    assert set(resumed) == set(sorted(keys, key=lambda key: int(f"0{key.partition('-')[2]}"))[1000:])


def test_a_read_without_such_a_key_in_its_catalog_adds_none(project: Project) -> None:
    _, messages, _ = project.read(primary_key=None)
    assert all(ROW_KEY not in record["data"] for record in of_type(messages, "RECORD"))


def test_the_number_of_records_to_come_is_estimated_before_the_first(project: Project) -> None:
    def estimates(messages: Messages) -> list[Any]:
        return [trace["estimate"] for trace in of_type(messages, "TRACE") if "estimate" in trace]

    _, messages, _ = project.read("incremental")
    assert estimates(messages) == [{"name": "reviews", "type": "STREAM", "row_estimate": 25}]
    kinds = [message["type"] for message in messages]
    assert kinds.index("RECORD") > [message.get("trace", {}).get("type") for message in messages].index("ESTIMATE")
    project.write_rows(range(30))
    _, more, _ = project.read("incremental", [of_type(messages, "STATE")[-1]])
    assert [estimate["row_estimate"] for estimate in estimates(more)] == [5]


def test_a_schema_says_nothing_of_further_properties(project: Project, tmp_path: Path) -> None:
    path = parquet(tmp_path / "reviews.parquet", "SELECT 1 AS id, 'a' AS text, MAP {'a': 1} AS counts")
    given = {"type": "files", "path": str(path)}
    _, (message,), _ = project.verb("discover", input=given, cursor_field=None)
    assert "additionalProperties" not in json.dumps(message)
    assert message["catalog"]["streams"][0]["json_schema"]["properties"]["counts"] == {"type": ["null", "object"]}


def test_an_unknown_stream_is_a_trace_and_a_failure(project: Project) -> None:
    code, messages, _ = project.verb("read", "--catalog", project.catalog(name="nowhere"))
    (error,) = [trace["error"] for trace in of_type(messages, "TRACE") if trace["type"] == "ERROR"]
    assert (code, error["failure_type"]) == (1, "config_error")
    assert 'there is no stream "nowhere"' in error["message"]


def test_a_bad_key_ends_the_stream_incomplete(project: Project) -> None:
    project.table.write_text("id,text,at\n1,[[fault:401]],2024-01-01\n")
    code, messages, stderr = project.read()
    assert code == 1
    assert statuses_of(messages) == ["STARTED", "INCOMPLETE"]
    assert of_type(messages, "TRACE")[-1]["type"] == "ERROR"
    assert "canary" not in json.dumps(messages) + stderr


@pytest.mark.parametrize("verb", ["check", "discover", "read"])
def test_a_config_that_cannot_be_read_is_a_message_and_no_traceback(tmp_path: Path, verb: str) -> None:
    broken = tmp_path / "config.json"
    broken.write_text("{")
    for path in (broken, tmp_path / "nowhere.json"):
        _, messages, stderr = run(verb, "--config", path, *(["--catalog", path] if verb == "read" else []))
        assert len(messages) == 1
        assert str(path) in json.dumps(messages)
        assert "Traceback" not in stderr
