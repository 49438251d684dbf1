"""What a response format may call by name: tool calls and their arguments, reasoning, all of several choices."""

from __future__ import annotations

from typing import Any

import pytest

from connector import Connector
from connector.base.records import Record, Reply, Status
from connector.config.config import Config
from connector.endpoints.chat import answer, values
from connector.run.plan import Plan
from tests.endpoint import Action, Call, Endpoint, good
from tests.faults import play, render

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "forecast", "parameters": CITY}}


def called(arguments: Any, name: str = "forecast", **message: Any) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call], **message}}
    return {"choices": [{**choice, "finish_reason": "tool_calls"}]}


def test_a_call_s_arguments_are_parsed() -> None:
    body = called('{"city": "Ulm", "days": 2}')
    found = values(body)
    assert answer(body).status is Status.SUCCESS
    assert found["tool_name"] == "forecast"
    assert found["arguments"] == {"city": "Ulm", "days": 2}
    assert found["tool_calls"] == [{"id": "call_1", "name": "forecast", "arguments": {"city": "Ulm", "days": 2}}]


@pytest.mark.parametrize("arguments", ['{"city": "U', "[1]", '"Ulm"', "7", 7, [1], "null", "nonsense"])
def test_arguments_that_are_cut_or_no_object_are_no_success(arguments: Any) -> None:
    told = answer(called(arguments))
    assert told.status is Status.INVALID_OUTPUT
    assert '"forecast"' in str(told.problem)


@pytest.mark.parametrize("odd", [True, 1, "call", [1], {}, None])
def test_a_tool_call_that_is_not_an_object_counts_as_missing(odd: Any) -> None:
    body = called("{}", content=None, tool_calls=[odd])
    assert answer(body).status is Status.INVALID_OUTPUT
    assert values(body)["tool_calls"] == []


@pytest.mark.parametrize("arguments", ["", None, {}, "{}"])
def test_a_function_without_parameters_may_be_called_with_none(arguments: Any) -> None:
    body = called(arguments)
    assert answer(body).status is Status.SUCCESS
    assert values(body)["arguments"] == {}


def test_arguments_that_are_an_object_already_are_taken_as_they_are() -> None:
    assert values(called({"city": "Ulm"}))["arguments"] == {"city": "Ulm"}


def test_several_calls_come_in_their_order_and_the_first_one_is_named() -> None:
    body = called('{"city": "Ulm"}')
    second = {"id": "call_2", "function": {"name": "book", "arguments": "{}"}}
    body["choices"][0]["message"]["tool_calls"].append(second)
    assert [call["name"] for call in values(body)["tool_calls"]] == ["forecast", "book"]
    assert values(body)["tool_name"] == "forecast"
    second["function"]["arguments"] = "{"  # type: ignore[index]
    assert answer(body).status is Status.INVALID_OUTPUT


def test_the_old_function_call_counts_as_one() -> None:
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    found = values({"choices": [{"message": message}]})
    assert (found["tool_name"], found["arguments"]) == ("f", {"a": 1})


def test_a_reply_without_calls_has_none() -> None:
    found = values({"choices": [{"message": {"content": "Hello"}}]})
    assert (found["tool_calls"], found["tool_name"], found["arguments"]) == ([], None, None)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_has_one_name_whatever_the_server_calls_it(name: str) -> None:
    assert values({"choices": [{"message": {"content": "Hi", name: "Because."}}]})["reasoning"] == "Because."


def test_all_of_several_choices_are_there_in_the_order_of_their_index() -> None:
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert values({"choices": choices})["contents"] == ["a", "b"]


def test_arguments_become_typed_columns() -> None:
    config = Config(
        url="http://localhost/v1",
        model="m",
        prompt="{{ text }}",
        tools=[TOOL],
        tool_choice="required",
        response_format={"city": "{{ arguments.city }}", "days": "{{ arguments.days }}", "tool": "{{ tool_name }}"},
    )
    plan = Plan(config)
    assert [schema["type"] for schema in plan.columns.values()] == [
        ["null", "string"],
        ["null", "integer"],
        ["null", "string"],
    ]
    outcome = plan.outcomes.of(Record(0, {}), Reply(200, called('{"city": "Ulm", "days": 2}'), {}), b"")
    assert outcome.columns == {"city": "Ulm", "days": 2, "tool": "forecast"}


@pytest.mark.parametrize("is_stream", [False, True])
def test_tools_go_to_the_endpoint_and_calls_come_back(is_stream: bool) -> None:
    def script(call: Call) -> Action:
        reply = good(call)
        reply.body["choices"][0] |= called('{"city": "Ulm", "days": 2}')["choices"][0]
        return Action("called", play(render(reply)))

    with Endpoint(script) as endpoint:
        config = {
            "url": endpoint.url,
            "model": "m",
            "prompt": "{{ text }}",
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "forecast"}},
            "is_stream": is_stream,
            "response_format": {"city": "{{ arguments.city }}", "calls": "{{ tool_calls }}"},
        }
        (row,) = Connector(config).enrich([{"text": "Weather?"}])
    (call,) = endpoint.journal.calls
    assert call.body["tools"] == [TOOL]
    assert call.body["tool_choice"]["function"]["name"] == "forecast"
    assert row["city"] == "Ulm"
    assert row["calls"][0]["arguments"] == {"city": "Ulm", "days": 2}
