"""Lines of a batch's answers: each is judged as the reply to a call would be."""

from __future__ import annotations

import json

import pytest

from connector.base.clock import Clock
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
    reader = Reader(load(kind), Masker([]), Clock())
    line = reader.read(raw)
    assert line is not None
    reply = reader.result(line, Batch("b", "completed"))
    assert isinstance(reply, Reply)
    assert reply.body["choices"][0]["message"]["content"] == "half \ufffd, whole 🙂"
