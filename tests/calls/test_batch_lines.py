"""Lines of a batch's answers: each is judged as the reply to a call would be."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from connector.base.clock import Clock
from connector.base.errors import ReplyError
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.calls.batch_api import Batch
from connector.calls.batch_lines import Reader
from connector.endpoints import load

BODY = {"model": "m", "choices": [{"message": {"content": "half \ud83d, whole 🙂"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("kind", ["chat", "embeddings"])
@pytest.mark.parametrize(
    "body", [BODY, json.dumps(BODY), json.dumps(BODY, ensure_ascii=False)], ids=["object", "escaped", "text"]
)
def test_half_of_a_character_is_replaced_as_in_the_reply_to_a_call(kind: str, body: object) -> None:
    raw = json.dumps({"custom_id": "ab", "response": {"status_code": 200, "body": body}}).encode()
    reader = Reader(load(kind), Masker([]), Clock(), 10**6)
    line = reader.read(raw)
    assert line is not None
    reply = reader.result(line, Batch("b", "completed"))
    assert isinstance(reply, Reply)
    assert reply.body["choices"][0]["message"]["content"] == "half \ufffd, whole 🙂"


def answer(name: str, body: Any, status: Any = 200) -> bytes:
    """A line of answers."""
    return json.dumps({"custom_id": name, "response": {"status_code": status, "body": body}}).encode() + b"\n"


GOOD = {"model": "m", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}
DEEP: Any = {}
for _ in range(120):
    DEEP = {"x": DEEP}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (GOOD | {"x": "y" * 500_000}, "larger than max_response_bytes = 100000"),
        (GOOD | {"x": [{}] * 33_000}, "too many values"),
        (GOOD | {"x": DEEP}, "nested too deeply"),
    ],
)
def test_a_line_that_no_call_would_have_taken_is_its_row_s_final_error(body: Any, told: str) -> None:
    """To ask for it once more would only cost the same again."""
    reader = Reader(load("chat"), Masker([]), Clock(), 100_000)
    file = io.BytesIO(b"\xef\xbb\xbf" + answer("aa", GOOD) + b"\n" * 9 + answer("bb", body) + answer("cc", GOOD))
    lines = [reader.read(raw) for raw in reader.lines(file)]
    assert [line and line.key for line in lines] == [b"\xaa", b"\xbb", b"\xcc"]
    first, refused, last = [reader.result(line, Batch("b", "completed")) for line in lines if line is not None]
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert isinstance(refused, ReplyError)
    assert told in refused.message


def test_of_a_line_without_an_end_no_more_is_held_than_a_reply_may_have() -> None:
    reader = Reader(load("chat"), Masker([]), Clock(), 100_000)
    lines = list(reader.lines(io.BytesIO(b"x" * 10**7 + b"\n" + answer("aa", GOOD))))
    assert len(lines) == 2
    assert len(lines[0]) < 200_000
    assert [reader.read(raw) is None for raw in lines] == [True, False]


@pytest.mark.parametrize("status", [10**30, -1, 0, "200", None, True])
def test_a_status_that_is_none_of_http_counts_as_what_the_body_says(status: Any) -> None:
    reader = Reader(load("chat"), Masker([]), Clock(), 10**6)
    line = reader.read(answer("aa", GOOD, status))
    assert line is not None
    reply = reader.result(line, Batch("b", "completed"))
    assert isinstance(reply, Reply)
    assert reply.status == 200


@pytest.mark.parametrize(
    "line",
    [
        b'{"a": ["the key is sk-canary-1234567"]}',
        b'{"a": "sk\\u002dcanary-1234567"}',
        b'{"a": "c2stY2FuYXJ5LTEyMzQ1Njc="}',
        b"error: sk-canary-1234567\r",
        b'{"a": "\xff sk-canary-1234567"}',
        b'{"a": "' + b"x" * (1000 + 65536 - 12) + b'sk-canary-1234567"}',
    ],
)
def test_a_line_that_is_shown_has_no_secret(line: bytes) -> None:
    reader = Reader(load("chat"), Masker(["sk-canary-1234567"]), Clock(), 1000)
    clean = b'{"b": [1.50, "\xc3\xa9"]}'
    shown = [reader.masked(raw) for raw in reader.lines(io.BytesIO(line + b"\n" + clean + b"\r\n"))]
    for part in (b"canary", b"sk-can", b"u002dcan", b"c2stY2FuYXJ5"):
        assert part not in shown[0]
    assert shown[1] == clean
