"""A reply as columns: the format of all ledgers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.cost import BATCH_HEADER, COST_HEADER
from connector.base.decoding import loads, weight_of_reply
from connector.base.records import Reply, is_ok
from connector.base.vectors import null_for_vector, opened, vectors_in

COLUMNS: Final = ("key", "status", "body", "headers", "latency_ms", "attempts")
"""What `encoded` returns, and what `decoded` reads."""

_EXACT: Final = b" "
"""The first byte of a body with numbers that orjson would read with fewer digits."""

_PACKED: Final = b"\0"
"""The first byte of a body with a vector. Then follow the size of its JSON in four bytes, that JSON with null in place
of the vector, and the vector's bytes. As base64 these would be a third more to write and to read."""

_SIZE: Final = 4
_STATUSES: Final = range(100, 1000)

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
    """Returns a reply as `COLUMNS`. The only headers kept are its IDs, for support requests, and what it cost."""
    headers = orjson.dumps({name: reply.headers[name] for name in _KEPT if name in reply.headers})
    vectors = vectors_in(reply.body)
    if len(vectors) == 1:
        rest = _json(reply.body)
        body = b"".join((_PACKED, len(rest).to_bytes(_SIZE), rest, *vectors))
    else:
        body = _json(opened(reply.body) if vectors else reply.body)
    return key, reply.status, body, headers, reply.latency_ms, reply.attempts


def decoded(row: Sequence[Any]) -> Reply:
    """Returns the reply in a row that starts with `COLUMNS`; raises `ValueError` if it cannot be decoded."""
    _, status, body, headers, latency, attempts = row[:6]
    try:
        content = _unpacked(body) if body[:1] == _PACKED else _body(body)
        known = orjson.loads(headers)
        status, latency, attempts = int(status), int(latency), int(attempts)
    except (TypeError, OverflowError) as error:
        raise ValueError("a part of a reply is neither text nor a number") from error
    if not (
        isinstance(content, dict) and isinstance(known, dict) and all(isinstance(each, str) for each in known.values())
    ):
        raise ValueError("a part of a reply is not an object, or not one of texts")
    reply = Reply(status, content, known, latency, attempts, cached=True, size=weight_of_reply(body))
    if reply.status not in _STATUSES or not (is_ok(reply.status) or _is_refusal(content)):
        raise ValueError("a reply has no HTTP status, or is a refusal without a message")
    return reply


def _is_refusal(body: dict[str, Any]) -> bool:
    error = body.get("error")
    return isinstance(error, dict) and "message" in error


def _unpacked(data: bytes) -> dict[str, Any]:
    start = len(_PACKED) + _SIZE
    end = start + int.from_bytes(data[len(_PACKED) : start])
    body = _body(data[start:end])
    try:
        body["data"][0]["embedding"] = data[end:]
    except (LookupError, TypeError) as error:
        raise ValueError("the body of a reply has no place for its vector") from error
    return body


def _json(body: dict[str, Any]) -> bytes:
    """Returns a body as JSON, with null in place of a packed vector."""
    try:
        return orjson.dumps(body, null_for_vector)
    except TypeError:
        try:
            return _EXACT + numbers.dumps(body, null_for_vector)
        except TypeError:  # a lone surrogate
            return json.dumps(body, default=null_for_vector).encode()


def _body(data: bytes) -> dict[str, Any]:
    body: dict[str, Any] = loads(data, numbers.loads if data[:1] == _EXACT else orjson.loads)
    return body
