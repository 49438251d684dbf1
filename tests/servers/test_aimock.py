"""The connector on aimock, a server of other people's that answers in the forms of OpenAI's API, kind by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import SecretStr

from connector.base.errors import AuthenticationError, ConnectorError, NotFoundError, QuotaError
from tests.servers.conftest import Server

HELLO: Final = "Hello! 👋 How can I help you?"
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
LABEL: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}
ASKING: Final[dict[str, Any]] = {"model": "gpt-4o-mini", "prompt": "{{ text }}", "system_prompt": "Be brief."}

each_text = pytest.mark.parametrize("kind", ["chat", "responses", "realtime"])
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])


def told(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row["_llm"][name] for row in rows]


@both_ways
@each_text
def test_texts_are_answered(aimock: Server, kind: str, is_stream: bool) -> None:
    rows = aimock.enrich("hello", "hello again", "ping", endpoint=kind, is_stream=is_stream, **ASKING)
    assert [row["content"] for row in rows] == [HELLO, HELLO, "pong"]
    assert told(rows, "status") == ["success"] * 3
    assert told(rows, "model") == ["gpt-4o-mini"] * 3


@both_ways
@each_text
def test_tool_calls_become_columns(aimock: Server, kind: str, is_stream: bool) -> None:
    wanted = {"tool": "{{ tool_name }}", "city": "{{ arguments.city }}"}
    (row,) = aimock.enrich(
        "weather?", endpoint=kind, is_stream=is_stream, tools=[TOOL], response_format=wanted, **ASKING
    )
    assert (row["tool"], row["city"], row["_llm"]["status"]) == ("get_weather", "Oslo", "success")


@both_ways
@each_text
def test_structured_replies_become_columns(aimock: Server, kind: str, is_stream: bool) -> None:
    rows = aimock.enrich(
        "classify me", "hello", endpoint=kind, is_stream=is_stream, output_schema=LABEL, max_repairs=0, **ASKING
    )
    assert [row["label"] for row in rows] == ["praise", None]
    assert told(rows, "status") == ["success", "invalid_output"]


@both_ways
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_reasoning_is_a_column(aimock: Server, kind: str, is_stream: bool) -> None:
    wanted = {"content": "{{ content }}", "reasoning": "{{ reasoning }}"}
    asking = {**ASKING, "model": "o3"}
    (row,) = aimock.enrich("think", endpoint=kind, is_stream=is_stream, response_format=wanted, **asking)
    assert (row["content"], row["reasoning"]) == ("42", "Six times seven.")


@both_ways
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_cut_reply_is_not_a_success(aimock: Server, kind: str, is_stream: bool) -> None:
    (row,) = aimock.enrich("cut short", endpoint=kind, is_stream=is_stream, **ASKING)
    assert (row["content"], row["_llm"]["status"]) == (None, "truncated")


@both_ways
@each_text
def test_a_busy_server_is_asked_again(aimock: Server, kind: str, is_stream: bool) -> None:
    headers = {"X-Test-Id": f"{kind} {is_stream}"}  # by which aimock counts
    (row,) = aimock.enrich(
        "busy once", endpoint=kind, is_stream=is_stream, headers=headers, max_retry_wait=60, max_retries=2, **ASKING
    )
    assert (row["content"], row["_llm"]["attempts"]) == ("Here I am.", 2)


@each_text
def test_a_refused_row_fails_alone(aimock: Server, kind: str) -> None:
    rows = aimock.enrich("hello", "forbidden words", "broken", endpoint=kind, max_retries=0, **ASKING)
    assert told(rows, "status") == ["success", "error", "error"]
    assert [row["_llm"]["error"]["class"] for row in rows[1:]] == ["BadRequestError", "ServerError"]
    assert "Not these" in rows[1]["_llm"]["error"]["message"]
    assert "It broke" in rows[2]["_llm"]["error"]["message"]


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_torn_stream_is_not_a_success(aimock: Server, kind: str) -> None:
    (row,) = aimock.enrich("torn", endpoint=kind, is_stream=True, max_retries=0, **ASKING)
    assert (row["content"], row["_llm"]["error"]["class"]) == (None, "CutError")


def test_so_is_a_torn_session(aimock: Server) -> None:
    rows = aimock.enrich("torn", "hello", endpoint="realtime", max_retries=0, concurrency=1, **ASKING)
    assert [row["content"] for row in rows] == [None, HELLO]
    assert rows[0]["_llm"]["error"]["class"] == "CutError"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"api_key": SecretStr("sk-another-key")}, AuthenticationError),
        ({"prompt": "bankrupt"}, QuotaError),
    ],
)
@each_text
def test_what_no_row_survives_stops_the_run(
    aimock: Server, kind: str, options: dict[str, Any], expected: type[ConnectorError]
) -> None:
    with pytest.raises(expected):
        aimock.enrich("hello", endpoint=kind, **{**ASKING, **options})


@pytest.mark.parametrize("kind", ["completions", "realtime"])
def test_an_endpoint_that_is_not_there_is_named(aimock: Server, kind: str) -> None:
    """The server has no legacy completions; and nothing at all behind another path."""
    url = aimock.url if kind == "completions" else aimock.url.replace("/v1", "/other")
    with pytest.raises(NotFoundError, match="check url"):
        aimock.enrich("hello", url=url, endpoint=kind, **ASKING)


def test_texts_are_embedded(aimock: Server) -> None:
    asking = {"endpoint": "embeddings", "model": "text-embedding-3-small", "prompt": "{{ text }}"}
    rows = aimock.enrich("known text", "another", batch_size=1, **asking)
    assert told(rows, "status") == ["success"] * 2
    assert rows[0]["embedding"] == [0.25, -0.5, 1.0]
    rows = aimock.enrich("another", "a third", "another", **asking)
    assert told(rows, "status") == ["success"] * 3
    assert rows[0]["embedding"] == rows[2]["embedding"] != rows[1]["embedding"]


def test_images_are_files_or_links(aimock: Server, tmp_path: Path) -> None:
    asking: dict[str, Any] = {"endpoint": "images", "model": "gpt-image-1", "prompt": "{{ text }}"}
    (row,) = aimock.enrich("a link", **asking)
    assert row["image"] == "https://pictures.example/1.png"
    (row,) = aimock.enrich("a picture", image_dir=str(tmp_path / "images"), **asking)
    (file,) = (tmp_path / "images").iterdir()
    assert Path(row["image"]) == file
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["chat", "responses", "realtime", "embeddings"])
def test_check_finds_it_well(aimock: Server, kind: str) -> None:
    model = "text-embedding-3-small" if kind == "embeddings" else "gpt-4o-mini"
    asking = {"model": model, "prompt": "hello {{ text }}"}
    diagnosis = aimock.check(endpoint=kind, **asking)
    assert diagnosis.ok, diagnosis.message


@pytest.mark.parametrize("kind", ["chat", "realtime"])
def test_check_names_the_key(aimock: Server, kind: str) -> None:
    diagnosis = aimock.check(endpoint=kind, api_key=SecretStr("sk-another-key"), **ASKING)
    assert not diagnosis.ok
    assert diagnosis.steps[-1].name == "key"
