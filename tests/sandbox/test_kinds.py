"""The sandbox's other kinds than chat: they say what chat says, in their own shapes, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests

from connector import Connector, endpoints, sandbox
from tests.endpoints.streams import assembled
from tests.patience import PATIENCE

SCHEMA: Final = {"type": "object", "properties": {"label": {"enum": ["good", "bad"]}}, "required": ["label"]}
TOOL: Final = {"type": "function", "name": "route", "parameters": {"type": "object", "properties": {"to": SCHEMA}}}
REPLY: Final = "Sandbox reply to: Hello there"
PATHS: Final = {"completions": "/completions", "responses": "/responses"}

each_kind = pytest.mark.parametrize("kind", PATHS)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with sandbox.running() as url:
        yield url


def post(url: str, kind: str, body: dict[str, Any]) -> requests.Response:
    headers = {"Authorization": f"Bearer {sandbox.KEY}"}
    return requests.post(url + PATHS[kind], json={"model": sandbox.MODEL, **body}, headers=headers, timeout=PATIENCE)


def whole(url: str, kind: str, **body: Any) -> dict[str, Any]:
    reply = post(url, kind, body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def stream(url: str, kind: str, **body: Any) -> list[dict[str, Any]]:
    reply = post(url, kind, {"stream": True, **body})
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


ASKED: Final[list[tuple[str, dict[str, Any]]]] = [
    ("completions", {"prompt": "Hello there"}),
    ("completions", {"prompt": ["Hello there", "Hi"], "n": 2, "max_tokens": 3}),
    ("responses", {"input": "Hello there", "instructions": "Be brief."}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello there"}]}]}),
    ("responses", {"input": "Hello there " * 30, "max_output_tokens": 16}),
    ("responses", {"input": "Hello there", "tools": [TOOL], "tool_choice": {"type": "function", "name": "route"}}),
]


@pytest.mark.parametrize(("kind", "asked"), ASKED)
def test_a_stream_folds_into_the_whole_reply(url: str, kind: str, asked: dict[str, Any]) -> None:
    options = {"stream_options": {"include_usage": True}} if kind == "completions" else {}
    expected = whole(url, kind, **asked)
    folded, complete = assembled(endpoints.load(kind), stream(url, kind, **asked, **options))
    changing = {"id", "created", "created_at"}
    assert complete
    assert folded.keys() == expected.keys()
    assert endpoints.load(kind).answer(folded) == endpoints.load(kind).answer(expected)
    if kind == "completions":
        assert [{"logprobs": None, **choice} for choice in folded["choices"]] == expected["choices"]
    else:
        assert [list(item) for item in folded["output"]] == [list(item) for item in expected["output"]]
    assert all(folded[name] == expected[name] for name in expected.keys() - changing - {"choices", "output"})


@pytest.mark.parametrize(("kind", "asked"), [ASKED[0], ASKED[2], ASKED[3]])
def test_the_text_is_that_of_chat(url: str, kind: str, asked: dict[str, Any]) -> None:
    assert endpoints.load(kind).answer(whole(url, kind, **asked)).content == REPLY


def test_each_prompt_has_its_choices_one_after_another(url: str) -> None:
    choices = whole(url, "completions", prompt=["Hello there", "Hi"], n=2)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"] for choice in choices][::2] == [REPLY, "Sandbox reply to: Hi"]


@pytest.mark.parametrize(
    ("kind", "asked", "param", "status"),
    [
        ("completions", {}, "prompt", 400),
        ("completions", {"prompt": []}, "prompt", 400),
        ("completions", {"prompt": [1, 2]}, "prompt[0]", 400),
        ("responses", {}, "input", 400),
        ("responses", {"input": "x", "max_output_tokens": 5}, "max_output_tokens", 400),
        ("responses", {"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.name", 400),
        ("responses", {"input": "x", "tools": [{"type": "function", "function": {}}]}, "tools[0].name", 400),
        ("responses", {"input": "x", "model": "other"}, None, 404),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    url: str, kind: str, asked: dict[str, Any], param: str | None, status: int
) -> None:
    reply = post(url, kind, asked)
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


@each_kind
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_table_is_enriched_with_a_schema(url: str, kind: str, is_stream: bool) -> None:
    connector = Connector(
        {
            "url": url + PATHS[kind],
            "api_key": sandbox.KEY,
            "model": sandbox.MODEL,
            "prompt": "Review: {{ text }}",
            "output_schema": SCHEMA,
            "is_stream": is_stream,
            "batch_size": 2 if kind == "completions" else None,
            "cache": "none",
        }
    )
    rows = list(connector.enrich([{"text": "This is good."}, {"text": "Bad, so bad."}]))
    assert sorted(row["label"] for row in rows) == ["bad", "good"]
    assert all(row["_llm"]["input_tokens"] > 0 for row in rows)
