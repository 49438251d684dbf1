"""Calls that nobody asked for, and calls that were asked for and did not come: never a success."""

from __future__ import annotations

from typing import Any, Final

import pytest

from connector import Connector
from connector.endpoints import load
from tests.endpoint import Action, Call, Endpoint, good
from tests.faults import play, render

F: Final[dict[str, Any]] = {"type": "function", "function": {"name": "f"}}
G: Final[dict[str, Any]] = {"type": "function", "function": {"name": "g"}}
UNASKED: Final = 'only calls "f", which the request does not offer'
NO_CALL: Final = "does not call a function that is offered, as tool_choice asks"
NOT_F: Final = 'does not call "f", as tool_choice asks'


def reply(kind: str, content: str | None, *names: str) -> dict[str, Any]:
    if kind != "chat":
        said = [{"type": "message", "content": [{"type": "output_text", "text": content}]}] if content else []
        calls: list[dict[str, Any]] = [
            {"type": "function_call", "call_id": "a", "name": name, "arguments": "{}"} for name in names
        ]
        return {"status": "completed", "output": [*said, *calls]}
    calls = [{"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    return {"choices": [{"index": 0, "message": {"content": content, "tool_calls": calls}, "finish_reason": "stop"}]}


CASES: Final[list[tuple[dict[str, Any], str | None, tuple[str, ...], str | None]]] = [
    ({}, "Hello", (), None),
    ({}, None, ("f",), UNASKED),
    ({}, " ", ("f",), UNASKED),
    ({}, "Hello", ("f",), None),
    ({"tools": []}, None, ("f",), UNASKED),
    ({"tools": [G]}, None, ("f",), UNASKED),
    ({"tools": [G]}, None, ("f", "g"), None),
    ({"tools": [F]}, None, ("f",), None),
    ({"tools": [{"type": "function", "name": "f"}]}, None, ("f",), None),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, None, ("f",), None),
    ({"tools": [{"type": "web_search"}]}, None, ("f",), UNASKED),
    ({"tools": [{"type": "function", "function": {"name": "{{ tool }}"}}]}, None, ("f",), None),
    ({"tools": "{{ tools }}"}, None, ("f",), None),
    ({"tools": ["{{ tool }}"]}, None, ("f",), None),
    ({"functions": [{"name": "f"}]}, None, ("f",), None),
    ({"tools": [F], "tool_choice": "none"}, None, ("f",), UNASKED),
    ({"tools": [F], "tool_choice": {"type": "none"}}, None, ("f",), UNASKED),
    ({"tools": [F], "tool_choice": "auto"}, "Hello", (), None),
    ({"tools": [F], "tool_choice": "required"}, "Hello", (), NO_CALL),
    ({"tools": [F], "tool_choice": "any"}, "Hello", (), NO_CALL),
    ({"tools": [F], "tool_choice": {"type": "any"}}, "Hello", (), NO_CALL),
    ({"tools": [F], "tool_choice": "required"}, "Hello", ("g",), NO_CALL),
    ({"tools": [F], "tool_choice": "required"}, "Hello", ("f",), None),
    ({"tools": [F], "tool_choice": "{{ choice }}"}, "Hello", (), None),
    ({"tools": [F, G], "tool_choice": F}, "Hello", (), NOT_F),
    ({"tools": [F, G], "tool_choice": F}, None, ("g",), NOT_F),
    ({"tools": [F, G], "tool_choice": F}, None, ("g", "f"), None),
    ({"tools": [F], "tool_choice": {"type": "function", "name": "f"}}, "Hello", (), NOT_F),
    ({"tools": [F], "tool_choice": {"type": "tool", "name": "f"}}, "Hello", (), NOT_F),
    ({"tools": "{{ tools }}", "tool_choice": F}, "Hello", (), NOT_F),
    ({"tools": [F], "tool_choice": {"function": {"name": "{{ tool }}"}}}, "Hello", (), NO_CALL),
    ({"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [F]}}, "Hello", (), NO_CALL),
    ({"tools": [F], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}, "Hello", (), None),
    ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "Hello", (), NOT_F),
]


@pytest.mark.parametrize("kind", ["chat", "responses", "realtime"])
@pytest.mark.parametrize(("request_", "content", "names", "problem"), CASES)
def test_a_reply_calls_what_it_has_to_and_nothing_that_was_not_offered(
    kind: str, request_: dict[str, Any], content: str | None, names: tuple[str, ...], problem: str | None
) -> None:
    unmet = load(kind).expectation({"model": "m", **request_}, {"content"})
    body = reply(kind, content, *names)
    found = None if unmet is None else unmet(body, load(kind).answer(body))
    assert found == (None if problem is None else f"the reply {problem}")


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("name", ["tool_calls", "tool_name", "arguments"])
def test_where_the_columns_read_the_calls_any_call_is_welcome(kind: str, name: str) -> None:
    assert load(kind).expectation({"model": "m"}, {name}) is None
    assert load(kind).expectation({"model": "m", "tools": [F], "tool_choice": "required"}, {name}) is not None


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_a_response_that_goes_on_may_have_tools_that_the_request_does_not_show(name: str) -> None:
    assert load("responses").expectation({"model": "m", name: "x"}, {"content"}) is None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("options", "message", "problem"),
    [
        ({}, {"content": None, "tool_calls": [{"id": "a", **F}]}, UNASKED),
        ({"tools": [F], "tool_choice": "required"}, {"content": "Hello"}, NO_CALL),
        ({"tools": [F], "tool_choice": F}, {"content": "Hello"}, NOT_F),
    ],
)
def test_the_row_says_what_is_wrong_and_keeps_the_text(
    options: dict[str, Any], message: dict[str, Any], problem: str, *, streamed: bool
) -> None:
    def script(call: Call) -> Action:
        body = good(call).body
        calls = [
            {**each, "function": {"arguments": "{}", **each["function"]}} for each in message.get("tool_calls", ())
        ]
        said = {"role": "assistant", **message, **({"tool_calls": calls} if calls else {})}
        body["choices"][0] |= {"message": said, "finish_reason": "tool_calls" if calls else "stop"}
        return Action("said", play(render(good(call)._replace(body=body))))

    with Endpoint(script) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "{{ text }}", "is_stream": streamed, **options}
        columns = {"response_format": {"answer": "{{ content }}"}}
        (row,) = Connector({**config, **columns, "cache": "none"}).enrich([{"text": "x"}])
    assert (row["_llm"]["status"], row["answer"]) == ("invalid_output", None)
    assert problem in row["_llm"]["error"]["message"]
    assert row["_llm"]["error"]["content"] == message["content"]
