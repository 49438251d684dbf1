"""A reply as columns: the format that all ledgers share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.cost import BATCH_HEADER, COST_HEADER
from connector.base.records import Reply

COLUMNS: Final = ("key", "status", "body", "headers", "latency_ms", "attempts")
"""What `encoded` returns, and what `decoded` reads."""

_EXACT: Final = b" "
"""What a body begins with that holds numbers which orjson would read with fewer digits."""

_KEPT: Final = (
    "x-request-id",
    COST_HEADER,
    BATCH_HEADER,
    "x-litellm-call-id",
    "x-litellm-model-id",
    "x-portkey-trace-id",
    "x-portkey-cache-status",
)


def encoded(key: bytes, reply: Reply) -> tuple[bytes, int, bytes, bytes, int, int]:
    """Returns a reply as `COLUMNS`, with the headers that are kept: its ID for support requests, and what it cost."""
    headers = orjson.dumps({name: reply.headers[name] for name in _KEPT if name in reply.headers})
    try:
        body = orjson.dumps(reply.body)
    except TypeError:
        try:
            body = _EXACT + numbers.dumps(reply.body)
        except TypeError:  # half of a character
            body = json.dumps(reply.body).encode()
    return key, reply.status, body, headers, reply.latency_ms, reply.attempts


def decoded(row: Sequence[Any]) -> Reply:
    """Returns the reply of a row that starts with `COLUMNS`; raises `ValueError` where it cannot be decoded."""
    try:
        body = numbers.loads(row[2]) if row[2][:1] == _EXACT else orjson.loads(row[2])
    except orjson.JSONDecodeError:  # one that only the standard library could write
        body = json.loads(row[2])
    return Reply(row[1], body, orjson.loads(row[3]), row[4], row[5], cached=True)
