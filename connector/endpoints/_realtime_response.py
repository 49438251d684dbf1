"""The events of a realtime response, put together into what the Responses API would have replied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from connector.endpoints._responses_stream import fold as fold_response
from connector.endpoints._shapes import listed, mapped

_BEFORE: Final = {"response.text.": "response.output_text."}
"""The names of events as the beta had them, which other servers still use."""

_DETAILS: Final = ("input_token", "output_token")


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The response of `response.done`; what the other events make up stands in where it has no output."""
    return fold_response(map(_translated, events))


def _translated(event: dict[str, Any]) -> dict[str, Any]:
    kind = event.get("type")
    if kind == "response.done":
        return {"type": "response.completed", "response": _response(mapped(event.get("response")))}
    for old, new in _BEFORE.items():
        if isinstance(kind, str) and kind.startswith(old):
            return {**event, "type": new + kind.removeprefix(old)}
    return event


def _response(response: dict[str, Any]) -> dict[str, Any]:
    """The response, its details under the names that the Responses API has for them."""
    details, usage = mapped(response.get("status_details")), response.get("usage")
    told = {
        "error": details.get("error"),
        "incomplete_details": {"reason": details["reason"]} if details.get("reason") else None,
        "usage": {**usage, **dict(_token_details(usage))} if isinstance(usage, dict) else None,
        "output": [_item(item) for item in listed(response.get("output"))] or None,
    }
    return {**response, **{name: value for name, value in told.items() if value}}


def _token_details(usage: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _DETAILS:
        if f"{name}_details" in usage:
            yield f"{name}s_details", usage[f"{name}_details"]


def _item(item: Any) -> Any:
    """Parts of the beta are called `text`; spoken ones have a transcript."""
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return item
    return {**item, "content": [_part(part) for part in item["content"]]}


def _part(part: Any) -> Any:
    if isinstance(part, dict) and "text" not in part and isinstance(part.get("transcript"), str):
        return {**part, "text": part["transcript"]}
    return part
