"""A plan renders rows into requests and maps replies to outcomes; what is wrong with it is told before any call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector import Config, ConfigError, Record, Status, TemplateError
from connector.base.records import Reply
from connector.run.plan import Plan

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["label"],
    "additionalProperties": False,
}
RECORD = Record(0, {"text": "a"})


def plan(columns: list[str] | None = None, **options: Any) -> Plan:
    return Plan(Config.load({"model": "m", "prompt": "{{ text }}", **options}), columns)


def reply(content: str | None, finish_reason: str = "stop", **more: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    return Reply(200, {"model": "m-1", "choices": [choice], "usage": usage, **more}, {"x-request-id": "req_1"}, 12, 2)


def test_a_prompt_becomes_a_conversation() -> None:
    body = json.loads(plan(system_prompt="Be brief.").requests.body({"text": "hello"}))
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    }


def test_a_number_in_a_prompt_is_text_and_a_null_an_error() -> None:
    assert json.loads(plan().requests.body({"text": 7}))["messages"][0]["content"] == "7"
    with pytest.raises(TemplateError, match='column "text" is null'):
        plan().requests.body({"text": None})


@pytest.mark.parametrize(
    ("options", "most", "is_sure"),
    [
        ({}, 9, True),
        ({"prompt": "{{ text }} and {{ title }}", "output_schema": SCHEMA}, 9, True),
        ({"request_format": {"input": "{{ text }}"}}, 9, True),
        ({"prompt": "{{ text }} {{ price }}"}, 9, False),
        ({"prompt": "{{ text[0] }}"}, 9, False),
        ({"prompt": "{{ text.name }}"}, 9, False),
        ({"prompt": "{{ text | upper }}"}, 9, False),
        ({"prompt": "{% if text %}{{ title.x.y }}{% endif %}"}, 9, False),
        ({"where": "{{ text }}"}, 9, False),
        ({}, 2**22 + 1, False),
        ({"request_format": {"input": "{{ text }}"}}, 2**40, False),
        ({"prompt": "{{ text }}" * 5}, 2**20, False),
    ],
)
def test_it_is_known_when_no_row_of_texts_can_fail(options: dict[str, Any], most: int, *, is_sure: bool) -> None:
    requests = plan(**options).requests
    assert requests.suits({"text": most, "title": most}) is is_sure
    for text in ("", "a", "{{ text }}", '"\n\\', "x" * most) if is_sure else ():
        json.loads(requests.body({"text": text, "title": text[::-1]}))


def test_a_stream_is_asked_for_with_its_usage() -> None:
    body = json.loads(plan(is_stream=True).requests.body({"text": "a"}))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_schema_is_sent_as_a_strict_response_format() -> None:
    sent = json.loads(plan(output_schema=SCHEMA).requests.body({"text": "a"}))["response_format"]
    assert sent["type"] == "json_schema"
    assert (sent["json_schema"]["strict"], sent["json_schema"]["schema"]) == (True, SCHEMA)


def test_a_description_in_a_schema_is_not_a_template() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": "{{ text }} {% raw %}"}}}
    assert "{{ text }} {% raw %}" in plan(output_schema=schema).requests.body({"text": "a"}).decode()


def test_half_a_character_is_refused_naming_the_place() -> None:
    with pytest.raises(TemplateError, match=r"request_format\.messages\[0\]\.content: .*lone surrogate"):
        plan().requests.body({"text": "\ud800"})


def test_an_expression_makes_a_typed_column() -> None:
    made = plan(response_format={"a": "{{ content }}", "t": "{{ usage.total_tokens }}", "s": "got {{ content }}"})
    assert made.columns == {
        "a": {"type": ["null", "string"]},
        "t": {"type": ["null", "integer"]},
        "s": {"type": ["null", "string"]},
    }
    assert made.outcomes.of(RECORD, reply("x"), b"k").columns == {"a": "x", "t": 9, "s": "got x"}


def test_what_a_reply_lacks_is_null() -> None:
    made = plan(response_format={"a": "{{ nowhere.at.all }}", "b": "{{ choices[5].message.content }}"})
    assert made.outcomes.of(RECORD, reply("x"), b"k").columns == {"a": None, "b": None}


def test_a_sample_body_gives_its_keys_from_the_actual_reply() -> None:
    made = plan(response_format='{"model": "gpt", "choices": [{"index": 0}], "usage": {"total_tokens": 1}}')
    assert list(made.columns) == ["model", "choices", "usage"]
    assert made.columns["model"] == {"type": ["null", "string"]}
    columns = made.outcomes.of(RECORD, reply("x"), b"k").columns
    assert (columns["model"], columns["usage"]["total_tokens"]) == ("m-1", 9)


def test_a_schema_gives_typed_columns_and_is_checked_locally() -> None:
    made = plan(output_schema=SCHEMA)
    assert made.columns["label"] == {"type": ["null", "string"], "enum": ["good", "bad", None]}
    assert made.outcomes.of(RECORD, reply('{"label": "good", "score": 3}'), b"k").columns == {
        "label": "good",
        "score": 3,
    }
    for content in ('{"label": "great"}', "[]", "no JSON", '{"label": "good", "more": 1}'):
        outcome = made.outcomes.of(RECORD, reply(content), b"k")
        assert outcome.status is Status.INVALID_OUTPUT
        assert outcome.columns == {"label": None, "score": None}
        assert (error := outcome.provenance.error) is not None
        assert error.content == content


def test_a_reply_that_is_nested_too_deeply_to_be_written_is_not_an_output() -> None:
    made = plan(output_schema={"type": "object", "properties": {"a": {}}})
    outcome = made.outcomes.of(RECORD, reply('{"a": ' + "[" * 200 + "]" * 200 + "}"), b"k")
    assert (outcome.status, outcome.columns) == (Status.INVALID_OUTPUT, {"a": None})


def test_json_inside_a_code_fence_is_json() -> None:
    made = plan(output_schema=SCHEMA)
    assert made.outcomes.of(RECORD, reply('```json\n{"label": "bad"}\n```'), b"k").columns["label"] == "bad"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (reply("cut", "length"), Status.TRUNCATED),
        (reply("", "content_filter"), Status.FILTERED),
        (reply(""), Status.INVALID_OUTPUT),
        (reply(None), Status.INVALID_OUTPUT),
        (Reply(200, {"choices": []}, {}), Status.INVALID_OUTPUT),
        (Reply(400, {"error": {"message": "too long"}}, {}), Status.ERROR),
    ],
)
def test_what_is_not_an_answer_is_never_a_success(given: Reply, status: Status) -> None:
    outcome = plan().outcomes.of(RECORD, given, b"k")
    assert (outcome.status, outcome.provenance.status) == (status, status)
    assert outcome.columns == {"content": None}
    assert outcome.provenance.error is not None
    assert outcome.provenance.error.message


def test_provenance_says_where_an_answer_comes_from() -> None:
    told = plan(prices={"input": 1, "output": 10}).outcomes.of(RECORD, reply("x"), b"\x01\x02").group["_llm"]
    assert told == {
        "status": "success",
        "error": None,
        "attempts": 2,
        "model": "m-1",
        "finish_reason": "stop",
        "input_tokens": 7,
        "output_tokens": 2,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": pytest.approx(27e-6),
        "latency_ms": 12,
        "request_id": "req_1",
        "prompt_hash": "0102",
        "cached": False,
    }


@pytest.mark.parametrize(("metadata", "names"), [("full", 14), ("status", 2), ("none", 0)])
def test_metadata_chooses_how_much_provenance_a_row_gets(metadata: str, names: int) -> None:
    made = plan(metadata=metadata)
    row = made.outcomes.of(RECORD, reply("x"), b"k").row
    assert len(row.get("_llm", {})) == names
    assert list(made.added) == list(row)[1:]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"response_format": {"text": "{{ content }}"}}, 'the column "text" is in the input already'),
        ({"response_format": {"_llm": "{{ content }}"}}, '"_llm" is the name of the provenance group'),
        ({"prompt": "{{ txet }}"}, 'there is no column "txet" in the input; there are: text'),
        ({"prompt": None}, "is missing: give a prompt (--prompt), or a config that has one (--config)"),
        ({"response_format": "[1]"}, "is not a JSON object"),
    ],
)
def test_what_cannot_work_is_refused_naming_both_sides(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(["text"], **options)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"prompt": "Classify {note}"}, "write {{ note }}"),
        ({"prompt": "Classify it"}, "write {{ text }}"),
        ({"prompt": "{{ text }}"}, ""),
        ({"prompt": "{{ record | tojson }}"}, ""),
        ({"prompt": "{{ nowhere | default(text) }}"}, ""),
        ({"prompt": "Describe it", "image_columns": "text"}, ""),
    ],
)
def test_a_request_that_is_the_same_for_every_row_is_reported(
    options: dict[str, Any], advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan(["text", "note"], **options)
    assert bool(advice) == ("every row gets the same reply" in caplog.text)
    assert advice in caplog.text


def test_a_column_with_a_default_may_be_missing() -> None:
    assert plan(["text"], prompt="{{ text }} {{ note | default('none') }}")


def test_the_model_of_all_requests_is_known_where_it_is_constant() -> None:
    assert plan().requests.model == "m"
    assert plan(request_format={"model": "{{ text }}", "messages": []}).requests.model is None


def test_the_headers_that_choose_who_answers_make_another_request() -> None:
    def key(headers: dict[str, str]) -> bytes:
        return Plan(Config(url="http://h/v1", model="m", prompt="x", headers=headers)).requests.key(b"{}")

    assert key({"x-portkey-provider": "openai"}) != key({"X-Portkey-Provider": "groq"}) != key({})
    assert key({"X-Portkey-Provider": "openai"}) == key({"x-portkey-provider": "openai", "x-portkey-api-key": "k"})
    assert key({"HTTP-Referer": "https://a"}) == key({})


@pytest.mark.parametrize("name", ["x-request-id", "x-litellm-call-id", "x-portkey-trace-id"])
def test_a_request_is_known_by_whatever_name_a_gateway_has_for_its_id(name: str) -> None:
    plan = Plan(Config(url="http://h/v1", model="m", prompt="x"))
    reply = Reply(200, {"choices": [{"message": {"content": "a"}}]}, {name: "r1"})
    assert plan.outcomes.of(Record(0, {}), reply, b"").provenance.request_id == "r1"


def test_a_refusal_that_the_ledger_knew_says_so() -> None:
    plan = Plan(Config(url="http://h/v1", model="m", prompt="x"))
    known = Reply(400, {"error": {"message": "no"}}, {}, cached=True)
    assert plan.outcomes.of(Record(0, {}), known, b"").provenance.cached is True
