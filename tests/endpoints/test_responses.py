"""Responses: requests in their own shape, streams of typed events, and what a reply says."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Answer, Status, Usage
from connector.endpoints import Shorthand, load
from connector.endpoints.responses import (
    FALLBACKS,
    answer,
    minimal,
    raised,
    repaired,
    request_format,
    streamed,
    structured,
    value_types,
    values,
)
from tests.endpoints.streams import assembled

read: Final = partial(assembled, load("responses"))
USAGE: Final = {
    "input_tokens": 3,
    "output_tokens": 2,
    "total_tokens": 5,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens_details": {"reasoning_tokens": 1},
}
SCHEMA: Final = {"title": "Label of it", "type": "object", "properties": {"label": {"type": "string"}}}
PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
REASONING: Final = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}],
}


def message(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part], **more}


def call(arguments: Any, name: str = "weather") -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": arguments}


def whole(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"id": "resp_1", "object": "response", "model": "m", "status": "completed", "error": None}
    return {**base, "output": list(output), "usage": USAGE, **more}


def ended(event: str = "completed", *output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": f"response.{event}", "response": whole(*output, **{"status": event, **more})}


CREATED: Final = {"type": "response.created", "response": whole(status="in_progress", usage=None)}


def text_delta(text: str, **place: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text, **place}


# --- Requests --------------------------------------------------------------------------------------------------------


def test_prompts_become_instructions_and_input() -> None:
    assert request_format(Shorthand("m", "Be brief.", "Classify: {{ text }}", max_tokens=50, temperature=0)) == {
        "model": "m",
        "instructions": "Be brief.",
        "input": "Classify: {{ text }}",
        "max_output_tokens": 50,
        "temperature": 0,
    }


@pytest.mark.parametrize(("detail", "sent"), [(None, "auto"), ("low", "low")])
def test_images_go_with_the_prompt_as_input_items(detail: str | None, sent: str) -> None:
    body = request_format(Shorthand("m", None, "What is it?", images=("photo",), detail=detail))
    image = {"type": "input_image", "image_url": '{{ record["photo"] | image }}', "detail": sent}
    assert body["input"] == [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]
    assert request_format(Shorthand(images=("photo",)))["input"][0]["content"] == [{**image, "detail": "auto"}]


def test_tools_are_flat_and_no_stricter_than_for_chat() -> None:
    """Chat's are not strict where they do not say so; here that is the default."""
    inner = {"name": "weather", "parameters": PARAMETERS}
    tools = [{"type": "function", "function": inner}, {"type": "web_search"}, {"type": "function", **inner}]
    choice = {"type": "function", "function": {"name": "weather"}}
    body = request_format(Shorthand("m", None, "x", tools=tools, tool_choice=choice))
    assert body["tools"] == [{"type": "function", "strict": False, **inner}, *tools[1:]]
    assert body["tool_choice"] == {"type": "function", "name": "weather"}
    strict = [{"type": "function", "function": {"name": "f", "strict": True}}]
    (tool,) = request_format(Shorthand("m", None, "x", tools=strict, tool_choice="required"))["tools"]
    assert tool == {"type": "function", "name": "f", "strict": True, "parameters": {"type": "object", "properties": {}}}
    assert request_format(Shorthand("m", None, "x", tool_choice="required"))["tool_choice"] == "required"


def test_a_schema_goes_into_the_format_of_the_text_and_keeps_its_other_options() -> None:
    described = {"type": "json_schema", "name": "Label_of_it", "strict": True, "schema": SCHEMA}
    assert structured({"input": "x"}, SCHEMA)["text"] == {"format": described}
    assert structured({"text": {"verbosity": "low"}}, SCHEMA)["text"] == {"verbosity": "low", "format": described}
    own = {"text": {"format": {"type": "text"}}}
    assert structured(own, SCHEMA) is own


def test_a_stream_is_asked_for_without_options_that_only_chat_has() -> None:
    assert streamed({"input": "x"}) == {"input": "x", "stream": True}


def test_the_smallest_request_asks_for_no_less_than_is_allowed() -> None:
    assert minimal({"model": "m", "input": "long", "tools": []}) == {
        "model": "m",
        "input": "ping",
        "max_output_tokens": 16,
    }


def test_a_cut_reply_is_asked_for_with_a_higher_limit() -> None:
    assert raised({"input": "x", "max_output_tokens": 50}) == {"input": "x", "max_output_tokens": 200}
    assert raised({"input": "x"}) is None


PARTS: Final = [{"type": "input_text", "text": "x"}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("x", "x\n\n{}"),
        ([{"role": "user", "content": "x"}], [{"role": "user", "content": "x\n\n{}"}]),
        (
            [{"role": "user", "content": PARTS}],
            [{"role": "user", "content": [*PARTS, {"type": "input_text", "text": "{}"}]}],
        ),
        (
            [{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "1", "output": "y"}],
            [
                {"role": "user", "content": "x"},
                {"type": "function_call_output", "call_id": "1", "output": "y"},
                {"role": "user", "content": "{}"},
            ],
        ),
        (None, [{"role": "user", "content": "{}"}]),
    ],
)
def test_the_problem_of_a_reply_is_appended_to_the_input(given: Any, expected: Any) -> None:
    body = repaired({"model": "m", "input": given}, "no", "it is not JSON")
    words = "Your last reply was:\n\nno\n\nIt cannot be used: it is not JSON. Reply with the corrected JSON only."

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return value.replace("{}", words)

    assert body == {"model": "m", "input": filled(expected)}


def test_a_repair_contains_the_schema_since_a_server_may_have_ignored_it() -> None:
    """As llama.cpp does."""
    body = repaired(structured({"input": "x"}, SCHEMA), "no", "it is not JSON")
    assert body["input"].startswith(
        "x\n\nYour last reply was:\n\nno\n\nIt cannot be used: it is not JSON. Reply with JSON"
    )
    assert "Label of it" in body["input"]


# --- Fallbacks -----------------------------------------------------------------------------------------------------


def conceded(refusal: str, body: dict[str, Any], made: tuple[str, ...] = ()) -> tuple[str, dict[str, Any]] | None:
    for name, fallback in FALLBACKS.items():
        if name not in made and fallback.matches(refusal.lower()) and (changed := fallback.apply(body)):
            return name, changed
    return None


def test_a_refused_schema_is_loosened_then_becomes_any_json_then_goes_into_the_prompt() -> None:
    body = structured({"model": "m", "input": "x", "text": {"verbosity": "low"}}, SCHEMA)
    first = conceded("Invalid schema for response_format 'x': 'required' is required to be supplied", body)
    assert first is not None
    assert first[0] == "loose_schema"
    assert first[1]["text"]["format"]["strict"] is False
    second = conceded("Invalid parameter: 'text.format' of type 'json_schema' is not supported", first[1])
    assert second is not None
    assert second[0] == "json_object"
    assert second[1]["text"] == {"verbosity": "low", "format": {"type": "json_object"}}
    assert second[1]["input"].startswith("x\n\nReply with JSON only")
    third = conceded("json_object is not supported", second[1], ("json_object",))
    assert third is not None
    assert third[0] == "prompt"
    assert third[1] == {"model": "m", "input": second[1]["input"], "text": {"verbosity": "low"}}


def test_the_schema_goes_into_the_input_at_once_where_the_whole_parameter_is_unknown() -> None:
    body = structured({"input": "x"}, SCHEMA)
    found = conceded("Unknown parameter: 'text'", body, ("loose_schema", "json_object"))
    assert found is not None
    assert found[0] == "prompt"
    assert found[1].keys() == {"input"}
    assert "Label of it" in found[1]["input"]


@pytest.mark.parametrize(
    ("refusal", "sent", "name", "expected"),
    [
        (
            "Unsupported parameter: 'max_tokens'. It has moved to 'max_output_tokens' in the Responses API.",
            {"max_tokens": 5},
            "max_output_tokens",
            {"max_output_tokens": 5},
        ),
        (
            "Unsupported parameter: max_output_tokens",
            {"max_output_tokens": 5},
            "max_tokens",
            {"max_tokens": 5},
        ),
    ],
)
def test_the_limit_is_renamed_as_the_endpoint_wants_it(
    refusal: str, sent: dict[str, Any], name: str, expected: dict[str, Any]
) -> None:
    assert conceded(refusal, sent) == (name, expected)


def test_a_limit_that_is_refused_for_its_value_is_neither_renamed_nor_left_out() -> None:
    refusal = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 5 instead."
    assert conceded(refusal, {"max_output_tokens": 5}) is None


@pytest.mark.parametrize("body", [{}, {"text": None}, {"text": {"format": {}}}, {"input": "x", "text": {}}])
def test_there_is_no_fallback_for_what_was_not_requested(body: dict[str, Any]) -> None:
    assert conceded("json_schema max_tokens max_output_tokens unsupported strict", body) is None


# --- Streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["completed", "incomplete", "failed"])
def test_the_last_event_brings_the_whole_response(event: str) -> None:
    last = ended(event, message("Hello"))
    assert read([CREATED, text_delta("Hel", output_index=0), last]) == (last["response"], True)


def test_responses_without_a_type_are_read_up_to_one_that_is_no_longer_in_progress() -> None:
    first: dict[str, Any] = {"response": whole(status="in_progress")}
    last: dict[str, Any] = {"response": whole(message("Hello"))}
    events = iter([first, last, {"response": {"id": "after its end"}}])
    assert read(events) == (last["response"], True)
    assert len([*events]) == 1


def test_a_stream_that_is_cut_before_its_last_event_is_not_complete() -> None:
    body, complete = read([CREATED, text_delta("Hel", output_index=0), text_delta("lo", output_index=0)])
    assert not complete
    assert answer(body).content == "Hello"


def test_pieces_alone_make_a_reply_where_the_client_knows_that_it_has_ended() -> None:
    """By `[DONE]`, that is: no status is left that would contradict it."""
    body, complete = read([CREATED, text_delta("Hel"), text_delta("lo")])
    assert not complete
    assert answer(body) == Answer("Hello", None, "m", Usage(), Status.SUCCESS)
    assert answer(read([text_delta("Hello")])[0]).status is Status.SUCCESS


@pytest.mark.parametrize(
    "place",
    [{"output_index": 0, "content_index": 0, "item_id": "msg_1"}, {"item_id": "msg_1"}, {"output_index": 0}, {}],
)
def test_pieces_replace_an_output_that_the_last_event_lacks(place: dict[str, Any]) -> None:
    """As from vLLM; and llama.cpp says by ids alone where a piece belongs."""
    item = {key: value for key, value in place.items() if key == "output_index"}
    events = [
        CREATED,
        {"type": "response.output_item.added", "item": {**message(""), "content": []}, **item},
        {
            "type": "response.content_part.added",
            "part": {"type": "output_text", "text": "", "annotations": []},
            **place,
        },
        text_delta("Hel", **place),
        text_delta("lo", **place),
        ended(),
    ]
    body, complete = read(events if place else [events[0], *events[3:]])
    assert complete
    assert body["usage"] == USAGE
    assert answer(body).content == "Hello"
    if "item_id" in place:
        assert body["output"] == [message("Hello")]


def test_an_item_that_is_done_counts_more_than_its_pieces() -> None:
    done = {"type": "response.output_item.done", "output_index": 0, "item": message("Hello!")}
    body, _ = read([text_delta("Hel", output_index=0), done, ended()])
    assert body["output"] == [message("Hello!")]


def test_the_end_of_a_text_counts_more_than_its_pieces() -> None:
    done = {"type": "response.output_text.done", "output_index": 0, "text": "Hello!"}
    assert answer(read([text_delta("Hel", output_index=0), done, ended()])[0]).content == "Hello!"


def test_reasoning_text_and_calls_are_kept_apart_even_at_the_same_place() -> None:
    """LiteLLM gave several items one index."""
    events: list[dict[str, Any]] = [
        {"type": "response.reasoning_summary_text.delta", "delta": "Let me ", "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", "delta": "see.", "summary_index": 0},
        text_delta("Yes", content_index=0),
        {"type": "response.refusal.delta", "delta": "No", "content_index": 1},
        {"type": "response.output_item.added", "item": call("")},
        {"type": "response.function_call_arguments.delta", "delta": '{"city": '},
        {"type": "response.function_call_arguments.delta", "delta": '"Bonn"}'},
    ]
    body, _ = read([{**event, "output_index": 0} for event in events])
    assert body["output"] == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes"}, {"type": "refusal", "refusal": "No"}],
        },
        call('{"city": "Bonn"}'),
    ]


def test_items_come_in_the_order_of_their_places() -> None:
    body, _ = read([text_delta("B", output_index=1), text_delta("A", output_index=0), text_delta("b", output_index=1)])
    assert [item["content"][0]["text"] for item in body["output"]] == ["A", "Bb"]


def test_tool_calls_are_distinguished_by_their_ids() -> None:
    events = []
    for name in ("a", "b"):
        item = {"type": "function_call", "id": name, "call_id": name, "name": name, "arguments": ""}
        events.append({"type": "response.output_item.added", "item": item})
        piece = {"type": "response.function_call_arguments.delta", "item_id": name}
        events += [{**piece, "delta": "{"}, {**piece, "delta": "}"}]
    assert [each["name"] for each in values(read(events)[0])["tool_calls"]] == ["a", "b"]


def test_reasoning_may_come_as_text_of_its_own() -> None:
    place = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.content_part.added", "part": {"type": "reasoning_text", "text": ""}, **place},
        {"type": "response.reasoning_text.delta", "delta": "Hm.", **place},
        text_delta("Yes", item_id="msg_1", output_index=1),
    ]
    assert values(read(events)[0])["reasoning"] == "Hm."


def test_a_whole_response_may_be_all_that_is_streamed() -> None:
    assert read([whole(message("Hello"))]) == (whole(message("Hello")), True)


@given(st.text(), st.lists(st.integers(0, 60)))
def test_a_text_cut_anywhere_is_put_together_again(text: str, cuts: list[int]) -> None:
    """Also between the halves of a character, as UTF-16 has them."""
    units = text.encode("utf-16-le", "surrogatepass")
    places = sorted({0, len(units), *(min(2 * cut, len(units)) for cut in cuts)})
    pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    body, complete = read([CREATED, *(text_delta(piece, output_index=0) for piece in pieces), ended()])
    assert complete
    assert (answer(body).content or "") == text


@given(st.integers(0, 12))
def test_a_stream_cut_anywhere_is_complete_only_with_its_last_event(cut: int) -> None:
    place = {"output_index": 1, "item_id": "msg_1", "content_index": 0}
    events: list[dict[str, Any]] = [
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": {**REASONING, "summary": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
        {"type": "response.output_item.added", "output_index": 1, "item": {**message(""), "content": []}},
        *(text_delta(piece, **place) for piece in "Hello"),
        {"type": "response.output_text.done", "text": "Hello", **place},
        {"type": "response.output_item.done", "output_index": 1, "item": message("Hello")},
        ended("completed", REASONING, message("Hello")),
    ]
    body, complete = read(events[: cut + 1])
    assert complete == (cut + 1 >= len(events))
    assert "Hello".startswith(answer(body).content or "")


NAMES: Final = (
    "type response output item part delta text output_index content_index item_id status error object".split()
)
KINDS: Final = [
    f"response.{name}"
    for name in (
        "created completed failed output_item.added output_item.done content_part.added output_text.delta "
        "output_text.done refusal.delta function_call_arguments.delta reasoning_summary_text.done"
    ).split()
]
junk = st.recursive(
    st.none() | st.integers(-2, 2) | st.text(max_size=3) | st.sampled_from(["message", "reasoning", "function_call"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
odd = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional={name: junk for name in NAMES if name != "type"})


@given(st.lists(odd, max_size=5))
def test_no_shape_of_an_event_raises(events: list[dict[str, Any]]) -> None:
    before = repr(events)
    body, _ = read(iter(events))
    assert repr(events) == before
    assert isinstance(answer(body), Answer)
    assert values(body).keys() == values({}).keys()


# --- Replies ---------------------------------------------------------------------------------------------------------


def test_the_text_of_all_messages_is_the_content() -> None:
    """As `output_text` of OpenAI's libraries."""
    found = answer(whole(REASONING, message("Hello"), message(" world")))
    assert found == Answer("Hello world", "completed", "m", Usage(3, 2, 1, 1), Status.SUCCESS)
    assert values(whole(message("Hello"), message("world")))["contents"] == ["Hello", "world"]


REFUSED: Final = {"type": "message", "content": [{"type": "refusal", "refusal": "I can't."}]}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (whole(message("")), Status.INVALID_OUTPUT, "empty"),
        (whole(), Status.INVALID_OUTPUT, "empty"),
        (whole(REASONING), Status.INVALID_OUTPUT, "empty"),
        ({"object": "list", "data": []}, Status.INVALID_OUTPUT, "no output"),
        (whole(REFUSED), Status.FILTERED, "I can't."),
        (
            whole(message("Hel"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            Status.TRUNCATED,
            "raise max_output_tokens",
        ),
        (
            whole(message("Hel"), status="incomplete", incomplete_details={"reason": "content_filter"}),
            Status.FILTERED,
            "content filter",
        ),
        (whole(message("Hel"), status="incomplete", incomplete_details=None), Status.TRUNCATED, "no reason given"),
        (whole(status="failed", error={"code": "server_error", "message": "Sorry"}), Status.ERROR, "Sorry"),
        (whole(status="failed"), Status.ERROR, "without saying why"),
        (whole(status="cancelled"), Status.ERROR, "cancelled"),
        (whole(status="queued"), Status.INVALID_OUTPUT, "background"),
        (whole(call('{"city": "Bo')), Status.INVALID_OUTPUT, '"weather"'),
        (whole(call("[]")), Status.INVALID_OUTPUT, '"weather"'),
    ],
)
def test_what_is_not_an_answer_is_not_a_success_and_says_why(body: dict[str, Any], status: Status, told: str) -> None:
    found = answer(body)
    assert found.status is status
    assert told in (found.problem or "")


def test_the_reason_for_an_end_is_the_one_that_the_response_gives() -> None:
    cut = whole(message("Hel"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert answer(cut).finish_reason == "max_output_tokens"
    assert answer(whole(message("Hello"))).finish_reason == "completed"


def test_a_response_without_a_status_is_taken_for_what_it_says() -> None:
    assert answer({"output": [message("Hello")]}).status is Status.SUCCESS


def test_function_calls_and_reasoning_have_the_names_that_chat_gives_them() -> None:
    body = whole(REASONING, call('{"city": "Bonn"}'))
    assert answer(body).status is Status.SUCCESS
    assert values(body) == {
        "contents": [],
        "reasoning": "First.\n\nThen.",
        "tool_calls": [{"id": "call_1", "name": "weather", "arguments": {"city": "Bonn"}}],
        "tool_name": "weather",
        "arguments": {"city": "Bonn"},
    }


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_the_arguments_of_a_single_tool_are_typed(shape: str) -> None:
    inner = {"name": "weather", "parameters": PARAMETERS}
    tool = {"type": "function", **(inner if shape == "flat" else {"function": inner})}
    assert value_types({"tools": [tool]})["arguments"] == PARAMETERS
    assert value_types({"tools": [tool, tool]})["arguments"] == {"type": "object"}
    assert value_types(None)["arguments"] == {"type": "object"}
