"""AI Squared's verbs: the payload goes out as it is, the reply comes back as records, and errors say so and fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector import Connector, Status
from connector.base.clock import Clock
from connector.endpoints import chat
from connector.endpoints._choices_stream import fold
from connector.protocols import Arguments, MessageWriter, multiwoven
from tests.endpoint import Call, Endpoint, act, answer_to
from tests.faults import FAULTS, Fault
from tests.patience import PATIENCE

Messages = list[dict[str, Any]]
KEY = "sk-canary-4711"
LONG = 3600.0  # seconds: nobody is still there when they are over
RUBY = shutil.which("ruby")
CLASS = Path(__file__).parents[2] / "sample_configs" / "multiwoven" / "openai_compatible.rb"

# What the server's own connector says of itself, field by field.
TITLES = {
    "url": "Endpoint URL",
    "api_key": "API Key",
    "is_stream": "Enable streaming",
    "config": "",
    "request_format": "Request Format",
    "response_format": "Response Format",
}
ORDERS = {"url": 0, "api_key": 1, "is_stream": 1, "config": 2, "request_format": 3, "response_format": 4}
TYPES = dict.fromkeys(TITLES, "string") | {"is_stream": "boolean", "config": "object"}


def command(verb: str, *more: object) -> list[str]:
    return [sys.executable, "-m", "connector", "--protocol", "multiwoven", verb, *map(str, more)]


def run(verb: str, *more: object) -> tuple[int, Messages, str]:
    """The program as a process of its own."""
    done = subprocess.run(command(verb, *more), capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def of_type(messages: Messages, kind: str) -> Messages:
    return [message[kind] for message in messages if message["type"] == kind]


def request(prompt: str, **more: Any) -> str:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **more})


class Server:
    """What a server hands to the program: a saved connection, and a sync config around it."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path
        self.connection: dict[str, Any] = {
            "url": endpoint.url,
            "api_key": KEY,
            "is_stream": False,
            "config": {"timeout": "10"},
            "request_format": request("ping {{ not a template"),
            "response_format": '{"choices": []}',
            "max_retries": 0,
        }

    def file(self, name: str, content: Any) -> str:
        path = self.path / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    def config(self, **changes: Any) -> str:
        return self.file("config", {**self.connection, **changes})

    def sync(self, query: Any, query_type: str = "ai_ml", **changes: Any) -> str:
        source = {"name": "GenericOpenAI", "type": "source", "connection_specification": {**self.connection, **changes}}
        model = {"name": "m", "query": query, "query_type": query_type, "primary_key": "id"}
        return self.file("sync", {"source": source, "model": model, "sync_mode": "full_refresh"})

    def says(self, verb: str, **files: str) -> tuple[int, Messages]:
        """One verb, answered in this process."""
        lines: list[bytes] = []
        platform = Connector(clock=Clock(random=lambda: 0.0))
        output = MessageWriter(lines.append, lambda: None)
        code = multiwoven.serve(Arguments(verb, **files), platform, output)
        assert KEY.encode() not in b"".join(lines)
        return code, [json.loads(line) for line in lines]

    def reads(self, query: Any, **changes: Any) -> tuple[int, Messages]:
        return self.says("read", sync_config=self.sync(query, **changes))

    def checks(self, **changes: Any) -> dict[str, Any]:
        code, (message,) = self.says("check", config=self.config(**changes))
        assert code == 0
        status: dict[str, Any] = message["connection_status"]
        return status


@pytest.fixture
def server(tmp_path: Path, endpoint: Endpoint) -> Server:
    return Server(tmp_path, endpoint)


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def text_of(records: Messages) -> str | None:
    return chat.answer(fold(record["data"] for record in records)).content


# --- spec ------------------------------------------------------------------------------------------------------------


def test_spec_has_the_identity_and_the_six_fields_of_the_server_s_own_connector() -> None:
    code, (message,), _ = run("spec")
    spec = message["connector_spec"]
    schema = spec["connection_specification"]
    fields = schema["properties"]
    assert (code, message["type"]) == (0, "connector_spec")
    assert (spec["stream_type"], spec["connector_query_type"]) == ("user_defined", "ai_ml")
    assert spec["documentation_url"] == "https://docs.squared.ai/activation/ai-ml-sources/generic_open_ai-endpoint"
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert (schema["title"], schema["type"]) == ("Generic Open AI Spec Endpoint", "object")
    assert schema["required"] == ["url", "api_key", "request_format", "response_format"]
    assert list(fields)[:6] == list(TITLES)
    for said, expected in (("title", TITLES), ("order", ORDERS), ("type", TYPES)):
        assert {name: fields[name][said] for name in TITLES} == expected
    assert fields["api_key"]["multiwoven_secret"] is True
    assert fields["request_format"]["x-request-format"] is fields["response_format"]["x-response-format"] is True


def test_spec_has_the_defaults_of_the_server_s_own_connector() -> None:
    fields = multiwoven_spec()["properties"]
    timeout = fields["config"]["properties"]["timeout"]
    assert fields["url"]["default"] == "https://api.openai.com/v1/chat/completions"
    assert fields["is_stream"]["default"] is False
    assert (timeout["type"], timeout["title"], timeout["default"], timeout["order"]) == (
        *("string", "HTTP Timeout", "30"),
        0,
    )
    sample = json.loads(fields["request_format"]["default"])
    assert list(sample) == ["model", "messages", "stream"]
    assert (sample["model"], sample["stream"], sample["messages"][0]["role"]) == ("gpt-4o-mini", False, "user")
    (choice,) = json.loads(fields["response_format"]["default"])["choices"]
    assert list(choice) == ["index", "delta", "finish_reason"]
    assert (choice["index"], choice["delta"]["role"], choice["finish_reason"]) == (0, "assistant", "stop")


def test_further_options_are_optional_and_of_types_that_the_server_s_form_draws() -> None:
    fields = multiwoven_spec()["properties"]
    further = {name: field for name, field in fields.items() if name not in TITLES}
    assert set(further) == set(multiwoven.MORE_FIELDS)
    assert {field["type"] for field in further.values()} <= {"string", "integer", "boolean"}
    assert min(field["order"] for field in further.values()) > max(ORDERS.values())
    assert all(fields[name]["multiwoven_secret"] for name in ("headers", "proxy"))


def test_the_form_offers_no_variable_and_messages_call_options_as_it_does() -> None:
    spec = multiwoven_spec()
    assert not {"${", "OPENAI_", "environment"} & set(re.findall(r"\$\{|OPENAI_|environment", json.dumps(spec)))
    fields = spec["properties"]
    titles = {name: field["title"] for name, field in fields.items() if name != "config"}
    titles |= {f"config.{name}": field["title"] for name, field in fields["config"]["properties"].items()}
    assert titles == multiwoven.FORM


def test_a_saved_connection_fits_the_spec_and_a_wrong_time_out_does_not(server: Server) -> None:
    validator = Draft7Validator(multiwoven_spec())
    assert validator.is_valid(server.connection)
    assert not validator.is_valid({**server.connection, "config": {"timeout": "abc"}})


def multiwoven_spec() -> dict[str, Any]:
    lines: list[bytes] = []
    multiwoven.serve(Arguments("spec"), Connector(), MessageWriter(lines.append, lambda: None))
    spec: dict[str, Any] = json.loads(lines[0])["connector_spec"]["connection_specification"]
    return spec


# --- check and discover ----------------------------------------------------------------------------------------------


def test_check_sends_the_request_format_as_it_is_and_nothing_else(server: Server, endpoint: Endpoint) -> None:
    code, (message,), stderr = run("check", "--config", server.config())
    assert (code, message["type"], message["connection_status"]["status"]) == (0, "connection_status", "succeeded")
    assert not stderr
    (call,) = endpoint.journal.calls
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.body == json.loads(server.connection["request_format"])
    assert call.headers["accept"] == call.headers["content-type"] == "application/json"
    assert call.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("401", "refuses the key"),
        ("400-echo", "refuses this request"),
        ("404-model", "does not have this model"),
        ("429-quota", "no credit left"),
        ("500", "Internal error"),
        ("204", "empty"),
        ("cut-body", "connection was lost"),
    ],
)
def test_a_failed_check_says_why_after_one_request(server: Server, endpoint: Endpoint, fault: str, told: str) -> None:
    status = server.checks(request_format=request(f"[[fault:{fault}]]"), max_retries=4)
    assert status["status"] == "failed"
    assert told in status["message"]
    assert len(endpoint.journal.calls) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"request_format": "{"}, "Request Format: is not JSON"),
        ({"request_format": None}, "Request Format: is missing"),
        ({"config": {"timeout": "abc"}}, "HTTP Timeout"),
        ({"config": {"timeout": "0"}}, "HTTP Timeout"),
        ({"url": "example.com"}, "Endpoint URL"),
        ({"url": "http://127.0.0.1:9/v1/chat/completions"}, "refuses connections"),
    ],
)
def test_a_config_that_cannot_work_fails_the_check_with_its_reason(
    server: Server, endpoint: Endpoint, changes: dict[str, Any], told: str
) -> None:
    status = server.checks(**changes)
    assert status["status"] == "failed"
    assert told in status["message"]
    assert not endpoint.journal.calls


def test_a_200_that_is_not_an_answer_is_not_a_success(server: Server) -> None:
    assert server.checks(request_format=request("[[fault:200-overloaded]]"))["status"] == "failed"
    assert server.checks(request_format=request("[[fault:200-html]]"))["status"] == "failed"


@pytest.mark.parametrize("timeout", [None, 25, "25", " 2.5 "])
def test_a_time_out_may_be_a_number_a_text_or_null(server: Server, timeout: Any) -> None:
    assert server.checks(config={"timeout": timeout})["status"] == "succeeded"


def test_discover_gives_the_rate_limits_and_no_streams(server: Server) -> None:
    expected = {
        "streams": [],
        "request_rate_limit": 600,
        "request_rate_limit_unit": "minute",
        "request_rate_concurrency": 10,
        "schema_mode": "schema",
        "source_defined_cursor": False,
    }
    assert server.says("discover", config=server.config()) == (0, [{"type": "catalog", "catalog": expected}])
    assert server.says("discover") == server.says("discover", config=server.config())


# --- read: one request, one record -----------------------------------------------------------------------------------


def test_read_sends_the_query_and_gives_the_reply_s_body(server: Server, endpoint: Endpoint) -> None:
    began = int(time.time())
    code, (message,), stderr = run("read", "--sync-config", server.sync(request("hi", temperature=0.7)))
    assert (code, stderr, message["type"]) == (0, "", "record")
    record = message["record"]
    assert record["data"]["object"] == "chat.completion"
    assert record["data"]["choices"][0]["message"]["content"] == answer_to("hi")
    assert type(record["emitted_at"]) is int
    assert began <= record["emitted_at"] <= time.time()
    (call,) = endpoint.journal.calls
    assert (call.method, call.path, call.body) == (
        "POST",
        "/v1/chat/completions",
        json.loads(request("hi", temperature=0.7)),
    )
    assert call.headers["accept"] == call.headers["content-type"] == "application/json"
    assert call.headers["authorization"] == f"Bearer {KEY}"


def test_every_number_in_a_query_keeps_its_type(server: Server, endpoint: Endpoint) -> None:
    numbers = {"temperature": 0.7, "top_p": 1.0, "n": 1, "seed": 2**70, "stop": ["1", "é", "\u2028"], "user": None}
    assert server.reads(request("numbers", **numbers))[0] == 0
    (call,) = endpoint.journal.calls
    sent = {name: call.body[name] for name in numbers}
    assert sent == numbers
    assert [type(value) for value in sent.values()] == [type(value) for value in numbers.values()]


def test_nothing_is_added_to_a_query_and_nothing_in_it_is_a_template(server: Server, endpoint: Endpoint) -> None:
    query = '{"messages": [{"role": "user", "content": "{{ 7 * 7 }} {% raw %}"}]}'
    assert server.reads(query, is_stream=True)[0] == 0
    assert endpoint.journal.calls[0].body == json.loads(query)


def test_requests_go_to_the_url_exactly_as_it_is(tmp_path: Path) -> None:
    def answer(call: Call) -> Any:
        return act(call._replace(path="/v1/chat/completions"), "untyped")

    with Endpoint(script=answer) as endpoint:
        url = f"{endpoint.origin}/custom/invoke/?version=2"
        assert Server(tmp_path, endpoint).reads(request("hi"), url=url)[0] == 0
        assert endpoint.journal.calls[0].path == "/custom/invoke/?version=2"


def test_a_base_url_fails_with_the_url_that_is_meant(server: Server, endpoint: Endpoint) -> None:
    code, (message,) = server.reads(request("hi"), url=endpoint.base_url)
    assert code == 1
    assert f"set it to {endpoint.url}?" in message["log"]["message"]


@pytest.mark.parametrize("query", ["{", "NaN", '{"seed": NaN}', '{"seed": 1e999}', '"\\ud83d"', "", None, "[" * 9999])
def test_a_query_that_is_not_json_is_an_error_and_no_request(server: Server, endpoint: Endpoint, query: Any) -> None:
    code, (message,) = server.reads(query)
    assert (code, message["log"]["level"]) == (1, "error")
    assert "JSON" in message["log"]["message"] or "missing" in message["log"]["message"]
    assert not endpoint.journal.calls


@pytest.mark.parametrize(
    ("sync", "told"),
    [
        ([], "the sync config is not an object"),
        ({"source": []}, "source is not an object"),
        ({"source": {"connection_specification": "x"}}, "source.connection_specification is not an object"),
        ({"model": {"query": "SELECT 1", "query_type": "raw_sql"}}, "model.query_type"),
        (
            {"model": {"query": "{}", "query_type": "ai_ml"}, "source": {"connection_specification": {"url": 1}}},
            "Endpoint URL",
        ),
    ],
)
def test_a_broken_sync_config_is_an_error_that_names_the_place(server: Server, sync: Any, told: str) -> None:
    code, messages, stderr = run("read", "--sync-config", server.file("sync", sync))
    (log,) = of_type(messages, "log")
    assert (code, log["level"]) == (1, "error")
    assert told in log["message"]
    assert "Traceback" not in stderr


@pytest.mark.parametrize("verb", ["discover", "read"])
def test_a_file_that_cannot_be_read_is_an_error(server: Server, verb: str) -> None:
    broken = server.path / "broken.json"
    broken.write_text(f'{{"api_key": "{KEY}"')
    for path in (broken, server.path / "nowhere.json"):
        code, (message,) = server.says(verb, config=str(path))
        assert code == 1
        assert str(path) in message["log"]["message"]
    assert server.says("read")[1][0]["log"]["message"] == "--config is missing: pass it the path of a JSON file"


def test_the_sync_config_s_connection_counts_over_the_config(server: Server, endpoint: Endpoint) -> None:
    config = server.config(api_key="sk-other", headers='{"X-Team": "data"}')
    assert server.says("read", config=config, sync_config=server.sync(request("hi")))[0] == 0
    headers = endpoint.journal.calls[0].headers
    assert (headers["authorization"], headers["x-team"]) == (f"Bearer {KEY}", "data")


def test_a_failed_call_is_tried_again_within_the_time_out(server: Server, endpoint: Endpoint) -> None:
    for is_stream in (False, True):
        query = request(f"[[fault:429-ms;times=1]] [[fault:500;times=1]] {is_stream}", stream=is_stream)
        code, messages = server.reads(query, is_stream=is_stream, max_retries=4)
        assert (code, len(of_type(messages, "log"))) == (0, 0)
    assert set(endpoint.journal.by_prompt.values()) == {3}
    code, (message,) = server.reads(request("[[fault:429-seconds]]"), config={"timeout": "0.5"}, max_retries=4)
    assert (code, "rate limit" in message["log"]["message"]) == (1, True)
    assert endpoint.journal.by_prompt["[[fault:429-seconds]]"] == 1


# --- read: a stream, event by event ----------------------------------------------------------------------------------


def test_each_event_of_a_stream_is_a_record(server: Server) -> None:
    code, messages, _ = run("read", "--sync-config", server.sync(request("hi", stream=True), is_stream=True))
    records = of_type(messages, "record")
    assert (code, len(records), len(messages)) == (0, 5, 5)
    assert {record["data"]["object"] for record in records} == {"chat.completion.chunk"}
    deltas = [record["data"]["choices"][0]["delta"].get("content", "") for record in records]
    assert "".join(deltas) == answer_to("hi")
    assert all(type(record["emitted_at"]) is int for record in records)


@pytest.mark.parametrize("fault", ["bytewise", "sse-split-utf8", "sse-surrogates", "sse-crlf", "sse-one-chunk"])
def test_a_stream_has_the_same_records_however_it_is_cut(server: Server, fault: str) -> None:
    code, messages = server.reads(request(f"[[fault:{fault}]]", stream=True), is_stream=True)
    records = of_type(messages, "record")
    assert code == 0
    assert text_of(records) == answer_to(f"[[fault:{fault}]]") + FAULTS[fault].tail
    assert "\ufffd" not in json.dumps(records, ensure_ascii=False)


def test_a_record_is_out_before_the_next_event_is_there(server: Server) -> None:
    query = request("[[fault:hang-mid]]", stream=True)
    arguments = command("read", "--sync-config", server.sync(query, is_stream=True, config={"timeout": "60"}))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert process.poll() is None
        process.kill()
    assert first["record"]["data"]["choices"][0]["delta"]["role"] == "assistant"


def test_nothing_behind_the_end_is_waited_for(tmp_path: Path) -> None:
    def hangs(call: Call) -> Any:
        action = act(call, "http10")
        *head, _close = action.steps
        return action._replace(steps=[*head, LONG])

    with Endpoint(script=hangs) as endpoint:
        server = Server(tmp_path, endpoint)
        code, messages = server.reads(request("hi", stream=True), is_stream=True, config={"timeout": str(LONG)})
        assert (code, text_of(of_type(messages, "record"))) == (0, answer_to("hi"))


def test_a_signal_ends_a_stream_at_its_next_event(server: Server) -> None:
    query = request("[[fault:endless-tokens]]", stream=True)
    arguments = command("read", "--sync-config", server.sync(query, is_stream=True, config={"timeout": "60"}))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        lines = process.stdout.read().splitlines()
        assert process.wait(timeout=PATIENCE) == -signal.SIGTERM
    assert all(json.loads(line)["type"] == "record" for line in lines)


CASES = [
    pytest.param(fault, streamed, id=f"{name}-{'streamed' if streamed else 'whole'}")
    for name, fault in FAULTS.items()
    for streamed in (False, True)
    if (fault.streamed if streamed else fault.whole) is not None and "chat" in fault.kinds
]


DENIED = {"400-filter", "446", "403-moderation", "200-filter"}
"""A filter's refusals: a row's own status, but no reply that could be handed on."""


@pytest.mark.parametrize(("fault", "streamed"), CASES)
def test_every_fault_gives_whole_records_or_an_error_that_says_so(
    tmp_path: Path, shared: Endpoint, fault: Fault, streamed: bool
) -> None:
    prompt = f"[[fault:{fault.name}]] {streamed}"
    changes = {"config": {"timeout": "0.2" if fault.deadline else "10"}, "max_response_bytes": 1_000_000}
    server = Server(tmp_path, shared)
    code, messages = server.reads(request(prompt, stream=streamed), is_stream=streamed, **changes)
    records, logs = of_type(messages, "record"), of_type(messages, "log")
    assert len(records) + len(logs) == len(messages)
    assert all(record["data"] for record in records)
    assert streamed or len(records) <= 1
    if (fault.streamed if streamed else fault.whole) is Status.ERROR or fault.name in DENIED:
        assert (code, len(logs), messages[-1]["type"]) == (1, 1, "log")
        assert logs[0]["level"] == "error"
        assert logs[0]["message"]
    else:
        assert (code, logs) == (0, [])
        assert records
    if (fault.streamed if streamed else fault.whole) is Status.SUCCESS:
        assert text_of(records) == answer_to(prompt) + fault.tail


# --- an input instead of a query -------------------------------------------------------------------------------------


@pytest.fixture
def table(server: Server) -> Server:
    path = server.path / "reviews.csv"
    path.write_text("id,review\n1,fine\n2,[[fault:400]]\n3,bad\n")
    server.connection |= {
        "input": {"type": "files", "path": str(path)},
        "primary_key": "id",
        "request_format": request("{{ review }}"),
        "response_format": '{"label": "{{ content }}"}',
        "cache": "none",
    }
    return server


def test_a_config_with_an_input_enriches_it_one_record_for_each_row(table: Server) -> None:
    code, messages, _ = run("read", "--config", table.config())
    rows = sorted((record["data"] for record in of_type(messages, "record")), key=lambda row: row["id"])
    assert (code, [message["type"] for message in messages]) == (0, ["record"] * 3 + ["log"])
    assert "1 × the endpoint refuses this request" in messages[-1]["log"]["message"]
    assert [row["label"] for row in rows] == [answer_to("fine"), None, answer_to("bad")]
    assert [row["_llm_status"] for row in rows] == ["success", "error", "success"]


def test_records_and_schema_have_the_same_flat_columns_named_as_in_csv(table: Server) -> None:
    _, (message,) = table.says("discover", config=table.config())
    columns = message["catalog"]["streams"][0]["json_schema"]["properties"]
    rows = [record["data"] for record in of_type(table.says("read", config=table.config())[1], "record")]
    assert [list(row) for row in rows] == [list(columns)] * 3
    assert all(Draft7Validator({"properties": columns}).is_valid(row) for row in rows)
    assert not [name for name, schema in columns.items() if "properties" in schema]
    (told,) = [row["_llm_error"] for row in rows if row["_llm_status"] == "error"]
    assert json.loads(told)["http_status"] == 400
    copy = table.path / "copy.csv"
    command = [sys.executable, "-m", "connector", "enrich", table.connection["input"]["path"], "--output", str(copy)]
    subprocess.run([*command, "--config", table.config(input=None)], check=True, capture_output=True, timeout=PATIENCE)
    assert copy.read_text().splitlines()[0].split(",") == list(columns)


def test_a_query_that_is_not_a_request_leaves_the_input_to_be_read(table: Server) -> None:
    code, messages = table.says("read", sync_config=table.sync("SELECT 1", "raw_sql"))
    assert (code, len(of_type(messages, "record"))) == (0, 3)


def test_a_query_that_is_a_request_counts_over_an_input(table: Server) -> None:
    code, messages = table.reads(request("hi"))
    assert (code, len(of_type(messages, "record"))) == (0, 1)


def test_check_and_discover_look_at_the_input(table: Server) -> None:
    assert table.checks()["status"] == "succeeded"
    assert "nowhere" in table.checks(request_format=request("{{ nowhere }}"))["message"]
    code, (message,) = table.says("discover", config=table.config())
    (stream,) = message["catalog"]["streams"]
    assert (code, stream["name"], stream["source_defined_primary_key"]) == (0, "reviews", [["id"]])
    assert list(stream["json_schema"]["properties"])[:5] == ["id", "review", "label", "_llm_status", "_llm_error"]
    assert (stream["supported_sync_modes"], stream["request_rate_limit"]) == (["full_refresh"], 600)


# --- the Ruby class --------------------------------------------------------------------------------------------------

STAND_IN = """
require "json"
class Indifferent < Hash
  def [](key) = super(key.to_s)
  def merge(other) = super(other.transform_keys(&:to_s))
  def except(*keys) = super(*keys.map(&:to_s))
  def with_indifferent_access = self
end
class Hash
  def with_indifferent_access = Indifferent.new.update(transform_keys(&:to_s))
end
class Built
  attr_reader :content
  def initialize(content) = @content = content
  def self.from_json(text) = new(JSON.parse(text))
  def to_multiwoven_message = self
end
module Multiwoven; module Integrations; module Source; module GenericOpenAI; class Client
  ConnectorSpecification = ConnectionStatus = Catalog = RecordMessage = Built
  def handle_exception(error, _) = { "log" => error.message }
  def failure_status(error) = Built.new({ "status" => "failed", "message" => error.message })
end end end end end
load ARGV[0]
Client = Multiwoven::Integrations::Source::GenericOpenAI::Client
Client.send(:remove_const, :PROGRAM)
Client::PROGRAM = JSON.parse(ARGV[1])
sync = JSON.parse(ARGV[2])
Part = Struct.new(:connection_specification, :query, :query_type)
Sync = Struct.new(:offset, :source, :model)
part = Part.new(sync["source"]["connection_specification"], *sync["model"].values_at("query", "query_type"))
config, streamed = Sync.new(nil, part, part), []
client = Client.new
returned = client.read(config) { |messages| streamed << messages.map { |each| each.content[:data] } }
returned = returned.map { |each| each.content[:data] } if returned.is_a?(Array)
tried = begin
  client.send(:run_model, part.connection_specification, JSON.parse(part.query)).map { |each| each.content[:data] }
rescue => error
  error.message
end
puts JSON.generate(
  read: returned, streamed: streamed, tried: tried, page: client.read(Sync.new(10, part, part)),
  check: client.check_connection(part.connection_specification).content, discover: client.discover.content,
  spec: client.connector_spec.content
)
"""


@pytest.fixture(params=["resident", "process per call"])
def ruby(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[..., dict[str, Any]]]:
    """Tells what the class makes of a sync config, on a stand-in for the server; one process answers, or one a call."""
    is_resident = request.param == "resident"
    with tempfile.TemporaryDirectory() as folder:
        sockets = Path(folder) / f"openai-compatible-{os.geteuid()}"
        if not is_resident:  # as if another user had made it
            sockets.mkdir()
            sockets.chmod(0o755)

        def said(query: str, **changes: Any) -> dict[str, Any]:
            sync = Path(server.sync(query, **changes)).read_text()
            program = json.dumps([sys.executable, "-m", "connector"])
            done = subprocess.run(
                [str(RUBY), "-e", STAND_IN, str(CLASS), program, sync],
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
                env={**os.environ, "TMPDIR": folder},
            )
            assert not done.stderr
            assert KEY not in done.stdout
            answers: dict[str, Any] = json.loads(done.stdout)
            return answers

        yield said
        locks = list(sockets.glob("*.lock"))
        assert len(locks) == is_resident
        for lock in locks:
            os.kill(int(lock.read_text()), signal.SIGTERM)


def test_the_ruby_class_is_small() -> None:
    assert len(CLASS.read_text().splitlines()) < 160


@pytest.mark.skipif(RUBY is None, reason="needs ruby")
def test_the_ruby_class_answers_as_the_server_s_own_does(ruby: Any, endpoint: Endpoint) -> None:
    said = ruby(request("hi"))
    assert [data["choices"][0]["message"]["content"] for data in said["read"]] == [answer_to("hi")]
    assert (said["streamed"], said["tried"], said["page"]) == ([], said["read"], [])
    assert (said["check"]["status"], said["discover"]["streams"]) == ("succeeded", [])
    assert said["spec"]["connector_query_type"] == "ai_ml"
    assert {call.headers["authorization"] for call in endpoint.journal.calls} == {f"Bearer {KEY}"}


@pytest.mark.skipif(RUBY is None, reason="needs ruby")
def test_the_ruby_class_yields_each_event_and_tries_a_model_out_whole(ruby: Any) -> None:
    said = ruby(request("hi", stream=True), is_stream=True)
    assert said["read"] == []
    assert [len(messages) for messages in said["streamed"]] == [1] * 5
    assert said["tried"][0]["choices"][0]["message"]["content"] == answer_to("hi")


@pytest.mark.skipif(RUBY is None, reason="needs ruby")
def test_the_ruby_class_returns_a_log_message_where_read_fails_and_raises_where_a_model_is_tried(ruby: Any) -> None:
    said = ruby(request("[[fault:401]]"), request_format=request("[[fault:401]]"), input={"type": "stdio"})
    assert said["read"]["log"] == said["tried"] == said["check"]["message"]
    assert "refuses the key" in said["tried"]
