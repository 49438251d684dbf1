"""Chat completions: streams as real servers send them, and what a reply says."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Answer, Status, Usage
from connector.endpoints import Shorthand, _choices_stream, load, usage_elsewhere, usage_of
from connector.endpoints.chat import answer, minimal, request_format, streamed, structured, values
from tests.endpoints.streams import assembled

read: Final = partial(assembled, load("chat"))
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def delta(content: Any = None, /, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with one choice; a content of `...` leaves the key out."""
    said = more if content is ... else {"content": content, **more}
    choice = {"index": index, "delta": said, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def folded(*events: dict[str, Any]) -> dict[str, Any]:
    """The only choice of the folded stream."""
    body, complete = read(events)
    assert complete
    (choice,) = body["choices"]
    assert body["object"] == "chat.completion"
    return dict(choice)


def whole(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": USAGE,
        **more,
    }


def said(content: Any, finish: Any = "stop", **more: Any) -> Any:
    return answer(whole({"role": "assistant", "content": content, **more}, finish))


# --- fold ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        [delta(..., role="assistant")],
        [delta(None, role="assistant")],
        [delta("", role="assistant")],
        [delta("", role="assistant", refusal=None, tool_calls=None)],
        [delta(None, role=None)],
        [{**delta(), "choices": [{"index": 0, "delta": None}]}],
        [{**delta(), "choices": [{"index": 0}]}],
        [{**delta(), "choices": [{"delta": {"role": "assistant"}}]}],
        [{**delta(), "choices": []}],
        [{**delta(), "choices": None}],
        [{"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": []}],
        [],
    ],
)
def test_a_first_delta_may_hold_nothing_but_a_role_or_not_even_that(first: list[dict[str, Any]]) -> None:
    choice = folded(*first, delta("Hel"), delta("lo"), delta(..., finish="stop"))
    assert choice == {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}


def test_a_first_delta_may_hold_text_and_every_delta_the_role() -> None:
    choice = folded(
        delta("Hel", role="assistant"), delta("lo", role="assistant"), delta("", role="assistant", finish="stop")
    )
    assert choice["message"] == {"role": "assistant", "content": "Hello"}


def test_the_reason_may_come_with_the_last_text() -> None:
    assert folded(delta("Hello", finish="length")) == {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": "Hello"},
    }


def test_a_later_null_does_not_take_the_reason_back() -> None:
    assert folded(delta("a", finish="stop"), delta(...))["finish_reason"] == "stop"


def test_a_stream_without_a_reason_is_not_complete_by_itself() -> None:
    body, complete = read([delta("Hel"), delta("lo")])
    assert not complete
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert body["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize(
    "events",
    [
        [delta("a"), delta(..., finish="stop"), {**delta(), "choices": [], "usage": USAGE}],
        [delta("a"), {**delta(..., finish="stop"), "usage": USAGE}],
        [{**delta("a"), "usage": None}, {**delta(..., finish="stop"), "usage": None}, {"choices": [], "usage": USAGE}],
        [{**delta("a"), "usage": {"prompt_tokens": 3}}, {**delta(..., finish="stop"), "usage": USAGE}],
        [{**delta("a"), "usage": USAGE}, {**delta(..., finish="stop"), "usage": None}],
    ],
)
def test_the_usage_may_come_in_any_chunk(events: list[dict[str, Any]]) -> None:
    body, complete = read(events)
    assert complete
    assert body["usage"] == USAGE
    assert answer(body).usage == Usage(3, 2)


def test_choices_that_take_turns_are_kept_apart() -> None:
    body, complete = read(
        [
            delta("B", index=1),
            delta("a", index=0),
            delta("b", index=1),
            delta("A"),
            delta(..., index=1, finish="length"),
        ]
    )
    assert not complete
    assert [(each["index"], each["message"]["content"], each["finish_reason"]) for each in body["choices"]] == [
        (0, "aA", None),
        (1, "Bb", "length"),
    ]


@pytest.mark.parametrize(("ended", "complete"), [([], False), ([0], False), ([1], False), ([1, 0], True)])
def test_a_stream_is_complete_once_each_choice_has_ended(ended: list[int], complete: bool) -> None:
    """Otherwise it may have been cut in the middle of a choice, and half a text would be a success."""
    texts = [delta("a", index=index) for index in (0, 1)]
    assert read([*texts, *(delta(..., index=index, finish="stop") for index in ended)])[1] is complete


@pytest.mark.parametrize("nothing", ["", None])
def test_a_message_without_text_has_none_whether_it_is_empty_or_null_streamed_or_whole(nothing: str | None) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    chunk = {"choices": [{"index": 0, "delta": {"content": nothing, "tool_calls": [call]}, "finish_reason": "stop"}]}
    complete = {"choices": [{"message": {"content": nothing, "tool_calls": [call]}, "finish_reason": "stop"}]}
    for body in (read([chunk])[0], complete):
        assert answer(body).content is None
        assert values(body)["contents"] == [None]


def test_choices_may_share_a_chunk() -> None:
    both = {"choices": [delta("a")["choices"][0], delta("b", index=1)["choices"][0]]}
    body, _ = read([both, both])
    assert [choice["message"]["content"] for choice in body["choices"]] == ["aa", "bb"]


def test_other_fields_of_chunks_are_kept_and_the_last_value_counts() -> None:
    extra = {"provider": "p", "system_fingerprint": None, "service_tier": "default"}
    body, _ = read([delta("a") | extra, delta("b", finish="stop") | {"system_fingerprint": "f", "model": "m-1"}])
    assert {name: body[name] for name in ("id", "model", "provider", "system_fingerprint", "service_tier")} == {
        "id": "c1",
        "model": "m-1",
        "provider": "p",
        "system_fingerprint": "f",
        "service_tier": "default",
    }


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "refusal"])
def test_reasoning_and_refusals_are_put_together_beside_the_content(name: str) -> None:
    thought: list[dict[str, Any]] = [{name: "Let me "}, {name: "see."}]
    choice = folded(*(delta(**each) for each in thought), delta("Yes"), delta(".", finish="stop"))
    assert choice["message"] == {"role": "assistant", "content": "Yes.", name: "Let me see."}


def test_content_may_come_as_parts() -> None:
    parts = [{"type": "text", "text": "lo"}, {"type": "image_url", "image_url": {}}]
    assert folded(delta("Hel"), delta(parts), delta(..., finish="stop"))["message"]["content"] == "Hello"


def test_unknown_lists_grow_and_unknown_values_are_replaced() -> None:
    choice = folded(
        delta("a", annotations=[1], reasoning_details=[{"text": "x"}], audio={"id": 1}),
        delta("b", annotations=[2], reasoning_details=[{"text": "y"}], audio={"id": 2}, finish="stop"),
    )
    assert choice["message"] == {
        "role": "assistant",
        "content": "ab",
        "annotations": [1, 2],
        "reasoning_details": [{"text": "x"}, {"text": "y"}],
        "audio": {"id": 2},
    }


def test_the_log_probabilities_of_all_tokens_are_kept() -> None:
    events = [delta("a"), delta("b"), delta(..., finish="stop")]
    events[0]["choices"][0]["logprobs"] = {"content": [{"token": "a"}], "refusal": None}
    events[1]["choices"][0]["logprobs"] = {"content": [{"token": "b"}], "refusal": None}
    events[2]["choices"][0]["logprobs"] = None
    assert folded(*events)["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_a_message_so_far_beside_each_delta_is_not_added_to_it() -> None:
    """As Perplexity streams."""
    events = [delta("Hel"), delta("lo"), delta("", finish="stop")]
    for event, so_far in zip(events, ("Hel", "Hello", "Hello"), strict=True):
        event["choices"][0]["message"] = {"role": "assistant", "content": so_far}
    assert folded(*events)["message"]["content"] == "Hello"


def test_a_whole_message_at_the_end_replaces_the_pieces() -> None:
    last = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
    assert folded(delta("Hel"), delta("lo"), last)["message"]["content"] == "Hello"
    assert folded(last)["message"]["content"] == "Hello"


@given(st.text(), st.lists(st.integers(0, 60)))
def test_however_a_text_is_cut_it_comes_out_whole(text: str, at: list[int]) -> None:
    """Cut between UTF-16 units, as servers in JavaScript and Java do it: an emoji falls into two lone halves."""
    units = [
        text.encode("utf-16-le")[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, _units(text), 2)
    ]
    bounds = [0, *sorted(each % (len(units) + 1) for each in at), len(units)]
    pieces = ["".join(units[start:end]) for start, end in pairwise(bounds)]
    assert folded(*map(delta, pieces), delta(..., finish="stop"))["message"]["content"] == text


def _units(text: str) -> int:
    return len(text.encode("utf-16-le"))


# --- fold: tool calls ------------------------------------------------------------------------------------------------


def calls(*deltas: list[dict[str, Any]]) -> Any:
    return folded(*(delta(..., tool_calls=each) for each in deltas), delta(..., finish="tool_calls"))["message"][
        "tool_calls"
    ]


def call(name: str, arguments: Any, id_: str | None) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_arguments_come_in_pieces() -> None:
    assert calls(
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"x":'}}],
        [{"index": 0, "function": {"arguments": " 1}"}}],
    ) == [call("f", '{"x": 1}', "a")]


def test_arguments_may_lack_in_the_first_delta_and_an_emoji_be_cut_in_two() -> None:
    assert calls(
        [{"index": 0, "id": "a", "function": {"name": "f"}}],
        [{"index": 0, "function": {"arguments": '{"x": "\ud83d'}}],
        [{"index": 0, "function": {"arguments": '\ude42"}', "name": None}}],
    ) == [call("f", '{"x": "🙂"}', "a")]


def test_calls_that_take_turns_are_kept_apart() -> None:
    assert calls(
        [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "["}}],
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}],
        [{"index": 1, "function": {"arguments": "]"}}, {"index": 0, "function": {"arguments": "}"}}],
    ) == [call("f", "{}", "a"), call("g", "[]", "b")]


def test_tool_calls_without_an_index_are_distinguished_by_id() -> None:
    assert calls(
        [{"id": "a", "function": {"name": "f", "arguments": "{"}}],
        [{"function": {"arguments": "}"}}],
        [{"id": "b", "function": {"name": "g", "arguments": "["}}],
        [{"function": {"arguments": "]"}}],
        [{"id": "a", "function": {"arguments": "!"}}],
    ) == [call("f", "{}!", "a"), call("g", "[]", "b")]


def test_whole_tool_calls_in_one_delta_need_neither_index_nor_id() -> None:
    assert calls([{"function": {"name": "f", "arguments": "{}"}}, {"function": {"name": "g", "arguments": "[]"}}]) == [
        call("f", "{}", None),
        call("g", "[]", None),
    ]


def test_arguments_that_are_an_object_stay_one() -> None:
    assert calls([{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]) == [
        call("f", {"x": 1}, "a")
    ]


def test_content_and_calls_may_come_together() -> None:
    choice = folded(
        delta("Let me look."), delta(..., tool_calls=[{"index": 0, "id": "a"}]), delta(..., finish="tool_calls")
    )
    assert choice["message"]["content"] == "Let me look."
    assert choice["message"]["tool_calls"] == [call("", "", "a")]


def test_a_stream_is_searched_once_for_usage_in_unusual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def noted(body: dict[str, Any]) -> dict[str, Any] | None:
        searched.append(len(body["choices"]))
        return usage_elsewhere(body)

    monkeypatch.setattr(_choices_stream, "usage_elsewhere", noted)
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 3}}]}
    assert read([*[chunk] * 100, last])[0]["usage"] == {"prompt_tokens": 3}
    assert searched == [1]


# --- answer ----------------------------------------------------------------------------------------------------------


def test_a_reply_that_stopped_by_itself_is_a_success() -> None:
    found = answer(whole({"role": "assistant", "content": "Hello"}))
    assert found == Answer("Hello", "stop", "m", Usage(3, 2), Status.SUCCESS)


@pytest.mark.parametrize("finish", ["stop", "eos", None, "STOP", 7, "tool_calls", ""])
def test_an_unknown_reason_or_none_is_not_a_failure(finish: object) -> None:
    found = said("Hello", finish)
    assert found.status is Status.SUCCESS
    assert found.finish_reason == (finish if isinstance(finish, str) else None)


@pytest.mark.parametrize("finish", ["length", "max_tokens", "model_length", "MAX_TOKENS"])
@pytest.mark.parametrize("content", ["Hel", "", None])
def test_a_cut_reply_is_truncated_and_says_what_to_do(finish: str, content: str | None) -> None:
    found = said(content, finish)
    assert found.status is Status.TRUNCATED
    assert "raise max_tokens" in str(found.problem)
    assert found.content == (content or None)


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "refusal"])
def test_a_filtered_reply_is_filtered(finish: str) -> None:
    assert said("Hel", finish).status is Status.FILTERED


def test_a_refusal_is_filtered_and_quoted() -> None:
    found = said(None, refusal="I can't help with that.")
    assert found.status is Status.FILTERED
    assert "I can't help with that." in str(found.problem)


def test_an_error_of_the_endpoint_is_an_error() -> None:
    assert said("Hel", "error").status is Status.ERROR


@pytest.mark.parametrize("content", [None, "", " \n", [], [{"type": "image_url"}], 7, {"text": "x"}])
def test_an_empty_reply_is_not_a_success(content: object) -> None:
    found = said(content)
    assert found.status is Status.INVALID_OUTPUT
    assert found.problem == "the reply is empty"


@pytest.mark.parametrize(
    "more", [{"tool_calls": [call("f", "{}", "a")]}, {"function_call": {"name": "f", "arguments": "{}"}}]
)
def test_an_empty_reply_that_calls_a_function_is_a_success(more: dict[str, Any]) -> None:
    assert said(None, "tool_calls", **more).status is Status.SUCCESS
    assert said(None, "stop", **more).status is Status.SUCCESS
    assert said(None, "length", **more).status is Status.TRUNCATED


def test_content_as_parts_is_read_as_their_text() -> None:
    parts = [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Hel"}, {"text": "lo"}, "x"]
    assert said(parts).content == "Hello"


def test_of_several_choices_the_first_one_counts() -> None:
    choices = [
        {"index": 1, "message": {"content": "other"}, "finish_reason": "stop"},
        {"index": 0, "message": {"content": "Hello"}, "finish_reason": "length"},
    ]
    assert answer({"choices": choices})[:2] == ("Hello", "length")
    assert answer({"choices": choices}).status is Status.TRUNCATED


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": "x"}, "no choices"),
        ({"choices": [None, 7]}, "no choices"),
        ({"choices": [{}]}, "no message"),
        ({"choices": [{"message": None}]}, "no message"),
        ({"choices": [{"message": "Hello"}]}, "no message"),
        ({"object": "list", "data": []}, "no choices"),
    ],
)
def test_a_reply_of_another_shape_is_not_a_success(body: dict[str, Any], problem: str) -> None:
    found = answer(body)
    assert found.status is Status.INVALID_OUTPUT
    assert problem in str(found.problem)


def test_the_known_fields_of_a_bad_reply_are_kept() -> None:
    found = answer({"model": "m", "usage": USAGE, "choices": [{"finish_reason": "stop"}]})
    assert found[:4] == (None, "stop", "m", Usage(3, 2))
    assert answer({"model": 7}).model is None


# --- requests --------------------------------------------------------------------------------------------------------


def test_the_shorthands_are_a_conversation() -> None:
    assert request_format(Shorthand("m", "Be brief.", "Hello {{ name }}")) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello {{ name }}"}],
    }
    assert request_format(Shorthand(prompt="Hello")) == {"messages": [{"role": "user", "content": "Hello"}]}


def test_a_stream_is_asked_for_with_its_usage_unless_the_request_says_otherwise() -> None:
    assert streamed({"model": "m"}) == {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert streamed({"stream": False, "stream_options": {"include_usage": False, "x": 1}}) == {
        "stream": True,
        "stream_options": {"include_usage": False, "x": 1},
    }
    odd: list[Any] = [None, [], "x", 7]
    for options in odd:
        assert streamed({"stream_options": options})["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Label", "Label"),
        ("A label: yes/no", "A_label_yes_no"),
        ("Étiquette", "_tiquette"),
        ("x" * 99, "x" * 64),
        ("", "answer"),
    ],
)
def test_a_schema_is_sent_under_a_name_that_openai_admits(title: str, name: str) -> None:
    schema = {"title": title, "type": "object"}
    assert structured({"model": "m"}, schema) == {
        "model": "m",
        "response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}},
    }


def test_a_format_that_the_request_asks_for_itself_stays() -> None:
    body = {"response_format": {"type": "json_object"}}
    assert structured(body, {"type": "object"}) == body
    assert structured({}, {"type": "object"})["response_format"]["json_schema"]["name"] == "answer"


def test_the_smallest_request_asks_for_one_token() -> None:
    assert minimal({"model": "m", "messages": ["…"], "temperature": 1}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "ping"}],
        "max_tokens": 1,
    }


# --- fold: tool calls as servers other than OpenAI's send them -------------------------------------------------------


def piece(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**more, "function": function}


F_AND_G: Final = [("f", '{"a":1}'), ("g", '{"b":2}')]
F_AND_F: Final = [("f", '{"a":1}'), ("f", '{"a":2}')]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param(
            [[piece("f", "", id="a", index=0)], [piece("g", '{"b":2}', id="b", index=0)]],
            [("f", ""), ("g", '{"b":2}')],
            id="one index and ids of their own, the first without arguments",
        ),
        pytest.param(
            [[piece("f", '{"a":1}', id="a", index=0)], [piece("f", '{"a":2}', id="b", index=0)]],
            F_AND_F,
            id="one index and ids of their own",
        ),
        pytest.param(
            [[piece("f", '{"a":1}', id="a", index=0), piece("f", '{"a":2}', id="b", index=0)]],
            F_AND_F,
            id="the same in one delta",
        ),
        pytest.param(
            [[piece("f", '{"a":1}', index=0), piece("f", '{"a":2}', index=0)]], F_AND_F, id="in one delta, without ids"
        ),
        pytest.param([[piece("f", ""), piece("f", "")]], [("f", ""), ("f", "")], id="twice the same, without anything"),
        pytest.param(
            [[piece("f", '{"a":1}', index=0)], [piece("f", '{"a":2}', index=0)]],
            F_AND_F,
            id="one index, without ids: a name behind whole arguments begins a call",
        ),
        pytest.param(
            [[piece("f", {"a": 1})], [piece("f", {"a": 2})]],
            [("f", {"a": 1}), ("f", {"a": 2})],
            id="arguments as objects",
        ),
        pytest.param(
            [
                [piece("f", "", id="a", index=0)],
                [piece(None, '{"a"', id="", index=0)],
                [piece("", ":1}", index=0)],
                [piece("g", "", id="b", index=0)],
                [piece(None, '{"b":2}', index=0)],
            ],
            F_AND_G,
            id="one index, in pieces",
        ),
        pytest.param(
            [[piece("f", "", id="1")], [piece("", '{"a"', id="2")], [piece("", ":1}", id="3")]],
            [("f", '{"a":1}')],
            id="no index, no name and a new id with each piece",
        ),
        pytest.param(
            [[piece("f", "", id="1", index=0)], [piece("", '{"a"', id="2", index=0)], [piece(None, ":1}", id="3")]],
            [("f", '{"a":1}')],
            id="an index, sometimes, and a new id with each piece",
        ),
        pytest.param(
            [
                [piece("f", "", id="1", index=0)],
                [piece("f", '{"a"', id="2", index=0)],
                [piece("f", ":1}", id="3", index=0)],
            ],
            [("f", ""), ("f", '{"a":1}')],
            id="a new id and the name with each piece: behind none at all, a call begins",
        ),
        pytest.param(
            [[piece("f", '{"a"', id="a", index=0)], [piece("f", ":1}", id="a", index=0)]],
            [("f", '{"a":1}')],
            id="id and name with each piece",
        ),
        pytest.param(
            [[piece("f", '{"a"', index=0)], [piece("f", ":", index=0)], [piece("f", "1}", index=0)]],
            [("f", '{"a":1}')],
            id="the name with each piece, without ids",
        ),
        pytest.param(
            [
                [piece("f", '{"a":', id="a"), piece("g", '{"b":', id="b")],
                [piece(None, "1}", id="a"), piece(None, "2}", id="b")],
            ],
            F_AND_G,
            id="no index, and pieces by id",
        ),
        pytest.param(
            [
                [piece("g", '{"b":', id="b", index=1)],
                [piece("f", '{"a":1}', id="a", index=0)],
                [piece(None, "2}", index=1)],
            ],
            F_AND_G,
            id="indexes alone, the later one first",
        ),
        pytest.param(
            [[piece("f", '{"a":1}', id="x", index=0)], [piece("g", '{"b":2}', id="x", index=1)]],
            F_AND_G,
            id="one id, and indexes of their own",
        ),
    ],
)
def test_tool_calls_are_distinguished(deltas: list[list[dict[str, Any]]], expected: list[tuple[str, Any]]) -> None:
    found = calls(*deltas)
    assert [(each["function"]["name"], each["function"]["arguments"]) for each in found] == expected


def test_the_first_id_of_a_call_stays() -> None:
    assert calls([piece("f", "{", id="1")], [piece("", "}", id="2")]) == [call("f", "{}", "1")]


def test_the_old_function_call_comes_in_pieces_too() -> None:
    choice = folded(
        delta(..., function_call={"name": "f", "arguments": ""}),
        delta(..., function_call={"arguments": '{"x": "\ud83d'}),
        delta(..., function_call={"arguments": '\ude42"}', "name": None}),
        delta(..., finish="function_call"),
    )
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"x": "🙂"}'}


def test_names_that_come_with_many_pieces_are_put_together_in_linear_steps() -> None:
    pieces = ["{", *('"x": 1,' for _ in range(20_000)), '"y": 1}']
    (found,) = calls(*([piece("f", each, index=0)] for each in pieces))
    assert found["function"]["arguments"] == "".join(pieces)


@pytest.mark.parametrize(
    "holder",
    [
        {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 5, "completion_tokens": 3}}]},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 3}}},
    ],
)
def test_the_usage_may_come_at_another_place(holder: dict[str, Any]) -> None:
    assert usage_of(read([delta("Hello"), holder])[0]) == Usage(5, 3)
    assert usage_of(holder) == Usage(5, 3)
    assert usage_of({**holder, "usage": {"prompt_tokens": 1}}) == Usage(1)


@pytest.mark.parametrize(
    ("other", "status", "problem"),
    [
        (
            {"message": {"content": ""}, "finish_reason": "content_filter"},
            Status.FILTERED,
            "choice 2 of 3: the endpoint's",
        ),
        (
            {"message": {"content": "cu"}, "finish_reason": "length"},
            Status.TRUNCATED,
            "choice 2 of 3: the reply was cut",
        ),
        ({"message": {"content": None, "refusal": "no"}}, Status.FILTERED, "choice 2 of 3: the model refused"),
        (
            {"message": {"content": ""}, "error": {"message": "lost"}},
            Status.ERROR,
            "choice 2 of 3: the endpoint broke off",
        ),
        ({"message": {"content": "two"}, "finish_reason": "stop"}, Status.SUCCESS, ""),
        ({"message": {"content": "two"}, "error": None}, Status.SUCCESS, ""),
    ],
)
def test_a_failed_choice_among_several_fails_the_row(other: dict[str, Any], status: Status, problem: str) -> None:
    """Its text is in a column of the same row; the first choice's text stays what it is."""
    good = {"message": {"content": "one"}, "finish_reason": "stop"}
    choices = [{"index": 0, **good}, {"index": 1, **other}, {"index": 2, **good}]
    found = answer({"choices": choices})
    assert found.status is status
    assert (found.problem or "").startswith(problem)
    assert found.content == "one"
