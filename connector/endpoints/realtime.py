"""Realtime: text in, text out over a WebSocket at `/v1/realtime` (OpenAI API reference, "Realtime").

Requests and replies are those of the Responses API. `_realtime_session`, which exchanges them in a session, needs the
extra `realtime` and is imported only if this kind is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConfigError
from connector.base.masking import Masker
from connector.base.room import Room
from connector.endpoints import EndOfStream, Sender
from connector.endpoints._defaults import (
    COSTLY,
    FALLBACKS,
    HAS_OUTPUT_TOKENS,
    IN_BATCHES,
    IN_CAPABILITIES,
    REPLY_SIZE_FACTOR,
    decode,
    dedicated_model,
    encode,
    other_purpose,
    packing,
    streamed,
)
from connector.endpoints._response_stream import LastResponse, is_chunk
from connector.endpoints._response_stream import fold as fold_response
from connector.endpoints._shapes import as_dict, as_list
from connector.endpoints.responses import (
    COLUMNS,
    REPLY,
    answer,
    broken_off,
    expectation,
    minimal,
    missing_text,
    raised,
    repaired,
    request_format,
    structured,
    value_types,
    values,
)
from connector.http.preparing import Settings

PATH: Final = "/realtime"
OVER_HTTP: Final = False

_BETA_EVENTS: Final = {"response.text.": "response.output_text."}
"""Prefixes of event names in the API's beta, which other servers still use, and those of today."""

_DETAILS: Final = ("input_token", "output_token")


def open_sender(settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None) -> Sender:
    """Returns a sender that opens sessions on demand, at most one for each calling thread.

    Raises:
        ConfigError: The library for WebSockets is not installed, or the settings cannot work.
    """
    try:
        opened: Any = import_module("connector.endpoints._realtime_session")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        raise ConfigError(
            'the realtime endpoint needs websockets: run pip install "openai-compatible-connector[realtime]"',
            detail=str(error),
        ) from error
    sessions: Sender = opened.Sessions(settings, url, mask, clock, room)
    return sessions


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns the response of `response.done`; if it has no output, that is assembled from the other events."""
    return fold_response(map(_as_response_event, events))


def end_of_stream(request: bytes) -> EndOfStream:  # noqa: ARG001 - the contract's signature
    """Returns what calls a stream complete after `response.done`."""
    return _Done()


class _Done(LastResponse):
    def follow(self, event: dict[str, Any]) -> None:
        super().follow(_as_response_event(event))


def _as_response_event(event: dict[str, Any]) -> dict[str, Any]:
    kind = event.get("type")
    if kind == "response.done":
        return {"type": "response.completed", "response": _response(as_dict(event.get("response")))}
    for old, new in _BETA_EVENTS.items():
        if isinstance(kind, str) and kind.startswith(old):
            return {**event, "type": new + kind.removeprefix(old)}
    return event


def _response(response: dict[str, Any]) -> dict[str, Any]:
    """Returns the response with its details under the names of the Responses API."""
    details, usage = as_dict(response.get("status_details")), response.get("usage")
    renamed = {
        "error": details.get("error"),
        "incomplete_details": {"reason": details["reason"]} if details.get("reason") else None,
        "usage": {**usage, **dict(_token_details(usage))} if isinstance(usage, dict) else None,
        "output": [_item(item) for item in as_list(response.get("output"))] or None,
    }
    return {**response, **{name: value for name, value in renamed.items() if value}}


def _token_details(usage: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _DETAILS:
        if f"{name}_details" in usage:
            yield f"{name}s_details", usage[f"{name}_details"]


def _item(item: Any) -> Any:
    """Returns an output item with the transcripts of its audio parts as their texts."""
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return item
    return {**item, "content": [_part(part) for part in item["content"]]}


def _part(part: Any) -> Any:
    if isinstance(part, dict) and "text" not in part and isinstance(part.get("transcript"), str):
        return {**part, "text": part["transcript"]}
    return part
