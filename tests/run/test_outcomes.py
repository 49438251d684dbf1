"""A reply in the ledger can never end a run, and what looks like JSON is never a success of nulls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from connector import Config, Connector, Record, Status
from connector.base.errors import StorageError
from connector.base.records import Answer, Outcome, Reply
from connector.endpoints import load
from connector.run import outcomes
from connector.run.outcomes import Outcomes
from tests.endpoint import Endpoint

LABEL = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


def outcome(content: str | None, **options: Any) -> Outcome:
    config = Config.load({"model": "m", "prompt": "{{ text }}", **options})
    message = {"role": "assistant", "content": content}
    body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Outcomes(config, {"model": "m"}).of(Record(0, {"text": "a"}), Reply(200, body, {}), b"key")


class Counted(dict[str, Any]):
    """A reply's body that counts what is asked of it."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.reads = Counter[str]()

    def get(self, key: str, default: Any = None) -> Any:
        self.reads[key] += 1
        return super().get(key, default)


@pytest.mark.parametrize("request_", [{"model": "m"}, {"model": "m", "tools": [], "tool_choice": "auto"}])
def test_the_choices_of_a_reply_are_read_once_for_a_row(request_: dict[str, Any]) -> None:
    config = Config.load({"model": "m", "prompt": "{{ text }}"})
    message = {"role": "assistant", "content": "Hello"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = Counted({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
    found = Outcomes(config, request_).of(Record(0, {"text": "a"}), Reply(200, body, {}), b"key")
    assert found.status is Status.SUCCESS
    assert body.reads["choices"] == 1


@pytest.mark.parametrize(
    "given",
    [
        *({"team": ["x"]}, {"type": "list"}, {"type": {}}, {"properties": ["x"]}, {"properties": {"x": "y"}}),
        *({"type": "string", "enum": "x"}, {"enum": 5}, {"required": 1}, {"$ref": "#/nowhere"}, {"$ref": 1}),
        *({"properties": {"x": {"type": "string", "enum": "x"}}}, {"items": 1}, {"anyOf": {}}),
    ],
)
def test_the_parameters_of_a_tool_may_be_no_schema(given: dict[str, Any]) -> None:
    request_ = {"model": "m", "tools": [{"type": "function", "function": {"name": "f", "parameters": given}}]}
    columns = {"all": "{{ arguments }}", "x": "{{ arguments.x }}", "calls": "{{ tool_calls }}"}
    config = Config.load({"url": "http://localhost/v1", "request_format": request_, "response_format": columns})
    call = {"id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}
    body = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    found = Outcomes(config, request_).of(Record(0, {}), Reply(200, body, {}), b"key")
    assert (found.columns["all"], found.columns["x"]) == ({"x": 1}, 1)


def test_a_template_that_reads_the_whole_reply_finds_vectors_as_the_text_that_came() -> None:
    columns = {"whole": "{{ record }}", "size": "{{ dimensions }}"}
    config = Config.load({"url": "http://localhost/v1/embeddings", "prompt": "{{ text }}", "response_format": columns})
    body = {"model": "m", "data": [{"index": 0, "embedding": bytes.fromhex("0000803f")}]}
    found = Outcomes(config, {"model": "m"}).of(Record(0, {}), Reply(200, body, {}), b"key")
    assert found.columns["whole"]["data"] == [{"index": 0, "embedding": "AACAPw=="}]
    assert found.columns["size"] == 1


@pytest.mark.parametrize("content", ['"{\\"label\\": \\"good\\"}"', '[{"label": "good"}]', "7", "true", "null"])
@pytest.mark.parametrize(
    "column", ["{{ parsed.label }}", "{{ parsed['label'] | default('x') }}", "it is {{ parsed.label | upper }}"]
)
def test_columns_of_an_object_are_null_for_any_other_type(content: str, column: str) -> None:
    found = outcome(content, response_format={"label": column})
    assert (found.status, found.columns) == (Status.INVALID_OUTPUT, {"label": None})
    error = found.provenance.error
    assert error is not None
    assert "is JSON, but not an object" in error.message
    assert content in error.message
    assert error.content == content


@pytest.mark.parametrize(
    ("content", "column", "value"),
    [
        ('[{"label": "good"}]', "{{ parsed[0].label }}", "good"),
        ('[{"label": "good"}]', "{{ parsed | length }}", 1),
        ("7", "{{ parsed }}", 7),
        ("7", "{{ parsed.label if parsed is mapping else parsed }}", 7),
        ('{"label": "good"}', "{{ parsed.label }}", "good"),
        ('<think>{"label": 1}</think>\n```json\n{"label": "good"}\n```', "{{ parsed.label }}", "good"),
    ],
)
def test_columns_that_read_another_root_get_it(content: str, column: str, value: Any) -> None:
    found = outcome(content, response_format={"label": column})
    assert (found.status, found.columns) == (Status.SUCCESS, {"label": value})


def test_thoughts_before_the_json_are_left_out_where_a_schema_is_asked_for() -> None:
    found = outcome('The tone is {"label": 1}.\n</think>\n{"label": "good"}', output_schema=LABEL)
    assert (found.status, found.columns) == (Status.SUCCESS, {"label": "good"})


class Strange(Exception):  # noqa: N818 - nothing that anybody has foreseen
    pass


def test_an_unforeseen_error_is_the_row_s_own_and_says_where_it_arose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Any) -> Answer:
        raise Strange("sk-secret")

    monkeypatch.setattr(load("chat"), "answer", fails)
    found = outcome("Hello")
    error = found.provenance.error
    assert found.status is Status.ERROR
    assert error is not None
    assert "this program failed on the reply (Strange at test_outcomes.py:" in error.message
    assert "please report this line" in error.message
    assert "sk-secret" not in error.message


def test_an_unforeseen_error_during_mapping_is_the_row_s_own_and_keeps_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Any) -> Any:
        raise Strange

    monkeypatch.setattr(outcomes, "json_in", fails)
    found = outcome("Hello", response_format={"a": "{{ parsed.a }}"})
    error = found.provenance.error
    assert (found.status, found.columns) == (Status.ERROR, {"a": None})
    assert error is not None
    assert error.content == "Hello"


def test_a_disk_that_cannot_be_written_still_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> Any:
        raise StorageError("the disk is full")

    monkeypatch.setattr(outcomes, "json_in", fails)
    with pytest.raises(StorageError):
        outcome("Hello", response_format={"a": "{{ parsed.a }}"})


def test_a_reply_that_the_program_fails_on_ends_neither_this_run_nor_a_later_one_and_is_paid_for_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chat = load("chat")
    usual = chat.answer

    def fails_on_one(body: Any) -> Answer:
        if body["usage"]["prompt_tokens"] > 3:
            raise Strange
        return usual(body)

    monkeypatch.setattr(chat, "answer", fails_on_one)
    texts = ["a", "a longer text than the others", "b"]
    with Endpoint() as endpoint:
        config = {
            "url": endpoint.url,
            "model": "m",
            "prompt": "{{ text }}",
            "output_schema": {"type": "object", "properties": {"x": {"type": "string"}}},
            "cache": str(tmp_path / "ledger.db"),
        }
        for _ in range(2):
            rows = list(Connector(config).enrich([{"text": text} for text in texts]))
            assert [row["_llm"]["status"] for row in rows] == ["success", "error", "success"]
        assert len(endpoint.journal.calls) == 3


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "z" * 10**6},
        {"content": None, "tool_calls": [{"function": {"name": "n" * 10**6, "arguments": "{"}}]},
    ],
)
def test_an_error_that_quotes_a_reply_is_cut(message: dict[str, Any]) -> None:
    config = Config.load({"model": "m", "prompt": "{{ text }}"})
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    error = Outcomes(config, {"model": "m"}).of(Record(0, {}), Reply(200, body, {}), b"key").provenance.error
    assert error is not None
    assert len(error.message) < 5_000
