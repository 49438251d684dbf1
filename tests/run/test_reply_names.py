"""A name in the response format that no reply has is found before a table is paid for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from connector import Config, ConfigError, Connector
from connector.run.first_rows import ENOUGH
from connector.run.plan import Plan
from tests.check.helpers import answer
from tests.endpoint import Endpoint

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "additionalProperties": False}


def problem(expression: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Plan(Config.load({"model": "m", "prompt": "x", "response_format": {"a": expression}, **options}))
    (found,) = caught.value.problems
    assert found.path == "response_format.a"
    assert found.message.endswith("| default(none) }}")
    return found.message


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("{{ contnt }}", 'a reply has no "contnt": change it to "content"'),
        ("Answer: {{ contnt | upper }}", 'a reply has no "contnt": change it to "content"'),
        ('{{ record["contnt"] }}', 'a reply has no "contnt": change it to "content"'),
        (
            "{{ choices[0].message.contnt }}",
            'has no "contnt": change it to "choices[0].message.content"',
        ),
        ('{{ choices[0]["mesage"].content }}', 'no "mesage": change it to "choices[0].message"'),
        ("{{ choice[0].message.content }}", 'a reply has no "choice": change it to "choices"'),
        (
            "{{ choices.message.content }}",
            'is a list and has no "message": change it to "choices[0].message"',
        ),
        ("{{ usage.totl_tokens }}", 'usage of a reply has no "totl_tokens": change it to "usage.total_tokens"'),
        ("{{ usage.prompt_tokens_details.cached_token }}", 'change it to "usage.prompt_tokens_details.cached_tokens"'),
        ("{{ content.label }}", '"content" is a text and has no "label": change it to "parsed.label"'),
        ("{{ tool_nam }}", 'change it to "tool_name"'),
    ],
)
def test_a_misspelt_name_is_refused_before_any_call(expression: str, told: str) -> None:
    assert told in problem(expression)


@pytest.mark.parametrize(
    ("expression", "told"),
    [("{{ parsed.lable }}", "parsed.label"), ("{{ parsed.x }}", "label"), ("{{ label }}", "parsed.label")],
)
def test_the_parts_of_a_structured_reply_are_known_by_its_schema(expression: str, told: str) -> None:
    assert told in problem(expression, output_schema=SCHEMA)


@pytest.mark.parametrize(
    "expression",
    [
        "{{ content }}",
        "{{ content.upper() }}",
        "{{ contnt | default(none) }}",
        "{{ contnt if contnt is defined else 1 }}",
        "{{ usage.cost }}",
        "{{ usage.cost_details.upstream_inference_cost }}",
        "{{ choices[0].native_finish_reason }}",
        "{{ choices[0].message.reasoning_details }}",
        "{{ timings.predicted_ms }}",
        "{% for choice in choices %}{{ choice.mesage }}{% endfor %}",
        "{{ (choices | first).mesage }}",
        "{{ parsed.anything }}",
        "{{ choices[0].logprobs.content[0].logprob }}",
    ],
)
def test_a_name_that_a_server_may_have_is_left_alone(expression: str) -> None:
    Plan(Config(model="m", prompt="x", response_format={"a": expression}))


def rows(count: int) -> Iterable[dict[str, str]]:
    return ({"text": f"row {number}"} for number in range(count))


def connector(endpoint: Endpoint, expression: str, **options: Any) -> Connector:
    given = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "concurrency": 1, "cache": "none"}
    return Connector({**given, "response_format": {"answer": "{{ content }}", "a": expression}, **options})


def test_a_column_that_no_reply_can_fill_stops_the_run_early(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError) as caught:
        list(connector(endpoint, "{{ usage.energy_used }}").enrich(rows(500)))
    (found,) = caught.value.problems
    assert found.path == "response_format.a"
    assert 'usage of a reply has no "energy_used": change it to one of ' in found.message
    assert "total_tokens" in found.message
    assert f"the first {ENOUGH} replies" in found.message
    assert ENOUGH <= len(endpoint.journal.calls) < 500


@pytest.mark.parametrize("expression", ["{{ usage.energy | default(none) }}", "{{ system_fingerprint }}", "{{ mood }}"])
def test_a_column_that_may_be_null_goes_on(expression: str) -> None:
    body = {"object": "x", "mood": None, "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    with Endpoint(lambda _: answer(200, body)) as endpoint:
        assert len(list(connector(endpoint, expression).enrich(rows(60)))) == 60


def test_a_few_rows_end_with_a_warning(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        list(connector(endpoint, "{{ usage.energy_used }}").enrich(rows(3)))
    (told,) = caplog.messages
    assert told.startswith("response_format.a: usage of a reply has no")
    assert told.endswith("(no reply of this run has it)")


def test_replies_of_an_earlier_run_count_as_proof_too(endpoint: Endpoint, tmp_path: Any) -> None:
    ledger = str(tmp_path / "l")
    assert len(list(connector(endpoint, "{{ content }}", cache=ledger).enrich(rows(60)))) == 60
    calls = len(endpoint.journal.calls)
    with pytest.raises(ConfigError, match="energy_used"):
        list(connector(endpoint, "{{ usage.energy_used }}", cache=ledger).enrich(rows(60)))
    assert len(endpoint.journal.calls) == calls


def test_check_names_what_its_reply_lacks(endpoint: Endpoint) -> None:
    diagnosis = connector(endpoint, "{{ choices[0].message.mood }}").check()
    assert diagnosis.steps[-1].name == "response_format"
    assert 'choices[0].message of a reply has no "mood"' in diagnosis.message
    assert connector(endpoint, "{{ choices[0].message.contnt }}").check().steps[-1].name == "config"
