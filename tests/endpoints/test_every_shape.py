"""No shape of reply raises: good replies of every kind, whole and streamed, changed at random places by a fixed seed.

What a reply comes to is the row's outcome, even where the program itself fails on it; that it never has to is shown
here: no outcome says so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

import pytest

from connector import Config
from connector.base.decoding import DepthError, storable
from connector.base.records import Answer, Record, Reply, Status
from connector.base.usage import shared, summed
from connector.endpoints import KINDS, Shorthand, load, usage_of
from connector.run.plan import Plan
from tests.endpoint import PATHS, body_for
from tests.endpoints.streams import assembled
from tests.faults import Good, chunks

SEED: Final = 13
CHANGED: Final = 800
"""Changed replies of each kind, whole and streamed."""

CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
MESSAGE: Final = {
    "role": "assistant",
    "content": [{"type": "text", "text": "<think>x</think>"}],
    "refusal": None,
    "reasoning": "so",
    "reasoning_content": "so",
    "tool_calls": [CALL, CALL],
    "function_call": CALL["function"],
}
CHAT: Final[dict[str, Any]] = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "error": {"message": ""},
    "choices": [
        {
            "index": 0,
            "message": MESSAGE,
            "finish_reason": "stop",
            "native_finish_reason": "STOP",
            "usage": {"prompt_tokens": 1},
            "logprobs": {"content": [{"token": "a"}]},
        },
        {"index": 1, "message": {"content": '{"answers": [{"id": 1, "answer": "a"}, {"id": 2, "answer": "b"}]}'}},
    ],
    "x_groq": {"usage": {"prompt_tokens": 3}},
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cost": 0.5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}
DELTAS: Final[list[dict[str, Any]]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a", "reasoning": "b"}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{**CALL, "index": 0}, {**CALL, "index": 0, "id": "b"}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "c", "function": {"name": "", "arguments": "}"}}]}}]},
    {"choices": [{"index": 0, "delta": {"function_call": {"name": "f", "arguments": "{"}}}]},
    {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "usage": {"prompt_tokens": 1}}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]
RESPONSE: Final[dict[str, Any]] = {
    "id": "r1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": {"reason": "max_output_tokens"},
    "model": "m",
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
}
EVENTS: Final[list[dict[str, Any]]] = [
    {"type": "response.created", "response": {"status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "i", "type": "message", "content": []}},
    {"type": "response.content_part.added", "item_id": "i", "content_index": 0, "part": {"type": "output_text"}},
    {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Hi"},
    {"type": "response.function_call_arguments.delta", "item_id": "j", "output_index": 1, "delta": "{}"},
    {"type": "response.text.delta", "item_id": "i", "delta": "Hi"},
    {"type": "response.done", "response": {**RESPONSE, "status_details": {"error": None, "reason": "x"}}},
    {"type": "response.completed", "response": {**RESPONSE, "output": []}},
]
WHOLE: Final[dict[str, list[dict[str, Any]]]] = {"chat": [CHAT], "responses": [RESPONSE], "realtime": [RESPONSE]}
STREAMS: Final[dict[str, list[list[dict[str, Any]]]]] = {
    "chat": [DELTAS],
    "responses": [EVENTS],
    "realtime": [EVENTS],
}
JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    7,
    2**63,
    10**400,
    1.5,
    1e308,
    "",
    "x",
    "1",
    "\ud83d",
    "{",
    '{"x": 1}',
    "AAAAAAAA",
    "abort",
    [],
    {},
    ["x"],
    [None],
    [[]],
    [{}],
    {"x": 1},
    {"message": {"message": []}},
    [0.5, None],
    [[1.0], [1.0, 2.0]],
)
NAMES: Final = "index id name content error usage type text status arguments function finish_reason delta data".split()
REQUEST: Final[dict[str, Any]] = {
    "model": "m",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
    "dimensions": 4,
}

each_kind = pytest.mark.parametrize("kind", KINDS)


def good_bodies(kind: str) -> list[dict[str, Any]]:
    known = WHOLE.get(kind, [])
    if kind in PATHS.values():
        request = load(kind).request_format(Shorthand("m", None, "Hello"))
        known = [*known, body_for(kind, request, "Hello")]
    return known


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a structure: what holds it, and its key or number."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield value, key
        yield from places(inner)


def changed(value: Any, random: Random) -> Any:
    """The structure with one to four of its places replaced, removed, doubled, renamed or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 4)):
        found = list(places(value))
        if not found:
            return value
        holder, key = random.choice(found)
        way = random.randrange(7)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif way == 2 and isinstance(holder, dict):
            holder[random.choice(NAMES)] = copy.deepcopy(random.choice(JUNK))
        elif way == 3:
            holder[key] = [holder[key]]
        elif way == 4:
            holder[key] = {random.choice(NAMES): holder[key]}
        else:
            holder[key] = copy.deepcopy(random.choice(JUNK))
    return value


def replies(kind: str) -> Iterator[dict[str, Any]]:
    """Changed replies, whole, and put together from changed streams."""
    random = Random(f"{SEED} {kind}")
    bodies = good_bodies(kind)
    streams = STREAMS.get(kind, []) + [chunks(Good(body, kind=kind, streamed=True, usage=True)) for body in bodies[-1:]]
    endpoint = load(kind)
    for _ in range(CHANGED):
        body = changed(random.choice(bodies), random)
        yield body
        events = [event for event in changed(random.choice(streams), random) if isinstance(event, dict)]
        for event in events:
            assert isinstance(endpoint.is_chunk(event), bool)
        folded, is_complete = assembled(endpoint, iter(events))
        assert isinstance(is_complete, bool)
        yield folded


@each_kind
def test_whatever_a_reply_is_its_answer_is_read_and_its_parts_are_told_apart(kind: str) -> None:
    endpoint = load(kind)
    checks = [
        endpoint.expectation(request, reads)
        for request in (REQUEST, {"model": "m"}, "{{ x }}", {**REQUEST, "tool_choice": {"function": {"name": "g"}}})
        for reads in ((), ("content", "tool_calls"))
    ]
    packings = [endpoint.packing(4, None, None), endpoint.packing(None, 4, None), endpoint.packing(None, 4, {})]
    for body in replies(kind):
        answer = endpoint.answer(body)
        assert isinstance(answer, Answer)
        assert (answer.problem is None) == (answer.status is Status.SUCCESS)
        assert endpoint.broken_off(body) is None or answer.status is not Status.SUCCESS
        assert all(count is None or count >= 0 for count in usage_of(body))
        if answer.status is Status.SUCCESS:
            assert endpoint.values(body).keys() <= {"content", *endpoint.value_types(REQUEST)}
            for check in filter(None, checks):
                assert isinstance(check(body, answer), str | None)
        for count in (1, 2, 3):
            for packing in filter(None, packings):
                assert len(packing.unpacked(body, count)) == count


@each_kind
@pytest.mark.parametrize("has_schema", [False, True])
def test_whatever_a_reply_is_it_becomes_the_outcome_of_its_row(kind: str, has_schema: bool) -> None:
    endpoint = load(kind)
    names = {*endpoint.value_types(REQUEST), "content", "parsed", "choices", "usage", "output", "data"}
    columns = {f"x_{name}": f"{{{{ {name} }}}}" for name in names}
    schema = {"output_schema": {"type": "object", "properties": {"x": {"type": "integer"}}}} if has_schema else {}
    options = {
        "url": "http://127.0.0.1/v1",
        "endpoint": kind,
        "request_format": endpoint.request_format(Shorthand("m", None, "Hello")),
        **schema,
    }
    plans = [
        Plan(Config.model_validate({**options, "response_format": format_}))
        for format_ in (
            columns,
            {"a": "{{ content }}", "b": "{{ parsed.x.y[0] }}"},
            {"c": "{{ choices[0].message.tool_calls[0].function.name }}", "d": "{{ arguments.x }}"},
            {"e": "{{ embedding | length }}", "f": "{{ images[0] | upper }}", "g": "{{ usage.prompt_tokens + 1 }}"},
        )
    ]
    record = Record(0, {"text": "Hello"})
    for body in replies(kind):
        reply = Reply(200, body, {})
        for plan in plans:
            outcome = plan.outcomes.of(record, reply, b"key")
            assert isinstance(plan.outcomes.lacking(reply), dict)
            assert outcome.record is record
            assert set(outcome.columns) == set(plan.columns)
            error = outcome.provenance.error
            assert (error is None) == (outcome.status is Status.SUCCESS)
            assert error is None or "this program failed" not in error.message, error


@each_kind
def test_whatever_the_usage_is_it_is_added_up_and_shared_out(kind: str) -> None:
    before = Reply(200, {"usage": {"prompt_tokens": 1, "completion_tokens": 2.5, "cost": 0.1}}, {})
    for body in replies(kind):
        reply = Reply(200, body, {"x-litellm-response-cost": "x"})
        assert len(shared(reply, [0, 0])) == len(shared(reply, [3, 1])) == 2
        assert isinstance(summed([reply, before]).body, dict)
        assert isinstance(summed([before, reply]).body, dict)


@each_kind
def test_whatever_could_be_kept_is_kept(kind: str) -> None:
    for body in replies(kind):
        with suppress(DepthError):
            storable(body)
