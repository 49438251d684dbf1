"""What every kind of endpoint has to keep to. A new kind is tested by being there."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from connector.base.records import Answer, Status, Usage
from connector.base.values import dumps
from connector.endpoints import KINDS, Endpoint, Shorthand, address_of, kind_of, load, usage_of
from connector.templates.template import Template
from tests.endpoint import PATHS, answer_to, body_for
from tests.endpoints.streams import assembled
from tests.faults import Good, chunks

SCHEMA: Final = {"title": "Label", "type": "object", "properties": {"label": {"type": "string"}}}
COUNTED_IF_ASKED: Final = {"chat", "completions"}
"""Whose streams bring the usage only where that is asked for."""

WITHOUT_TEXT: Final = {"embeddings", "moderations", "images", "image_edits"}
PLAYED: Final = [kind for kind in KINDS if kind in PATHS.values()]
"""The kinds that the loopback endpoint speaks."""

each_kind = pytest.mark.parametrize("kind", KINDS)
each_played = pytest.mark.parametrize("kind", PLAYED)

NAMES: Final = (
    "choices index delta message content role finish_reason usage tool_calls function arguments name id text refusal "
    "object model error type output status response data embedding logprobs prompt_tokens reasoning "
    "results flagged categories category_scores"
).split()
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["stop", "length", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
chunk = st.fixed_dictionaries(
    {},
    optional={
        "index": junk,
        "delta": st.dictionaries(st.sampled_from(NAMES), junk, max_size=4) | junk,
        "finish_reason": junk,
        "logprobs": junk,
    },
)
tool = st.fixed_dictionaries(
    {}, optional={"index": junk, "id": junk, "function": st.fixed_dictionaries({"arguments": junk})}
)
called = st.fixed_dictionaries({"delta": st.fixed_dictionaries({"tool_calls": st.lists(tool, max_size=3)})})
objects = st.dictionaries(st.sampled_from(NAMES), junk, max_size=5) | st.fixed_dictionaries(
    {"choices": st.lists(chunk | called | junk, max_size=3)}, optional={"usage": junk, "model": junk}
)


@each_kind
def test_its_contract_is_whole(kind: str) -> None:
    endpoint = load(kind)
    for name in vars(Endpoint)["__annotations__"]:
        assert getattr(endpoint, name) is not None
    for name, member in vars(Endpoint).items():
        if callable(member) and not name.startswith("_"):
            assert callable(getattr(endpoint, name)), name


@each_kind
def test_its_path_is_its_own(kind: str) -> None:
    path = load(kind).PATH
    assert path.startswith("/")
    assert [other for other in KINDS if path == load(other).PATH] == [kind]
    assert kind_of(f"/v1{path}") == kind_of(f"/proxy/openai/v1{path}/") == kind
    assert address_of(f"https://host/v1{path}") == (kind, f"https://host/v1{path}", "https://host/v1")
    assert address_of("https://host/v1/", kind) == (kind, f"https://host/v1{path}", "https://host/v1")


@each_kind
def test_its_reply_is_described_by_a_schema(kind: str) -> None:
    schema = load(kind).REPLY
    Draft7Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["properties"]


@each_played
def test_a_whole_reply_is_what_its_schema_says(kind: str) -> None:
    endpoint = load(kind)
    request = endpoint.request_format(Shorthand("m", "Be brief.", "Hello"))
    Draft7Validator(endpoint.REPLY).validate(body_for(kind, request, "Hello"))


@each_kind
def test_the_shorthands_make_a_request_that_renders(kind: str) -> None:
    format_ = load(kind).request_format(Shorthand("{{ model }}", None, "{{ text }}"))
    template = Template(format_, "request_format")
    assert template.required().keys() <= {"model", "text"}
    for text in ('a "text"', "{{ 7*7 }}", "7"):
        body = template.render({"model": "m", "text": text})
        assert body["model"] == "m"
        assert text.encode() in dumps(body).replace(b"\\", b"")
        assert b"null" not in dumps(body)
    assert "model" not in load(kind).request_format(Shorthand(prompt="x"))


@each_kind
@pytest.mark.parametrize("number", [7, True, 1.5, ["a"]])
def test_a_prompt_is_always_a_text(kind: str, number: object) -> None:
    """A lone `{{ column }}` would keep its type otherwise, and the endpoint refuse it."""
    template = Template(load(kind).request_format(Shorthand("m", None, "{{ value }}")), "request_format")
    one, other = template.render({"value": number}), template.render({"value": "text"})

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items()}
        return [shape(each) for each in value] if isinstance(value, list) else type(value)

    assert shape(one) == shape(other)


@each_kind
@pytest.mark.parametrize("change", ["streamed", "structured"])
def test_a_fallback_keeps_the_rest_of_the_request(kind: str, change: str) -> None:
    endpoint = load(kind)
    body = endpoint.request_format(Shorthand("m", "s", "p")) | {"temperature": 0, "metadata": {"a": [1]}}
    before = copy.deepcopy(body)
    changed = endpoint.streamed(body) if change == "streamed" else endpoint.structured(body, SCHEMA)
    assert body == before
    assert changed.items() >= body.items()
    again = endpoint.streamed(changed) if change == "streamed" else endpoint.structured(changed, SCHEMA)
    assert again == changed


@each_kind
def test_the_smallest_request_goes_to_the_same_model(kind: str) -> None:
    endpoint = load(kind)
    body = endpoint.request_format(Shorthand("m", "s" * 1000, "p" * 1000))
    before = copy.deepcopy(body)
    small = endpoint.minimal(body)
    assert body == before
    assert small["model"] == "m"
    assert len(dumps(small)) < 200
    assert "model" not in endpoint.minimal({})


@each_played
@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_says_the_same_as_the_whole_reply(kind: str, usage: bool) -> None:
    endpoint = load(kind)
    body = body_for(kind, endpoint.request_format(Shorthand("m", None, "Hello")), "Hello")
    whole = endpoint.answer(body)
    folded, complete = assembled(endpoint, chunks(Good(copy.deepcopy(body), kind=kind, streamed=True, usage=usage)))
    expected = whole if usage or kind not in COUNTED_IF_ASKED else whole._replace(usage=Usage())
    assert whole.status is Status.SUCCESS
    assert whole.content == (None if kind in WITHOUT_TEXT else answer_to("Hello"))
    assert complete
    assert endpoint.answer(folded) == expected
    assert {name: value for name, value in folded.items() if name != "usage"} == {
        name: value for name, value in body.items() if name != "usage"
    }


@each_kind
def test_an_empty_stream_is_not_a_reply(kind: str) -> None:
    assert assembled(load(kind), []) == ({}, False)
    assert load(kind).answer({}).status is not Status.SUCCESS


@each_kind
@given(body=objects)
def test_no_shape_of_a_reply_raises(kind: str, body: dict[str, Any]) -> None:
    answer = load(kind).answer(body)
    assert isinstance(answer, Answer)
    assert answer.content is None or isinstance(answer.content, str)
    assert answer.finish_reason is None or isinstance(answer.finish_reason, str)
    assert answer.model is None or isinstance(answer.model, str)
    assert all(count is None or count >= 0 for count in answer.usage)
    assert (answer.problem is None) == (answer.status is Status.SUCCESS)


@each_kind
@given(events=st.lists(objects, max_size=5))
def test_no_shape_of_a_stream_raises(kind: str, events: list[dict[str, Any]]) -> None:
    before = repr(events)
    body, complete = assembled(load(kind), iter(events))
    assert isinstance(body, dict)
    assert isinstance(complete, bool)
    assert repr(events) == before
    assert isinstance(load(kind).answer(body), Answer)


# --- What all kinds share --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/models", "/chat", "/v1/chat/completions/more"])
def test_a_base_url_has_no_kind(path: str) -> None:
    assert kind_of(path) is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ("many", Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, Usage(1, 2)),
        ({"input_tokens": 1, "output_tokens": 2}, Usage(1, 2)),
        ({"prompt_tokens": None, "input_tokens": 1, "completion_tokens": 0}, Usage(1, 0)),
        ({"prompt_tokens": "1", "completion_tokens": 2.5}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": -1}, Usage()),
        (
            {"prompt_tokens": 10**15, "output_tokens": 10**8, "prompt_tokens_details": {"cached_tokens": 10**30}},
            Usage(None, 10**8),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 7},
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
            Usage(9, 8, 7, 6),
        ),
        (
            {"input_tokens_details": {"cached_tokens": 7}, "output_tokens_details": {"reasoning_tokens": 6}},
            Usage(None, None, 7, 6),
        ),
        ({"prompt_tokens": 1, "prompt_tokens_details": None, "completion_tokens_details": []}, Usage(1)),
    ],
)
def test_tokens_are_counted_under_either_name_or_not_at_all(usage: object, expected: Usage) -> None:
    assert usage_of({"usage": usage}) == expected
    assert usage_of({}) == Usage()
