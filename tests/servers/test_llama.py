"""The connector on llama.cpp's own server, which enforces schemas, counts tokens and refuses in its own words.

Its model has random weights: what it writes is noise, and how it ends is up to what a request asks for.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import SecretStr

from connector.base.errors import AuthenticationError, NotFoundError
from tests.servers.conftest import Server

TOKENS: Final = 12
KINDS: Final = ("chat", "completions", "responses")
LABEL: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "rate",
        "description": "Rates a text",
        "parameters": {
            "type": "object",
            "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}},
            "required": ["stars"],
            "additionalProperties": False,
        },
    },
}
CAPS: Final = {"chat": "max_tokens", "completions": "max_tokens", "responses": "max_output_tokens"}
INPUTS: Final[dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "{{ text }}"}]},
    "completions": {"prompt": "{{ text }}{# text #}"},
    "responses": {"input": "{{ text }}{# text #}"},
}

each_kind = pytest.mark.parametrize("kind", KINDS)
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])


def asking(kind: str, tokens: int = TOKENS, **more: Any) -> dict[str, Any]:
    request = {"model": "tiny", **INPUTS[kind], CAPS[kind]: tokens, "temperature": 0, **more}
    return {"endpoint": kind, "request_format": request}


@both_ways
@each_kind
def test_each_row_gets_text_and_usage(llama: Server, kind: str, is_stream: bool) -> None:
    """Whatever ends the noise, its tokens are counted; at the limit it is cut, and no success."""
    rows = llama.enrich("a", "b", "c", "d", "e", is_stream=is_stream, **asking(kind))
    for row in rows:
        known = row["_llm"]
        assert known["status"] in ("truncated", "success", "invalid_output")
        assert (known["status"] == "truncated") >= (known["output_tokens"] == TOKENS and kind != "responses")
        assert known["input_tokens"] > 0
        assert known["model"] == "tiny"


@each_kind
def test_a_stream_says_what_a_whole_reply_says(llama: Server, kind: str) -> None:
    """The bias makes the end of the text so likely that noise comes to it."""
    options = asking(kind, 2000, seed=1, temperature=1, logit_bias={"2": 3}, cache_prompt=False)
    whole, stream = (llama.enrich("same", is_stream=is_stream, **options) for is_stream in (False, True))
    assert whole[0]["_llm"]["status"] == "success"
    assert stream[0]["content"] == whole[0]["content"]
    assert stream[0]["_llm"]["output_tokens"] == whole[0]["_llm"]["output_tokens"]


@both_ways
def test_a_schema_is_enforced_and_its_values_are_columns(llama: Server, is_stream: bool) -> None:
    rows = llama.enrich("a", "b", "c", is_stream=is_stream, output_schema=LABEL, **asking("chat", 200))
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 3
    assert {row["label"] for row in rows} <= {"good", "bad"}
    assert {type(row["sure"]) for row in rows} == {bool}


@both_ways
@pytest.mark.parametrize("kind", ["completions", "responses"])
def test_a_schema_that_is_ignored_without_a_word_makes_no_success(llama: Server, kind: str, is_stream: bool) -> None:
    rows = llama.enrich("a", "b", is_stream=is_stream, output_schema=LABEL, max_repairs=0, **asking(kind, 50))
    assert {row["_llm"]["status"] for row in rows} <= {"truncated", "invalid_output"}
    assert [row["label"] for row in rows] == [None, None]


@both_ways
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_tools_are_taken(llama: Server, kind: str, is_stream: bool) -> None:
    """The server lets a model write something before a call, so noise never comes to one."""
    tool = TOOL if kind == "chat" else {"type": "function", **TOOL["function"]}
    options = asking(kind, tools=[tool], tool_choice="required") | {"response_format": {"tool": "{{ tool_name }}"}}
    (row,) = llama.enrich("a", is_stream=is_stream, **options)
    assert row["tool"] is None
    assert row["_llm"]["status"] in ("truncated", "success", "invalid_output")
    assert row["_llm"]["input_tokens"] > 100


@pytest.mark.parametrize("size", [None, 1, 2])
def test_texts_are_embedded_each_on_its_own(embedder: Server, size: int | None) -> None:
    options = {"endpoint": "embeddings", "model": "tiny", "prompt": "{{ text }}", "batch_size": size}
    rows = embedder.enrich("one", "two", "three", "two", **options)
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 4
    assert {len(row["embedding"]) for row in rows} == {64}
    assert rows[1]["embedding"] == rows[3]["embedding"]
    assert sum(x * x for x in rows[0]["embedding"]) == pytest.approx(1, abs=1e-3)
    alone = embedder.enrich("two", **{**options, "batch_size": 1})
    assert alone[0]["embedding"] == pytest.approx(rows[1]["embedding"], abs=1e-4)


@both_ways
@each_kind
def test_a_prompt_that_is_too_long_fails_alone(llama: Server, kind: str, is_stream: bool) -> None:
    rows = llama.enrich("a", "x" * 5000, "b", is_stream=is_stream, **asking(kind))
    assert [row["_llm"]["status"] == "error" for row in rows] == [False, True, False]
    assert rows[1]["_llm"]["error"]["class"] == "BadRequestError"
    assert "context" in rows[1]["_llm"]["error"]["message"]


@pytest.mark.parametrize("wrong", ["key", "path"])
def test_what_no_row_survives_stops_the_run(llama: Server, wrong: str) -> None:
    options = {"api_key": SecretStr("sk-another")} if wrong == "key" else {"url": f"{llama.url}/v1"}
    with pytest.raises(AuthenticationError if wrong == "key" else NotFoundError):
        llama.enrich("a", **asking("chat"), **options)


@each_kind
def test_check_finds_it_well(llama: Server, kind: str) -> None:
    diagnosis = llama.check(**asking(kind))
    assert diagnosis.ok, diagnosis.message
    assert f"{llama.url} answers and lists 1 model" in str(diagnosis)


def test_check_embeds(embedder: Server) -> None:
    diagnosis = embedder.check(endpoint="embeddings", model="tiny", prompt="{{ text }}")
    assert diagnosis.ok, diagnosis.message


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"api_key": SecretStr("sk-another")}, "key"),
        ({"url": "{url}/v1"}, "url"),
        ({"endpoint": "embeddings", "request_format": {"model": "tiny", "input": "a"}}, "endpoint"),
    ],
    ids=["another key", "v1 twice", "no embeddings"],
)
def test_check_names_what_is_wrong(llama: Server, options: dict[str, Any], step: str) -> None:
    given = {name: value.format(url=llama.url) if name == "url" else value for name, value in options.items()}
    diagnosis = llama.check(**{**asking("chat"), **given})
    assert (diagnosis.ok, diagnosis.steps[-1].name) == (False, step), diagnosis.message
