"""Moderations: the verdict on each row is its own, however many share a call, and whatever the server leaves out."""

from __future__ import annotations

import base64
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator

from connector import Connector, sandbox
from connector.base.errors import ConfigError
from connector.base.records import Status
from connector.endpoints import Shorthand, moderations
from tests.endpoint import Action, Call, Endpoint, good, refused
from tests.faults import play, render
from tests.images import png

CONFIG: Final = {"endpoint": "moderations", "model": "m", "prompt": "{{ text }}", "cache": "none"}
TEXTS: Final = ["kind", "violent", "also kind", "violent and loud", "mild"]


def judged(endpoint: Endpoint, **options: Any) -> list[dict[str, Any]]:
    connector = Connector({"url": endpoint.base_url, "api_key": "sk-test", **CONFIG, **options})
    return list(connector.enrich([{"text": text} for text in TEXTS]))


def test_rows_share_a_call_and_each_gets_its_own_verdict(endpoint: Endpoint) -> None:
    rows = judged(endpoint)
    assert [row["flagged"] for row in rows] == ["violent" in text for text in TEXTS]
    assert [row["categories"] for row in rows] == [["violence"] if row["flagged"] else [] for row in rows]
    assert rows[1]["category_scores"] == {"violence": 0.9, "sexual/minors": 0.0}
    assert [call.body["input"] for call in endpoint.journal.calls] == [TEXTS]
    assert len(judged(endpoint, batch_size=1)) == len(endpoint.journal.calls) - 1


@pytest.mark.parametrize("change", [lambda results: results[1:], lambda results: [*results, results[0]]])
def test_a_wrong_number_of_results_is_trusted_for_no_row(change: Any) -> None:
    def script(call: Call) -> Action | None:
        if isinstance(call.body["input"], str):
            return None
        reply = good(call)
        return Action(
            "wrong", play(render(reply._replace(body={**reply.body, "results": change(reply.body["results"])})))
        )

    with Endpoint(script) as endpoint:
        rows = judged(endpoint)
    assert [row["flagged"] for row in rows] == ["violent" in text for text in TEXTS]


def test_a_row_that_the_endpoint_refuses_fails_alone() -> None:
    def script(call: Call) -> Action | None:
        return refused(422, "too long", {}) if "loud" in call.prompt else None

    with Endpoint(script) as endpoint:
        rows = judged(endpoint)
    assert [row["_llm"]["status"] for row in rows] == ["success", "success", "success", "error", "success"]


def test_text_and_image_of_a_row_are_judged_together_in_a_call_of_their_own(endpoint: Endpoint) -> None:
    picture = "data:image/png;base64," + base64.b64encode(png()).decode()
    connector = Connector({"url": endpoint.base_url, "api_key": "k", **CONFIG, "image_columns": "photo"})
    rows = list(connector.enrich([{"text": text, "photo": picture} for text in TEXTS[:2]]))
    parts = [{"type": "text", "text": TEXTS[0]}, {"type": "image_url", "image_url": {"url": picture}}]
    assert parts in [call.body["input"] for call in endpoint.journal.calls]
    assert [len(endpoint.journal.calls), len(rows)] == [2, 2]


@pytest.mark.parametrize(
    ("result", "flagged", "names"),
    [
        ({"flagged": True, "categories": {"hate": True, "sexual": False, "illicit": None}}, True, ["hate"]),
        ({"categories": {"pii": True, "health": False}, "category_scores": {"pii": 0.9}}, True, ["pii"]),
        ({"categories": {"pii": False}}, False, []),
        ({"flagged": False}, False, []),
    ],
)
def test_a_verdict_is_derived_from_the_fields_present(result: dict[str, Any], flagged: bool, names: list[str]) -> None:
    body = {"id": "modr-1", "model": "m", "results": [result]}
    assert moderations.answer(body).status is Status.SUCCESS
    assert moderations.values(body)["flagged"] is flagged
    assert moderations.values(body)["flagged_categories"] == names


@pytest.mark.parametrize("results", [None, [], [{}], ["no"], [{"flagged": "yes"}], [{"categories": {}}]])
def test_a_reply_without_a_verdict_is_not_a_success(results: Any) -> None:
    answer = moderations.answer({"results": results})
    assert (answer.status, "no verdict" in (answer.problem or "")) == (Status.INVALID_OUTPUT, True)


def test_tools_are_refused_before_a_call() -> None:
    with pytest.raises(ConfigError, match="use a chat endpoint"):
        moderations.request_format(Shorthand("m", None, "x", tools=[{"type": "function"}]))


def test_the_sandbox_judges_in_the_shape_of_the_api() -> None:
    texts = ["Lovely colours!", "Go away or I will find you.", "I hate stupid vermin", ""]
    with sandbox.running() as url:
        connector = Connector({"url": url, "api_key": sandbox.KEY, **CONFIG, "model": sandbox.MODEL})
        rows = list(connector.enrich([{"text": text} for text in texts]))
        one = connector.call(
            {**CONFIG, "url": f"{url}/moderations", "api_key": sandbox.KEY},
            {"input": [{"type": "text", "text": texts[1]}]},
        )
    assert [row["flagged"] for row in rows] == [False, True, True, False]
    assert rows[2]["categories"] == ["harassment", "hate"]
    assert one["results"][0]["category_applied_input_types"]["hate"] == ["text"]
    Draft7Validator(moderations.REPLY).validate(one)
