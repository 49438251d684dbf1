"""The `_llm` group: what is known of the call behind a row, whose names follow OpenAI's API where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from connector.base.cost import Prices, cost_of
from connector.base.records import GROUP, JSON, Answer, Reply, Schema, Status, Usage

Detail = Literal["full", "status", "none"]

_TEXT: Final[Schema] = {"type": ["null", "string"]}
_COUNT: Final[Schema] = {"type": ["null", "integer"]}
PROVENANCE: Final[Mapping[str, Schema]] = {
    "status": {"type": "string", "enum": [status.value for status in Status]},
    "error": {
        "type": ["null", "object"],
        "properties": {"class": _TEXT, "message": _TEXT, "http_status": _COUNT, "content": _TEXT},
    },
    "attempts": _COUNT,
    "model": _TEXT,
    "finish_reason": _TEXT,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cached_tokens": _COUNT,
    "reasoning_tokens": _COUNT,
    "cost_usd": {"type": ["null", "number"]},
    "latency_ms": _COUNT,
    "request_id": _TEXT,
    "prompt_hash": _TEXT,
    "cached": {"type": ["null", "boolean"]},
}
_DETAILS: Final = {"full": tuple(PROVENANCE), "status": ("status", "error"), "none": ()}
_CONTENT_KEPT: Final = 10_000
_NO_ANSWER: Final = Answer(None)


def column(detail: Detail) -> dict[str, Schema]:
    """The group as a column with its schema; nothing where it is not wanted."""
    properties = {name: PROVENANCE[name] for name in _DETAILS[detail]}
    return {GROUP: {"type": "object", "properties": properties}} if properties else {}


def group(provenance: dict[str, JSON], detail: Detail) -> dict[str, Any]:
    """The part of a row's provenance that is wanted, as a column."""
    if detail == "full":
        return {GROUP: provenance}
    return {GROUP: {name: provenance[name] for name in _DETAILS[detail]}} if detail == "status" else {}


def failure(kind: str, message: str, http_status: int | None = None, content: str | None = None) -> dict[str, JSON]:
    """The `error` of a row: the class of the error, what to tell the user, and the raw text where a reply had one."""
    kept = content[:_CONTENT_KEPT] if content else None
    return {"class": kind, "message": message, "http_status": http_status, "content": kept}


def known(
    status: Status,
    error: dict[str, JSON] | None,
    *,
    key: bytes,
    attempts: int,
    answer: Answer = _NO_ANSWER,
    reply: Reply | None = None,
    prices: Prices | None = None,
    cached: bool = False,
) -> dict[str, JSON]:
    """All that is known of a row's call. `cached`: another row, or an earlier run, has paid for it."""
    usage: Usage = answer.usage
    return {
        "status": status.value,
        "error": error,
        "attempts": attempts,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": cost_of(reply, usage, prices) if reply else None,
        "latency_ms": reply.latency_ms if reply else None,
        "request_id": _request_id(reply.headers) if reply else None,
        "prompt_hash": key.hex() or None,
        "cached": cached or (reply is not None and reply.cached),
    }


def _request_id(headers: Mapping[str, str]) -> str | None:
    """OpenAI's name for it, else LiteLLM's, else Portkey's."""
    return headers.get("x-request-id") or headers.get("x-litellm-call-id") or headers.get("x-portkey-trace-id")
