"""What a user gives as data, a schema or a column's name, reaches the endpoint and the output as it was given."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Record, Reply
from connector.config.config import Config
from connector.run.plan import Plan
from connector.templates.template import Template
from connector.templates.verbatim import constant, verbatim

NAMES: Final = (
    "{{ 7*7 }}",
    "${{7*7}}",
    "{{ a }}",
    "{% raw %}",
    "{% endraw %}{{ a }}",
    "{# gone #}",
    "{%",
    '{{ "',
    "}}",
    "{city}",
    "😀",
    "é\\\"'\n\r\n",
)
texts: Final = st.lists(st.sampled_from(NAMES) | st.text(st.characters(exclude_categories=["Cs"]))).map("".join)
values: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=6,
)


@given(values)
def test_a_structure_of_data_renders_to_itself(value: Any) -> None:
    assert Template([verbatim(value)], "t").render({"a": "never this"}) == [value]


@given(texts)
def test_an_expression_reads_a_column_of_any_name(name: str) -> None:
    assert Template([f"{{{{ record[{constant(name)}] }}}}"], "t").render({name: 7}) == [7]


def plan(**options: Any) -> Plan:
    return Plan(Config(url="https://llm.example/v1/chat/completions", model="m", **{"prompt": "Hi", **options}), ["a"])


def sent(made: Plan, **row: Any) -> Any:
    return json.loads(made.requests.body({"a": "row", **row}))


def outcome(made: Plan, content: str) -> dict[str, Any]:
    message = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return made.outcomes.of(Record(0, {"a": 1}), Reply(200, {"choices": [message]}, {}), b"k").columns


def test_a_property_of_any_name_is_asked_for_and_becomes_a_column_of_that_name() -> None:
    properties = {name: {"type": "string", "description": f"about {name}"} for name in NAMES}
    schema = {"type": "object", "title": "t", "properties": properties, "required": list(NAMES)}
    made = plan(output_schema=schema)
    assert sent(made)["response_format"]["json_schema"]["schema"] == schema
    assert list(made.columns) == list(NAMES)
    given_back = {name: f"value of {name}" for name in NAMES}
    assert outcome(made, json.dumps(given_back)) == given_back


def test_a_key_of_the_response_format_is_the_name_of_a_column() -> None:
    made = plan(response_format=dict.fromkeys(NAMES, "{{ content }}"))
    assert list(made.columns) == list(NAMES)
    assert outcome(made, "x") == dict.fromkeys(NAMES, "x")


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_functions_are_offered_as_they_are_written(kind: str) -> None:
    arguments = {"type": "object", "properties": {name: {"description": name} for name in NAMES}}
    function = {"name": "f", "description": "fills {{ a }} in", "parameters": arguments}
    made = plan(tools=[{"type": "function", "function": function}], endpoint=kind)
    tool = sent(made)["tools"][0]
    assert {**function, **tool.get("function", tool)} == {**tool.get("function", tool)}
    assert tool.get("function", tool)["parameters"] == arguments


def test_a_picture_may_be_in_a_column_of_any_name() -> None:
    url = "https://pictures.example/a.png"
    for name in ("😀", "{{ a }}", '"'):
        made = Plan(Config(url="https://llm.example/v1", model="m", prompt="Hi", image_columns=name), [name])
        assert url in made.requests.body({name: url}).decode()
