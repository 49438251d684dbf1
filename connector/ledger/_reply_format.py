"""A reply as columns: the format that all ledgers share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.cost import BATCH_HEADER, COST_HEADER
from connector.base.records import Reply
from connector.base.room import MODEST
from connector.base.vectors import Packed, packed_in, with_vector

COLUMNS: Final = ("key", "status", "body", "headers", "latency_ms", "attempts")
"""What `encoded` returns, and what `decoded` reads."""

_EXACT: Final = b" "
"""What a body begins with that holds numbers which orjson would read with fewer digits."""

_PACKED: Final = b"\0"
"""What a body begins with that has a vector: the size of its JSON follows in four bytes, then that, with null in the
place of the vector, then the vector's bytes. As base64 they would be a third more, to write and to read."""

_SIZE: Final = 4

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
    vector = packed_in(reply.body)
    if vector is None:
        body = _json(reply.body)
    else:
        rest = _json(with_vector(reply.body, None))
        body = b"".join((_PACKED, len(rest).to_bytes(_SIZE), rest, vector.content))
    return key, reply.status, body, headers, reply.latency_ms, reply.attempts


def decoded(row: Sequence[Any]) -> Reply:
    """Returns the reply of a row that starts with `COLUMNS`; raises `ValueError` where it cannot be decoded."""
    body = row[2]
    return Reply(
        row[1],
        _unpacked(body) if body[:1] == _PACKED else _body(body),
        orjson.loads(row[3]),
        row[4],
        row[5],
        cached=True,
        size=len(body) if len(body) > MODEST else 0,
    )


def _unpacked(data: bytes) -> dict[str, Any]:
    start = len(_PACKED) + _SIZE
    end = start + int.from_bytes(data[len(_PACKED) : start])
    try:
        return with_vector(_body(data[start:end]), Packed(data[end:]))
    except (LookupError, TypeError) as error:
        raise ValueError("the body of a reply has no place for its vector") from error


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        try:
            return _EXACT + numbers.dumps(body)
        except TypeError:  # half of a character
            return json.dumps(body).encode()


def _body(data: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = numbers.loads(data) if data[:1] == _EXACT else orjson.loads(data)
    except orjson.JSONDecodeError:  # one that only the standard library could write
        body = json.loads(data)
    return body
