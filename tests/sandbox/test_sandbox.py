"""The sandbox, over real sockets: OpenAI's shapes, made-up text that is always the same, and a clean end."""

from __future__ import annotations

import base64
import csv
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from connector import sandbox
from connector.base.errors import ConfigError
from connector.sandbox import server
from tests.patience import PATIENCE

SAMPLES = Path(__file__).parents[2] / "sample_configs"
LABELS = ["positive", "negative", "neutral", "mixed"]
REVIEW = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": LABELS}, "summary": {"type": "string"}},
    "required": ["sentiment", "summary"],
    "additionalProperties": False,
}


class Client:
    """One keep-alive session with the right key."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {sandbox.KEY}"

    def post(self, body: Any, path: str = "/chat/completions", **options: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=PATIENCE, **options)

    def chat(self, content: Any = "Hello there", **body: Any) -> dict[str, Any]:
        reply = self.post(request(content, **body))
        assert reply.status_code == 200, reply.text
        whole: dict[str, Any] = reply.json()
        return whole

    def fill(self, schema: Any, content: str = "Review: Arrived late. The box was damaged.", **body: Any) -> Any:
        """What a request for this schema is answered with, parsed."""
        shape = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
        return json.loads(said(self.chat(content, response_format=shape, **body)))

    def stream(self, content: Any = "Hello there", **body: Any) -> list[dict[str, Any]]:
        reply = self.post(request(content, stream=True, **body))
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        *events, done, end = reply.content.decode().split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]


def request(content: Any, **body: Any) -> dict[str, Any]:
    return {"model": sandbox.MODEL, "messages": [{"role": "user", "content": content}], **body}


def said(whole: dict[str, Any], index: int = 0) -> str:
    text: str = whole["choices"][index]["message"]["content"]
    return text


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with sandbox.running() as url:
        client = Client(url)
        with client.session:
            yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST.", 200),
        ("[::1]:8000", 200),
        ("sandbox:8000", 200),
        ("host.docker.internal:8000", 200),
        ("", 200),
        ("evil.example:8000", 403),
        ("evil.example.", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("evil.example?.local", 403),
        ("[::1", 403),
    ],
)
def test_no_page_of_a_foreign_name_that_leads_to_this_machine_reads_its_replies(
    client: Client, host: str, status: int
) -> None:
    answer = client.session.get(f"{client.url}/files", headers={"Host": host}, timeout=PATIENCE)
    assert answer.status_code == status


# --- Models, keys, paths ---


def test_models_are_listed_and_shown_as_openai_does(client: Client) -> None:
    card = {"id": "sandbox-1", "object": "model", "created": 1767225600, "owned_by": "sandbox"}
    assert client.session.get(f"{client.url}/models").json() == {"object": "list", "data": [card]}
    assert client.session.get(f"{client.url}/models/sandbox-1").json() == card


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-wrong", "sk-wrong"),
        ("twelve-chars", "twelve-chars"),
        ("sk-proj-0123456789abcdef", "sk-proj-************cdef"),
    ],
)
def test_a_wrong_key_is_refused_and_echoed_with_its_middle_masked(client: Client, key: str, shown: str) -> None:
    reply = requests.get(f"{client.url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE)
    error = reply.json()["error"]
    assert reply.status_code == 401
    assert error.pop("message").startswith(f"Incorrect API key provided: {shown}. ")
    assert error == {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic c2VjcmV0"])
def test_a_missing_key_is_refused(client: Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = requests.post(f"{client.url}/chat/completions", headers=headers, json=request("Hi"), timeout=PATIENCE)
    assert reply.status_code == 401
    assert "You didn't provide an API key" in reply.json()["error"]["message"]


def test_another_key_can_be_chosen() -> None:
    with sandbox.running(api_key="sk-mine") as url:
        statuses = [
            requests.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE).status_code
            for key in ("sk-mine", sandbox.KEY)
        ]
    assert statuses == [200, 401]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/chat/completion", 404, None),
        ("POST", "/v1/chat/completions/", 404, None),
        ("POST", "/v1/v1/chat/completions", 404, None),
        ("POST", "/chat/completions", 404, None),
        ("GET", "/v1/modelsx", 404, None),
        ("GET", "/v1/models/gpt-4o", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/models/sandbox-1", 405, "method_not_supported"),
        ("POST", "/v1/models", 405, "method_not_supported"),
        ("BREW", "/v1/models", 501, None),
    ],
)
def test_what_does_not_exist_is_refused(client: Client, method: str, path: str, status: int, code: str | None) -> None:
    reply = client.session.request(method, client.url.removesuffix("/v1") + path, timeout=PATIENCE)
    assert reply.status_code == status
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == code


def test_a_query_string_changes_nothing(client: Client) -> None:
    assert client.post(request("Hi"), "/chat/completions?api-version=1").status_code == 200


def test_a_head_request_is_answered_without_a_body(client: Client) -> None:
    reply = client.session.head(f"{client.url}/models", timeout=PATIENCE)
    assert (reply.status_code, reply.content) == (405, b"")
    assert client.session.get(f"{client.url}/models", timeout=PATIENCE).status_code == 200


# --- Requests that are wrong ---


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["Hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": {"text": "Hi"}}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]", "invalid_type"),
        ({"model": 1}, "model", "invalid_type"),
        ({"stream": "true"}, "stream", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ],
)
def test_a_wrong_parameter_is_named(client: Client, change: dict[str, Any], param: str, code: str | None) -> None:
    reply = client.post(request("Hi") | change)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert param in error["message"]


@pytest.mark.parametrize("name", ["messages", "model"])
def test_a_missing_parameter_is_named(client: Client, name: str) -> None:
    body = request("Hi")
    del body[name]
    reply = client.post(body)
    assert reply.status_code == 400
    assert reply.json()["error"] == {
        "message": f"Missing required parameter: '{name}'.",
        "type": "invalid_request_error",
        "param": name,
        "code": "missing_required_parameter",
    }


def test_an_unknown_model_is_not_found(client: Client) -> None:
    reply = client.post(request("Hi", model="gpt-4o"))
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "The model `gpt-4o` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }


@pytest.mark.parametrize("raw", [b"", b"{", b"{'model': 1}", b"\xff", b'{"model": "\\ud800"}', b"[]", b"null", b"NaN"])
def test_a_body_that_is_not_a_json_object_is_refused(client: Client, raw: bytes) -> None:
    reply = client.session.post(f"{client.url}/chat/completions", data=raw, timeout=PATIENCE)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n",
        f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n",
        f"POST /v1/files HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n",
    ],
)
def test_a_body_of_unknown_length_is_refused_and_the_connection_closed(client: Client, head: str) -> None:
    raw = exchange(client, head.encode())
    assert raw.startswith(b"HTTP/1.1 411 ")
    assert b"\r\nConnection: close\r\n" in raw


def test_an_old_client_gets_a_stream_that_ends_with_the_connection(client: Client) -> None:
    body = json.dumps(request("Hi", stream=True))
    head = f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {sandbox.KEY}\r\n"
    raw = exchange(client, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b"Transfer-Encoding" not in raw
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")


def exchange(client: Client, raw: bytes) -> bytes:
    """What comes back until the server closes."""
    parts = urlsplit(client.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
        connection.sendall(raw)
        with connection.makefile("rb") as stream:
            return stream.read()


# --- The shapes ---


def test_a_whole_reply_has_the_official_shape(client: Client) -> None:
    began = int(time.time())
    whole = client.chat()
    assert whole.keys() == {
        *("id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"),
    }
    assert (whole["object"], whole["model"], whole["system_fingerprint"]) == ("chat.completion", "sandbox-1", "sandbox")
    assert whole["id"].startswith("chatcmpl-")
    assert began <= whole["created"] <= time.time()
    (choice,) = whole["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Sandbox reply to: Hello there", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert whole["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 9,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


@pytest.mark.parametrize("change", [{}, {"stream": True}, {"model": "gpt-4o"}, {"messages": 1}])
def test_every_reply_carries_the_official_headers(client: Client, change: dict[str, Any]) -> None:
    replies = [client.post(request("Hi") | change) for _ in range(2)]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert all(name.startswith("req_") for name in ids)
    assert int(replies[0].headers["openai-processing-ms"]) >= 0
    for part in ("limit", "remaining", "reset"):
        assert replies[0].headers.keys() >= {f"x-ratelimit-{part}-requests", f"x-ratelimit-{part}-tokens"}


def test_a_stream_says_the_role_then_the_text_then_why_it_ends(client: Client) -> None:
    first, *middle, last = client.stream()
    assert first.keys() == {
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint"),
    }
    assert {chunk["object"] for chunk in (first, *middle, last)} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in (first, *middle, last)}) == 1
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert len(middle) > 3
    assert all(chunk["choices"][0]["delta"].keys() == {"content"} for chunk in middle)
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]


def test_the_usage_of_a_stream_comes_last_and_only_where_asked_for(client: Client) -> None:
    *chunks, last = client.stream(stream_options={"include_usage": True})
    assert (last["choices"], last["usage"]) == ([], client.chat()["usage"])
    assert all(chunk["usage"] is None for chunk in chunks)
    assert all("usage" not in chunk for chunk in client.stream())


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ("Tell me about kettles, please", {}),
        ("Naïve  spacing\n\nand 日本語 🎧 too ", {"n": 3}),
        ("One two three four five six", {"max_tokens": 6}),
        ("", {}),
        (
            "Review: Great, but late.",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": REVIEW}}},
        ),
    ],
)
def test_the_streamed_deltas_are_the_whole_reply(client: Client, content: str, body: dict[str, Any]) -> None:
    whole = client.chat(content, **body)
    streamed = [choice for chunk in client.stream(content, **body) for choice in chunk["choices"]]
    for choice in whole["choices"]:
        own = [part for part in streamed if part["index"] == choice["index"]]
        assert "".join(part["delta"].get("content", "") for part in own) == choice["message"]["content"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]


# --- What is said ---


def test_equal_requests_get_equal_replies(client: Client) -> None:
    with sandbox.running() as other:
        fresh = Client(other)
        with fresh.session:
            replies = [one.chat("Review: Love it", n=2) | {"created": 0} for one in (client, client, fresh)]
    assert replies[0] == replies[1] == replies[2]


def test_plain_replies_begin_with_the_words_of_the_message(client: Client) -> None:
    assert said(client.chat("Is  this\na kettle?")) == "Sandbox reply to: Is this a kettle?"
    assert said(client.chat(" ".join(map(str, range(99))))).endswith(" 22 23…")


def test_each_of_n_choices_has_its_own_text(client: Client) -> None:
    whole = client.chat("Hi", n=3)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len({said(whole, index) for index in range(3)}) == 3


def test_the_last_user_message_counts_in_whatever_form_it_comes(client: Client) -> None:
    parts = [
        {"type": "text", "text": "second "},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "one"},
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "ignored"},
    ]
    assert said(client.chat(messages=messages)) == "Sandbox reply to: second one"
    assert said(client.chat(messages=messages[:1])) == "Sandbox reply to: Be brief."


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_cut_at_the_token_limit(client: Client, name: str) -> None:
    whole, cut = client.chat(), client.chat(**{name: 3})
    assert said(cut) == "Sandbox repl"
    assert said(whole).startswith(said(cut))
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 3


def test_a_limit_that_is_just_met_cuts_nothing(client: Client) -> None:
    whole = client.chat()
    met = client.chat(max_tokens=whole["usage"]["completion_tokens"])
    assert (said(met), met["choices"][0]["finish_reason"]) == (said(whole), "stop")


@pytest.mark.parametrize(
    "content",
    [
        "Product: Kettle\nRating: 2 of 5\nReview: Arrived late. Then it broke.",
        "Summarize this customer review:\n\nArrived late. Then it broke.",
        "Product: Kettle\nThe words of the customer are:\nArrived late. Then it broke.",
        "Classify: Arrived late. Then it broke.",
        "Arrived late. Then it broke.",
    ],
)
def test_strings_are_filled_from_the_data_not_from_the_instructions(client: Client, content: str) -> None:
    assert client.fill(REVIEW, content)["summary"] == "Arrived late."


@pytest.mark.parametrize(
    ("review", "label"),
    [
        ("I love it, perfect!", "positive"),
        ("Broke after a week. Terrible.", "negative"),
        ("Great sound, but the case is loose.", "mixed"),
        ("It is a lamp.", "neutral"),
        ("最高です", "positive"),
        ("Leider kaputt", "negative"),
        ("NEGATIVE", "negative"),
        ("👍👍", "positive"),
    ],
)
def test_an_enum_follows_the_words_of_the_data(client: Client, review: str, label: str) -> None:
    prompt = f"Say positive, negative, neutral or mixed.\nReview: {review}"
    assert client.fill(REVIEW, prompt)["sentiment"] == label


def test_unknown_labels_speak_for_themselves_and_else_the_choice_is_stable(client: Client) -> None:
    schema = {"type": "object", "properties": {"team": {"enum": ["red_team", "blue_team", "green_team"]}}}
    assert client.fill(schema, "Text: the blue team won") == {"team": "blue_team"}
    chosen = {client.fill(schema, f"Text: item {number}")["team"] for number in range(20)}
    assert len(chosen) == 3


def test_the_sample_reviews_get_sensible_sentiments(client: Client) -> None:
    rows = reviews()
    labels = [client.fill(REVIEW, f"Review: {row['review']}")["sentiment"] for row in rows]
    judged = [(label, int(row["rating"])) for label, row in zip(labels, rows, strict=True)]
    right = [label == ("positive" if rating > 3 else "negative") for label, rating in judged if rating != 3]
    wrong = [label == ("negative" if rating > 3 else "positive") for label, rating in judged if rating != 3]
    assert sum(right) / len(right) > 0.6
    assert sum(wrong) / len(wrong) < 0.03


# --- JSON for a schema ---


def numbers() -> st.SearchStrategy[dict[str, Any]]:
    steps: st.SearchStrategy[float] = st.sampled_from([1, 3, 7, 0.5, 0.1, 0.01, 2.5])
    bounds = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": st.integers(-1000, 10),
            "exclusiveMinimum": st.integers(-1000, 10),
            "maximum": st.integers(50, 1000),
            "exclusiveMaximum": st.integers(50, 1000),
            "multipleOf": steps,
        },
    )
    narrow = (
        st.decimals(-5, 5, places=3).map(float).map(lambda n: {"type": "number", "minimum": n, "maximum": n + 0.01})
    )
    return bounds | narrow | st.integers(-9, 9).map(lambda n: {"type": "integer", "minimum": n, "maximum": n})


def strings() -> st.SearchStrategy[dict[str, Any]]:
    sizes = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)
    return sizes.map(lambda size: {"type": "string", "minLength": size[0], "maxLength": size[1]}) | st.sampled_from(
        [{"type": "string", "format": name} for name in ("date", "date-time", "email", "uuid")]
    )


def enums() -> st.SearchStrategy[dict[str, Any]]:
    scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
    options = st.lists(scalars, min_size=1, max_size=4)
    return options.map(lambda values: {"enum": values}) | scalars.map(lambda value: {"const": value})


def compounds(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    sizes = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(sorted)
    arrays = st.builds(
        lambda items, size: {"type": "array", "items": items, "minItems": size[0], "maxItems": size[1]}, inner, sizes
    )
    objects = st.builds(
        lambda properties, closed: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[::2],
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.text(max_size=6), inner, max_size=4),
        st.booleans(),
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
    kinds = st.sampled_from(["string", "boolean", "null", "array", "object"])
    return arrays | objects | unions | st.lists(kinds, min_size=1, unique=True).map(lambda names: {"type": names})


LEAVES = numbers() | strings() | enums() | st.sampled_from([{}, True, {"type": "boolean"}, {"type": "null"}])
REFERENCE = st.just({"$ref": "#/$defs/a~1b%20c"})


@given(st.recursive(LEAVES | REFERENCE, compounds, max_leaves=8), LEAVES, st.text(max_size=60))
def test_a_value_always_validates(client: Client, schema: Any, definition: Any, text: str) -> None:
    root = {"type": "object", "properties": {"it": schema}, "required": ["it"], "$defs": {"a/b c": definition}}
    value = client.fill(root, f"Text: {text}")
    jsonschema.validate(value, root, format_checker=jsonschema.FormatChecker(["date", "email", "uuid"]))


def test_the_formats_are_what_they_say(client: Client) -> None:
    names = ["date", "date-time", "uuid"]
    made = client.fill({"type": "object", "properties": {name: {"type": "string", "format": name} for name in names}})
    assert date.fromisoformat(made["date"])
    assert datetime.fromisoformat(made["date-time"]).tzinfo
    assert uuid.UUID(made["uuid"]).variant == uuid.RFC_4122


@pytest.mark.parametrize(
    ("more", "length"),
    [({"minItems": 2, "maxItems": 2}, 2), ({"items": False}, 2), ({"items": {"type": "boolean"}, "minItems": 4}, 4)],
)
def test_each_place_of_a_tuple_has_a_value_of_its_own_type(client: Client, more: dict[str, Any], length: int) -> None:
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], **more}
    schema = {"type": "object", "properties": {"pair": pair}, "required": ["pair"]}
    made = client.fill(schema)
    assert [type(value) for value in made["pair"]] == [str, int, bool, bool][:length]


def test_an_array_has_an_item_for_each_sentence_that_it_asks_for(client: Client) -> None:
    items = {"type": "object", "properties": {"points": {"type": "array", "items": {"type": "string"}, "minItems": 2}}}
    assert client.fill(items) == {"points": ["Arrived late.", "The box was damaged."]}


def test_a_schema_that_contains_itself_is_filled_to_a_depth(client: Client) -> None:
    node: dict[str, Any] = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#"}},
        },
        "required": ["name", "next", "children"],
    }
    made = client.fill(node)
    jsonschema.validate(made, node)
    assert made["next"]["children"][0]["name"] == "Arrived late."


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[0-9]{20}$"}}},
        {"type": "object", "properties": {"a": {"not": {}}}},
        {"type": "object", "properties": {"a": {"type": "array", "minItems": 10**9}}},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 10**9}}},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/absent"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "#"},
        {"type": "thing"},
        {"properties": []},
    ],
)
def test_a_schema_that_cannot_be_filled_is_refused_in_plain_words(client: Client, schema: dict[str, Any]) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    reply = client.post(request("Hi", response_format=shape))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "response_format"
    assert reply.json()["error"]["message"].startswith("Invalid schema for response_format 'thing': ")


def test_no_remote_reference_is_ever_fetched(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        remote = {"$ref": f"http://127.0.0.1:{trap.getsockname()[1]}/schema.json"}
        for properties in ({"a": remote}, {"a": {"type": "string", "not": remote}}):
            shape = {"name": "thing", "schema": {"type": "object", "properties": properties}}
            reply = client.post(request("Hi", response_format={"type": "json_schema", "json_schema": shape}))
            assert reply.status_code == 400
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_json_mode_gives_an_object(client: Client) -> None:
    made = json.loads(said(client.chat("As JSON. Text: Good.", response_format={"type": "json_object"})))
    assert made == {"reply": "Good."}


TOOLS = [
    {"type": "function", "function": {"name": "ping"}},
    {"type": "function", "function": {"name": "file", "parameters": REVIEW}},
]
NAMED = {"type": "function", "function": {"name": "file"}}


@pytest.mark.parametrize(
    ("choice", "name", "reason"), [("required", "ping", "tool_calls"), (NAMED, "file", "stop")], ids=["any", "named"]
)
def test_a_tool_that_must_be_called_is_called(client: Client, choice: Any, name: str, reason: str) -> None:
    whole = client.chat("Review: Love it.", tools=TOOLS, tool_choice=choice)
    message = whole["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert (message["content"], whole["choices"][0]["finish_reason"]) == (None, reason)
    assert call.keys() == {"id", "type", "function"}
    assert (call["type"], call["function"]["name"]) == ("function", name)
    arguments = json.loads(call["function"]["arguments"])
    assert arguments == ({} if name == "ping" else {"sentiment": "positive", "summary": "Love it."})


def test_a_streamed_call_adds_up_to_the_whole_one(client: Client) -> None:
    whole = client.chat("Review: Love it.", tools=TOOLS, tool_choice=NAMED)
    deltas = [
        chunk["choices"][0]["delta"] for chunk in client.stream("Review: Love it.", tools=TOOLS, tool_choice=NAMED)
    ]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    parts = [part for delta in deltas for part in delta.get("tool_calls", ())]
    (call,) = whole["choices"][0]["message"]["tool_calls"]
    assert parts[0] == call | {"index": 0, "function": {"name": "file", "arguments": ""}}
    assert len(parts) > 3
    assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]


def test_tools_that_need_not_be_called_are_not(client: Client) -> None:
    assert said(client.chat("Hi", tools=TOOLS, tool_choice="auto")) == "Sandbox reply to: Hi"


def test_a_tool_that_does_not_exist_is_refused(client: Client) -> None:
    reply = client.post(request("Hi", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "absent"}}))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tool_choice")


# --- The server ---


def test_one_connection_serves_good_and_bad_requests_alike(client: Client) -> None:
    parts = urlsplit(client.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    connection.connect()
    first = connection.sock
    headers = {"Authorization": f"Bearer {sandbox.KEY}"}
    bodies = [json.dumps(request("Hi")), "{", json.dumps(request("Hi", stream=True)), json.dumps(request("Hi", n=0))]
    statuses = []
    for body in bodies * 2:
        connection.request("POST", "/v1/chat/completions", body=body, headers=headers)
        reply = connection.getresponse()
        reply.read()
        statuses.append(reply.status)
    assert statuses == [200, 400, 200, 400] * 2
    assert connection.sock is first
    connection.close()


def test_many_connections_are_served_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reply takes its latency, all the others take theirs: each waits until all of them do."""
    everyone, latencies = threading.Barrier(64), []

    def wait(seconds: float) -> None:
        latencies.append(seconds)
        everyone.wait(PATIENCE)

    monkeypatch.setattr(server, "time", SimpleNamespace(sleep=wait, perf_counter=lambda: 0.0))
    with sandbox.running(latency=0.1) as url, ThreadPoolExecutor(64) as pool:
        headers = {"Authorization": f"Bearer {sandbox.KEY}"}
        post = lambda _: requests.post(f"{url}/chat/completions", json=request("Hi"), headers=headers, timeout=PATIENCE)  # noqa: E731 used once
        statuses = {reply.status_code for reply in pool.map(post, range(64))}
    assert statuses == {200}
    assert latencies == [0.1] * 64


def test_its_connections_end_with_it() -> None:
    with sandbox.running() as url:
        parts = urlsplit(url)
        connection = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
        connection.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    with connection:
        while connection.recv(4096):
            pass  # the rest of the reply, then the end
    with pytest.raises(OSError, match=r"."):
        socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)


def test_a_client_that_goes_away_leaves_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    body = json.dumps(request("Hi " * 1000, stream=True, n=128)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer {sandbox.KEY}\r\nContent-Length: {len(body)}"
    with sandbox.running() as url:
        parts = urlsplit(url)
        for _ in range(3):
            with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
                connection.sendall(head.encode() + b"\r\n\r\n" + body)
                connection.recv(16)
        fresh = Client(url)
        with fresh.session:
            assert fresh.chat()["object"] == "chat.completion"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_that_it_prints_works_when_pasted(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = [sys.executable, "-m", "connector"]
    with subprocess.Popen([*program, "sandbox", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        _, advice, line = (process.stderr.readline() for _ in range(3))
        pasted = f"{line}\n{shlex.join([*program, 'models'])}\n"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run([shell], input=pasted, capture_output=True, text=True, check=False, env=environment)
        process.send_signal(signal.SIGINT)
    assert advice == "In another terminal, paste this line:\n"
    assert (done.returncode, done.stdout.split()[3]) == (0, sandbox.MODEL), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_that_it_is_not_a_model_and_ends_quietly(number: signal.Signals) -> None:
    code = "from connector import sandbox; sandbox.serve(port=0, api_key='sk-secret')"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said, advice, settings = (process.stderr.readline() for _ in range(3))
        url = settings.split()[1].removeprefix("OPENAI_BASE_URL=")
        reply = requests.get(f"{url}/models", headers={"Authorization": "Bearer sk-secret"}, timeout=PATIENCE)
        process.send_signal(number)
        rest = process.stderr.read()
    assert "not a model" in said
    assert "the key that you chose" in advice
    assert "sk-secret" not in settings
    assert (reply.status_code, process.returncode, rest) == (200, 0, "")


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port} .* another port"):
            sandbox.serve(port=port)


@pytest.mark.parametrize("latency", [-1, float("nan"), float("inf")])
def test_a_latency_that_is_not_a_time_is_a_clear_error(latency: float) -> None:
    with pytest.raises(ConfigError, match="latency"):
        sandbox.serve(port=0, latency=latency)


# --- The sample table ---


def reviews() -> list[dict[str, str]]:
    with (SAMPLES / "reviews.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_reviews_are_three_hundred_proper_rows() -> None:
    rows = reviews()
    assert [int(row["id"]) for row in rows] == list(range(1, 301))
    assert list(rows[0]) == ["id", "product", "rating", "review", "reviewed_at"]
    assert all(row["review"].strip() and row["rating"] in "12345" for row in rows)
    assert all(date.fromisoformat(row["reviewed_at"]) for row in rows)
    assert len({row["product"] for row in rows}) >= 12


def test_the_sample_reviews_hold_what_tables_hold() -> None:
    texts = [row["review"] for row in reviews()]
    for part in (",", '"', "\n", "🎧", "ß", "é", "¿", "です"):
        assert any(part in text for text in texts)
    assert 250 < len(set(texts)) < 300


# --- Embeddings ---


def vectors(client: Client, texts: Any, **body: Any) -> list[Any]:
    reply = client.post({"model": sandbox.MODEL, "input": texts, **body}, "/embeddings")
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return [item["embedding"] for item in data]


def test_texts_that_share_words_have_vectors_that_are_near_each_other(client: Client) -> None:
    one, other, far = vectors(client, ["The box was damaged", "A damaged box", "Great sound"])
    assert len(one) == 256
    assert dot(one, other) > dot(one, far)
    assert dot(one, one) == pytest.approx(1, abs=1e-6)
    assert vectors(client, "The box was damaged") == [one]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_come_as_base64_and_in_the_size_asked_for(client: Client) -> None:
    (plain,), (packed,) = (
        vectors(client, "Hi", dimensions=5),
        vectors(client, "Hi", dimensions=5, encoding_format="base64"),
    )
    assert list(struct.unpack("<5f", base64.b64decode(packed))) == plain


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]")],
)
def test_what_cannot_be_embedded_is_refused(client: Client, body: Any, param: str) -> None:
    reply = client.post({"model": sandbox.MODEL, **body}, "/embeddings")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
