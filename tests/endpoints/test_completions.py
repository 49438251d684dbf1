"""Legacy completions: one prompt or several, streams as real servers send them, and what a reply says."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import Connector
from connector.base.errors import ConfigError
from connector.base.records import Answer, Status, Usage
from connector.endpoints import Shorthand, load
from connector.endpoints.completions import (
    FALLBACKS,
    answer,
    minimal,
    packing,
    raised,
    repaired,
    request_format,
    streamed,
    structured,
    values,
)
from tests.endpoint import Action, Call, Endpoint, answer_to, good
from tests.endpoints.streams import assembled
from tests.faults import play, render, status

read: Final = partial(assembled, load("completions"))
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SCHEMA: Final = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


def chunk(text: Any = ..., finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with one choice; a text of `...` leaves the key out."""
    said = {} if text is ... else {"text": text}
    choice = {"index": index, **said, "finish_reason": finish, **more}
    return {"id": "c1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def whole(*texts: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    choices = [{"index": index, "text": text, "finish_reason": finish} for index, text in enumerate(texts)]
    return {"model": "m", "choices": choices, "usage": USAGE, **more}


# --- Requests --------------------------------------------------------------------------------------------------------


def test_the_system_prompt_comes_before_the_prompt() -> None:
    assert request_format(Shorthand("m", "Be brief.", "Classify: {{ text }}", max_tokens=50, temperature=0)) == {
        "model": "m",
        "prompt": "Be brief.\n\nClassify: {{ text }}",
        "max_tokens": 50,
        "temperature": 0,
    }
    assert request_format(Shorthand(prompt="x")) == {"prompt": "x"}


def test_images_and_tools_are_refused_before_anything_is_paid_for() -> None:
    with pytest.raises(ConfigError) as caught:
        request_format(Shorthand("m", None, "x", images=("photo",), tools=[{"type": "function"}]))
    assert [problem.path for problem in caught.value.problems] == ["image_columns", "tools"]
    assert "chat" in caught.value.message


def test_a_stream_is_asked_to_end_with_its_usage() -> None:
    assert streamed({"prompt": "x"}) == {"prompt": "x", "stream": True, "stream_options": {"include_usage": True}}


def test_the_smallest_request_is_a_word_for_a_token() -> None:
    assert minimal({"model": "m", "prompt": "long"}) == {"model": "m", "prompt": "ping", "max_tokens": 1}
    assert raised({"prompt": "x", "max_tokens": 5}) == {"prompt": "x", "max_tokens": 20}
    assert raised({"prompt": "x"}) is None


# --- Fallbacks -----------------------------------------------------------------------------------------------------


def test_a_refused_schema_is_put_into_the_prompt() -> None:
    body = structured({"model": "m", "prompt": "x"}, SCHEMA)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    refusal = "unrecognized request argument supplied: response_format"
    assert FALLBACKS["prompt"].matches(refusal)
    changed = FALLBACKS["prompt"].apply(body)
    assert changed is not None
    assert changed.keys() == {"model", "prompt"}
    assert changed["prompt"].startswith("x\n\nReply with JSON only")
    assert '"label"' in changed["prompt"]
    assert FALLBACKS["prompt"].apply(changed) is None


def test_each_of_several_prompts_gets_the_schema() -> None:
    changed = FALLBACKS["prompt"].apply(structured({"prompt": ["x", "y"]}, SCHEMA))
    assert changed is not None
    assert [text[:8] for text in changed["prompt"]] == ["x\n\nReply", "y\n\nReply"]


@pytest.mark.parametrize("prompt", [[1, 2], [[1], [2]], [], None])
def test_a_prompt_of_tokens_cannot_be_extended(prompt: Any) -> None:
    body = structured({"prompt": prompt}, SCHEMA)
    assert FALLBACKS["prompt"].apply(body) is None
    assert repaired(body, "no", "it is not JSON") is None


def test_refused_usage_in_streams_is_left_out() -> None:
    body = {"prompt": "x", "stream": True}
    assert FALLBACKS["no_usage"].matches("unknown field: stream_options")
    assert FALLBACKS["no_usage"].apply(streamed(body)) == body


def test_a_repair_contains_the_schema_since_a_server_may_have_ignored_it() -> None:
    body = repaired(structured({"prompt": "x"}, SCHEMA), "no", "it is not JSON")
    assert body is not None
    assert body["prompt"].startswith("x\n\nThis reply cannot be used: no\n\nit is not JSON. ")
    assert '"label"' in body["prompt"]
    plain = repaired({"prompt": "x"}, "no", "it is not JSON")
    assert plain is not None
    assert plain["prompt"].strip().endswith("Reply with the corrected JSON only.")


# --- Streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        [chunk("Hel"), chunk("lo"), chunk("", "stop"), {"choices": [], "usage": USAGE}],
        [chunk("Hel"), chunk("lo"), {**chunk(finish="stop"), "usage": USAGE}],
        [chunk("Hel"), {**chunk("lo", "stop"), "usage": USAGE}],
        [chunk(None), chunk(), chunk("Hello"), {**chunk(None, "stop"), "usage": USAGE}],
    ],
)
def test_chunks_make_up_a_completion(events: list[dict[str, Any]]) -> None:
    body, complete = read(events)
    assert complete
    assert body["choices"] == [{"index": 0, "text": "Hello", "finish_reason": "stop"}]
    assert body["object"] == "text_completion"
    assert answer(body) == Answer("Hello", "stop", "m", Usage(3, 2), Status.SUCCESS)


def test_a_stream_without_a_reason_is_not_complete_by_itself() -> None:
    body, complete = read([chunk("Hel"), chunk("lo")])
    assert not complete
    assert answer(body).content == "Hello"


def test_choices_that_take_turns_are_kept_apart_and_keep_their_log_probabilities() -> None:
    first, second = ({"tokens": [token], "token_logprobs": [-1.0], "top_logprobs": None} for token in "ab")
    body, _ = read([chunk("a", logprobs=first), chunk("B", index=1), chunk("b", "stop", logprobs=second)])
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "ab"), (1, "B")]
    logprobs = body["choices"][0]["logprobs"]
    assert (logprobs["tokens"], logprobs["token_logprobs"]) == (["a", "b"], [-1.0, -1.0])


def test_chat_deltas_in_a_stream_of_completions_are_understood() -> None:
    """As some proxies send them."""
    delta = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
    assert answer(read([delta])[0]).content == "Hello"


@given(st.text(), st.lists(st.integers(0, 60)))
def test_a_text_cut_anywhere_is_put_together_again(text: str, cuts: list[int]) -> None:
    """Also between the halves of a character, as UTF-16 has them."""
    units = text.encode("utf-16-le", "surrogatepass")
    places = sorted({0, len(units), *(min(2 * cut, len(units)) for cut in cuts)})
    pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    body, complete = read([*(chunk(piece) for piece in pieces), chunk(finish="stop")])
    assert complete
    assert body["choices"][0]["text"] == text


# --- Replies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (whole(" Paris"), Status.SUCCESS),
        (whole("Par", finish="length"), Status.TRUNCATED),
        (whole("Par", finish="content_filter"), Status.FILTERED),
        (whole(""), Status.INVALID_OUTPUT),
        (whole(None), Status.INVALID_OUTPUT),
        (whole(), Status.INVALID_OUTPUT),
        ({"choices": [{"index": 0}]}, Status.INVALID_OUTPUT),
        ({"choices": None}, Status.INVALID_OUTPUT),
    ],
)
def test_only_a_whole_text_is_a_success(body: dict[str, Any], status: Status) -> None:
    assert answer(body).status is status


def test_the_text_is_left_as_it_is_and_those_of_all_choices_can_be_had() -> None:
    assert answer(whole(" Paris\n", "x")).content == " Paris\n"
    assert values(whole("a", "b")) == {"contents": ["a", "b"]}


# --- Several prompts in one call -------------------------------------------------------------------------------------


def test_only_prompts_that_differ_in_nothing_else_share_a_call() -> None:
    rows = packing(8, None, None)
    assert rows is not None
    assert rows.most == 8
    one = {"model": "m", "prompt": "a", "max_tokens": 5}
    assert rows.alike(one) == rows.alike({**one, "prompt": "b"}) is not None
    assert rows.alike(one) != rows.alike({**one, "max_tokens": 6})
    assert rows.packed([one, {**one, "prompt": "b"}]) == {**one, "prompt": ["a", "b"]}
    for alone in ({**one, "prompt": ["a"]}, {**one, "prompt": [1, 2]}, {**one, "n": 2}, {"model": "m"}):
        assert rows.alike(alone) is None


@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_prompt_goes_alone_unless_asked_otherwise(batch_size: int | None) -> None:
    assert packing(batch_size, 10, SCHEMA) is None


def test_choices_are_taken_by_their_index() -> None:
    rows = packing(3, None, None)
    assert rows is not None
    body = whole("a", "b", "c")
    body["choices"].reverse()
    parts = rows.unpacked(body, 3)
    assert [answer(part or {}).content for part in parts] == ["a", "b", "c"]
    assert all(part is not None and "usage" not in part and part["choices"][0]["index"] == 0 for part in parts)


@pytest.mark.parametrize(
    "indexes", [[0], [0, 0], [0, 2], [0, 1, 2], [0, None], [0, True], [], [-1, 0], ["0", "1"]], ids=str
)
def test_choices_that_are_not_one_for_each_prompt_answer_none(indexes: list[Any]) -> None:
    rows = packing(2, None, None)
    assert rows is not None
    body = {"choices": [{"index": index, "text": "x"} for index in indexes]}
    assert rows.unpacked(body, 2) == [None, None]


# --- Over a socket ---------------------------------------------------------------------------------------------------


def config(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    url = f"{endpoint.base_url}/completions"
    return {"url": url, "api_key": "sk-test", "model": "m", "prompt": "{{ text }}", "cache": "none", **more}


@pytest.mark.parametrize("is_stream", [False, True])
def test_rows_share_calls_and_their_tokens(is_stream: bool) -> None:
    rows = [{"text": f"row {number}"} for number in range(10)]
    with Endpoint() as endpoint:
        found = list(Connector(config(endpoint, batch_size=4, is_stream=is_stream)).enrich(rows))
        calls = endpoint.journal.calls
    assert sorted(len(call.body["prompt"]) for call in calls) == [2, 4, 4]
    assert {row["text"]: row["content"] for row in found} == {row["text"]: answer_to(row["text"]) for row in rows}
    assert all(row["_llm"]["output_tokens"] > 0 for row in found)


def test_a_row_that_makes_its_call_fail_ends_up_alone() -> None:
    rows = [{"text": f"row {number}{' [[fault:400]]' * (number == 2)}"} for number in range(4)]
    with Endpoint() as endpoint:
        found = {row["text"]: row for row in Connector(config(endpoint, batch_size=4)).enrich(rows)}
        assert len(endpoint.journal.calls) == 5
    assert [row["_llm"]["status"] for _, row in sorted(found.items())] == ["success", "success", "error", "success"]


def test_a_server_that_takes_one_prompt_only_is_asked_one_by_one() -> None:
    def first_only(call: Call) -> Action:
        reply = good(call)
        return Action("first", play(render(reply._replace(body=reply.body | {"choices": reply.body["choices"][:1]}))))

    rows = [{"text": f"row {number}"} for number in range(3)]
    with Endpoint(script=first_only) as endpoint:
        found = list(Connector(config(endpoint, batch_size=3)).enrich(rows))
    assert {row["text"]: row["content"] for row in found} == {row["text"]: answer_to(row["text"]) for row in rows}


def test_a_fallback_for_a_refused_schema_applies_to_packed_rows_and_is_stored() -> None:
    """As OpenAI refuses it: the rows that follow tell it in the prompt at once."""
    refusal = {"error": {"message": "Unrecognized request argument supplied: response_format", "type": "x"}}

    def without_formats(call: Call) -> Action | None:
        if "response_format" in call.body:
            return Action("refused", status(400, refusal)(good(call), {}))
        labels = [json.dumps({"label": "good"}) for _ in call.body["prompt"]]
        choices = [{"index": at, "text": text, "finish_reason": "stop"} for at, text in enumerate(labels)]
        return Action("labels", play(render(good(call)._replace(body={"choices": choices}))))

    rows = [{"text": f"row {number}"} for number in range(20)]
    with Endpoint(script=without_formats) as endpoint:
        connector = Connector(config(endpoint, batch_size=2, output_schema=SCHEMA, concurrency=1))
        found = list(connector.enrich(rows))
        calls = endpoint.journal.calls
    assert [row["label"] for row in found] == ["good"] * 20
    assert ["response_format" in call.body for call in calls].count(True) < 10
    assert all('"label"' in text for call in calls[-1:] for text in call.body["prompt"])
