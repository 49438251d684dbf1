"""Merges the events of a response, as the Responses API and realtime sessions send them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from connector.base.decoding import joined
from connector.endpoints import MOMENT, EndOfStream
from connector.endpoints._shapes import as_dict, as_list, check_parts, text_or_none

_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_OPEN: Final = ("in_progress", "queued")


class _Piece(NamedTuple):
    """Where a text belongs: the item's type, the name of its list of parts, the part's type, the name of the text."""

    item: str
    parts: str
    part: str
    text: str


_PIECES: Final = {
    "response.output_text": _Piece("message", "content", "output_text", "text"),
    "response.refusal": _Piece("message", "content", "refusal", "refusal"),
    "response.reasoning_text": _Piece("reasoning", "content", "reasoning_text", "text"),
    "response.reasoning_summary_text": _Piece("reasoning", "summary", "summary_text", "text"),
    "response.function_call_arguments": _Piece("function_call", "", "", "arguments"),
}

_Key = tuple[int | str, str]
"""An item's index (or id) and its type: some servers give one index to several items, and some give none."""


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event has a type, or is a response or contains one."""
    return isinstance(event.get("type"), str) or event.get("object") == "response" or "response" in event


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merges the events into one `response` (OpenAI API reference, "Streaming events").

    The last event holds the whole response; what follows it is ignored. If it has no output, as from vLLM, the output
    is assembled from the other events.
    """
    body: dict[str, Any] = {}
    output = _Output()
    end = LastResponse()
    for event in events:
        end.follow(event)
        response = _response_in(event)
        if response is not None:
            body.update(response)
        else:
            output.add(text_or_none(event.get("type")) or "", event)
        if end.patience is not None:
            break
    items = output.whole()
    if items and not as_list(body.get("output")):
        body = {"object": "response", **body, "output": items}
    if not end.is_complete and body.get("status") in _OPEN:
        del body["status"]  # the status of the first event, which is out of date
    return body


def end_of_stream(request: bytes) -> EndOfStream:  # noqa: ARG001 - the contract's signature
    """Returns what calls a stream complete after the whole response."""
    return LastResponse()


class LastResponse(EndOfStream):
    """Finds the event with the whole response; one without a type may also say that it is still in progress."""

    def __init__(self) -> None:
        super().__init__()
        self._status: object = None

    @property
    def patience(self) -> float | None:
        """See `EndOfStream`."""
        return MOMENT if self.is_complete and self._status not in _OPEN else None

    def follow(self, event: dict[str, Any]) -> None:
        """See `EndOfStream`."""
        response = _response_in(event)
        if response is not None:
            self._status = response.get("status", self._status)
            self.is_complete = self.is_complete or text_or_none(event.get("type")) in _LAST or "type" not in event


def _response_in(event: dict[str, Any]) -> dict[str, Any] | None:
    response = event if event.get("object") == "response" else event.get("response")
    return response if isinstance(response, dict) else None


class _Output:
    """The output items of a response while their events arrive."""

    def __init__(self) -> None:
        self._items: dict[_Key, _Item] = {}
        self._places: dict[str, int] = {}
        self._parts = 0

    def add(self, kind: str, event: dict[str, Any]) -> None:
        name, _, step = kind.rpartition(".")
        piece = _PIECES.get(name)
        if piece is not None:
            item = self._item(event, event.get("item_id"), piece.item)
            self._parts += item.add_text(piece, step, event)
        elif name == "response.output_item":
            given = as_dict(event.get("item"))
            self._item(event, given.get("id"), text_or_none(given.get("type")) or "message").given |= given
        elif name == "response.content_part":
            part = as_dict(event.get("part"))
            kept = "reasoning" if part.get("type") == "reasoning_text" else "message"
            parts = self._item(event, event.get("item_id"), kept).parts
            self._parts += ("content", _place(event)) not in parts
            parts["content", _place(event)] = part
        check_parts(self._parts + len(self._items))

    def _item(self, event: dict[str, Any], name: object, kind: str) -> _Item:
        """Returns the item that an event is about: by its index, else by its id, else the only one of its type."""
        index = event.get("output_index")
        if isinstance(name, str):
            if isinstance(index, int):
                self._places[name] = index
            else:
                index = self._places.get(name, name)
        key = (index if isinstance(index, int | str) else "", kind)
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(kind)
        return item

    def whole(self) -> list[dict[str, Any]]:
        order = sorted(self._items, key=lambda key: key[0] if isinstance(key[0], int) else len(self._items))
        return [self._items[key].whole() for key in order]


class _Item:
    """One output item."""

    __slots__ = ("given", "parts", "texts")

    def __init__(self, kind: str) -> None:
        self.given: dict[str, Any] = {"type": kind, "role": "assistant"} if kind == "message" else {"type": kind}
        self.parts: dict[tuple[str, int], dict[str, Any]] = {}
        self.texts: dict[tuple[_Piece, int], list[str]] = {}

    def add_text(self, piece: _Piece, step: str, event: dict[str, Any]) -> bool:
        """Adds a piece of a text, or replaces the text by the whole one, which comes at its end.

        Returns whether it is a new text.
        """
        place = (piece, _place(event))
        is_new = place not in self.texts
        text = event.get("delta" if step == "delta" else piece.text)
        if isinstance(text, str) and text:
            if step == "delta":
                self.texts.setdefault(place, []).append(text)
            else:
                self.texts[place] = [text]
        return is_new and place in self.texts

    def whole(self) -> dict[str, Any]:
        item, parts = dict(self.given), dict(self.parts)
        for (piece, place), texts in self.texts.items():
            if piece.parts:
                known = parts.get((piece.parts, place), {"type": piece.part})
                parts[piece.parts, place] = known | {piece.text: joined(texts)}
            elif not item.get(piece.text):
                item[piece.text] = joined(texts)
        for name in ("content", "summary"):
            if not item.get(name):
                found = [parts[key] for key in sorted(parts) if key[0] == name]
                item |= {name: found} if found else {}
        return item


def _place(event: dict[str, Any]) -> int:
    index = event.get("content_index", event.get("summary_index"))
    return index if isinstance(index, int) else 0
