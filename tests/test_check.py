"""A check names the cause and the change, and pays as little as possible."""

from __future__ import annotations

from typing import Any

import pytest

from connector import Connector, Diagnosis
from tests.endpoint import Action, Call, Endpoint, act


def check(endpoint: Endpoint, **options: Any) -> Diagnosis:
    base = {"url": endpoint.base_url, "api_key": "sk-test", "model": "m", "prompt": "{{ text }}"}
    return Connector({**base, **options}).check()


def test_a_working_endpoint_costs_one_small_request(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint)
    assert [step.name for step in diagnosis.steps] == ["url", "reachability", "key", "endpoint", "model", "request"]
    assert "asking it used" in diagnosis.message
    (paid,) = [call for call in endpoint.journal.calls if call.method == "POST"]
    assert isinstance(paid.body, dict)
    assert paid.body["max_tokens"] == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("401", "set api_key, or OPENAI_API_KEY"),
        ("403", "use another key, or another model than"),
        ("402", "add credit"),
        ("404-model", "set model to one that the endpoint has"),
        ("503", "the endpoint failed"),
        ("200-html", "does url point to an API?"),
    ],
)
def test_the_cause_and_the_change_are_named(fault: str, told: str) -> None:
    def script(call: Call) -> Any:
        return act(call, fault) if call.method == "POST" else None

    with Endpoint(script) as endpoint:
        diagnosis = check(endpoint)
    assert not diagnosis.ok
    assert told in diagnosis.message


def test_a_missing_v1_is_found_for_free_and_named(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint, url=endpoint.origin)
    assert not diagnosis.ok
    assert f"{endpoint.base_url}/chat/completions answers: set url to that" in diagnosis.message


def test_a_doubled_v1_is_found_for_free_and_named(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint, url=f"{endpoint.base_url}/v1")
    assert not diagnosis.ok
    assert f"{endpoint.base_url}/chat/completions answers: set url to that" in diagnosis.message


def test_a_server_without_a_list_of_models_may_work_all_the_same() -> None:
    nothing = Action("404", [b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"])
    with Endpoint(lambda call: nothing if call.method == "GET" else None) as endpoint:
        assert check(endpoint).ok


def test_a_dead_host_is_reported_at_once() -> None:
    diagnosis = Connector({"url": "http://127.0.0.1:9/v1", "model": "m", "prompt": "a"}).check()
    assert "refuses connections" in diagnosis.message
