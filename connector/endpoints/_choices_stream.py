"""Merges the chunks of a streamed chat completion or completion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from connector.base.decoding import joined, loads
from connector.base.errors import APITimeoutError, CutError
from connector.endpoints import NearEnd, usage_elsewhere
from connector.endpoints._shapes import as_dict, as_list, check_parts, index_of, text_of, text_or_none
from connector.replies.inline_errors import says_nothing

_TEXT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_PIECES: Final = frozenset({"delta", "message", "index"})
_BESIDE: Final = ("usage", "x_groq", "prompt_filter_results", "hook_results", "citations", "search_results")
_MOST_REPEATS: Final = 8
_OBJECTS: Final = ("chat.completion", "text_completion")
_SAY_NOTHING: Final = frozenset({"id", "created", "model", "system_fingerprint", "service_tier", "provider", "error"})


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event is a chunk: it has choices, or what servers send beside them, or metadata only."""
    if isinstance(event.get("choices"), list) or any(event.get(name) for name in _BESIDE):
        return True
    return str(event.get("object", "")).startswith(_OBJECTS) or event.keys() <= _SAY_NOTHING


def fold(events: Iterable[dict[str, Any]], near_end: NearEnd | None = None) -> tuple[dict[str, Any], bool]:
    """Merges `chat.completion.chunk` events into one `chat.completion`.

    Texts are joined at the end, which also repairs an emoji that was split between chunks. The stream is complete if
    each choice has a `finish_reason`: several take turns, and it may be cut in the middle of the last one. Not every
    server sends one for each choice, but such a stream ends with `[DONE]`. Unknown shapes are skipped.

    It is near its end after a chunk with nothing but the first `finish_reason`, as that follows all of a text; or after
    a chunk with the usage and no choice, which follows everything. Some servers send a `finish_reason` with each piece,
    and some go on after one about tool calls, which they make themselves.
    """
    body: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    is_over: bool | None = None  # not known before the first `finish_reason`
    try:
        for event in events:
            for key, value in event.items():
                if key == "choices":
                    for chunk in as_list(value):
                        if chunk and isinstance(chunk, dict):
                            index = index_of(chunk)
                            choice = choices.get(index)
                            if choice is None:
                                check_parts(len(choices))
                                choice = choices[index] = _Choice(index)
                            choice.add(chunk)
                            if is_over is not None:
                                is_over = is_over and _is_silent(chunk)
                            elif chunk.get("finish_reason"):
                                is_over = _is_silent(chunk) and choice.is_text
                elif value is not None and value != "" and not (key == "error" and says_nothing(value)):
                    body[key] = value
            if is_over is not None and near_end is not None:
                is_over = is_over or bool(event.get("usage") and not event.get("choices"))
                if is_over:
                    near_end("usage" in body)
    except (CutError, APITimeoutError):
        if not is_over or near_end is None:
            raise
    if not body and not choices:
        return {}, False
    body["object"] = "chat.completion"
    body["choices"] = [choices[index].whole() for index in sorted(choices)]
    if "usage" not in body and (usage := usage_elsewhere(body)) is not None:
        body["usage"] = usage
    return body, bool(choices) and all(choice.rest.get("finish_reason") for choice in choices.values())


def _is_silent(chunk: dict[str, Any]) -> bool:
    """Returns whether a chunk adds nothing to its choice's message."""
    return "message" not in chunk and not any(
        value for name, value in as_dict(chunk.get("delta")).items() if name != "role"
    )


class _Choice:
    """One choice while its chunks arrive."""

    __slots__ = ("calls", "function", "known", "message", "rest", "texts")

    def __init__(self, index: int) -> None:
        self.rest: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.calls: list[_Call] = []
        self.known: dict[tuple[int | None, str | None], _Call] = {}
        self.function: _Call | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        if "delta" not in chunk and "message" in chunk:  # the whole message so far, not a piece of it
            self.texts.clear()
            self.calls.clear()
            self.known.clear()
            self.function = None
        for name, part in as_dict(chunk["delta"] if "delta" in chunk else chunk.get("message")).items():
            if type(part) is str and name in _TEXT_FIELDS:
                self.texts[name].append(part)
            elif part is not None:
                self._add_part(name, part)
        for key, value in chunk.items():
            if value is None or key in _PIECES:
                continue
            if key == "logprobs":
                for name, items in as_dict(value).items():
                    known = self.rest.setdefault(key, {})
                    if items is None:
                        known.setdefault(name, None)
                    else:
                        _extend(known, name, as_list(items))
            else:
                self.rest[key] = value

    @property
    def is_text(self) -> bool:
        """Whether it has a text and no tool calls."""
        return not self.calls and self.function is None and any(map(any, self.texts.values()))

    def _add_part(self, name: str, part: Any) -> None:
        text = text_of(part) if name in _TEXT_FIELDS else None
        if text is not None:
            self.texts[name].append(text)
        elif name == "tool_calls":
            before = len(self.calls)
            for piece in filter(as_dict, as_list(part)):
                self._call_of(piece, before).add(piece)
        elif name == "function_call" and isinstance(part, dict):
            self.function = self.function or _Call(None, 0)
            self.function.add({"function": part})
        elif isinstance(part, list):
            _extend(self.message, name, part)
        else:
            self.message[name] = part

    def _call_of(self, piece: dict[str, Any], before: int) -> _Call:
        """Returns the call that a piece belongs to; `before` is the number of calls before its delta.

        Indexes alone cannot distinguish calls: some servers give all calls the same index, and some give none.
        """
        index = piece.get("index")
        index = index if type(index) is int else None
        name = text_or_none(piece.get("id")) or None
        call = self.known.get((index, name)) if name else None
        if call is None:
            call = self.known.get((index, None))  # the last one
            if call is None or call.is_followed_by(piece, beside=call.place >= before):
                check_parts(len(self.calls))
                call = _Call(index, len(self.calls))
                self.calls.append(call)
        for at in {index, None}:
            self.known[at, None] = call
            if name:
                self.known.setdefault((at, name), call)
        return call

    def whole(self) -> dict[str, Any]:
        message = self.message | {name: joined(parts) for name, parts in self.texts.items()}
        if self.calls:
            order = sorted(self.calls, key=lambda call: len(self.calls) if call.index is None else call.index)
            message["tool_calls"] = [call.finished() for call in order]
        if self.function is not None:
            message["function_call"] = self.function.finished()["function"]
        return self.rest | {"message": message}


class _Call:
    """One tool call while its pieces arrive. It keeps the first id that it gets."""

    __slots__ = ("arguments", "index", "place", "repeats", "whole")

    def __init__(self, index: int | None, place: int) -> None:
        self.index = index
        self.place = place
        self.repeats = 0
        self.whole: dict[str, Any] = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        self.arguments: list[str] = []

    def add(self, piece: dict[str, Any]) -> None:
        for key, value in piece.items():
            if value and key not in ("index", "function") and not (key == "id" and self.whole["id"]):
                self.whole[key] = value
        for key, value in as_dict(piece.get("function")).items():
            if key == "arguments" and isinstance(value, str):
                self.arguments.append(value)
            elif value:
                self.whole["function"][key] = value

    def is_followed_by(self, piece: dict[str, Any], *, beside: bool) -> bool:
        """Returns whether a piece with this call's index starts another call, which it can only do with a name.

        `beside`: both came in one delta. Some servers repeat the name with each piece, or give each piece a new id.
        """
        name, function = _name(piece), self.whole["function"]
        if not name:
            return False
        if beside or function["name"] not in ("", name):
            return True
        has_other_id = bool(piece.get("id") and self.whole["id"])
        return (has_other_id or any(self.arguments) or function["arguments"] != "") and not self._is_cut()

    def _is_cut(self) -> bool:
        """Returns whether the arguments so far are not whole JSON. After eight failed parses it assumes so."""
        if not any(self.arguments):
            return False
        if self.repeats < _MOST_REPEATS:
            try:
                loads("".join(self.arguments))
            except ValueError:
                self.repeats += 1
            else:
                return False
        return True

    def finished(self) -> dict[str, Any]:
        if self.arguments:
            self.whole["function"]["arguments"] = joined(self.arguments)
        return self.whole


def _name(piece: dict[str, Any]) -> str | None:
    return text_or_none(as_dict(piece.get("function")).get("name"))


def _extend(target: dict[str, Any], name: str, items: list[Any]) -> None:
    if not isinstance(target.get(name), list):
        target[name] = []
    target[name].extend(items)
