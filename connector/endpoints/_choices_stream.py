"""Merges the chunks of a streamed chat completion or completion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

from connector.base import numbers
from connector.base.decoding import joined, loads
from connector.endpoints import MOMENT, EndOfStream, usage_elsewhere
from connector.endpoints._shapes import as_dict, as_list, check_parts, index_of, text_of, text_or_none
from connector.replies.inline_errors import says_nothing

_TEXT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_PIECES: Final = frozenset({"delta", "message", "index"})
_BESIDE: Final = ("usage", "x_groq", "prompt_filter_results", "hook_results", "citations", "search_results")
_CALLING: Final = ("tool_calls", "function_call")
_MOST_REPEATS: Final = 8
_USAGE_COMES: Final = 5.0  # seconds that the usage may come after the end of the text
_OBJECTS: Final = ("chat.completion", "text_completion")
_SAY_NOTHING: Final = frozenset({"id", "created", "model", "system_fingerprint", "service_tier", "provider", "error"})


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event is a chunk: it has choices, or what servers send beside them, or metadata only."""
    if isinstance(event.get("choices"), list) or any(event.get(name) for name in _BESIDE):
        return True
    return str(event.get("object", "")).startswith(_OBJECTS) or event.keys() <= _SAY_NOTHING


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merges `chat.completion.chunk` events into one `chat.completion`.

    Texts are joined at the end, which also repairs an emoji that was split between chunks. Unknown shapes are skipped.
    """
    body: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
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
            elif value is not None and value != "" and not (key == "error" and says_nothing(value)):
                body[key] = value
    if not body and not choices:
        return {}
    body["object"] = "chat.completion"
    body["choices"] = [choices[index].whole() for index in sorted(choices)]
    if "usage" not in body and (usage := usage_elsewhere(body)) is not None:
        body["usage"] = usage
    return body


def end_of_stream(request: bytes) -> EndOfStream:
    """Returns what calls a stream complete once each of its choices has ended."""
    return _LastChoice(request)


class _LastChoice(EndOfStream):
    """Finds the end of the last choice. Choices may come in turn, so the number of those asked for must be known.

    A stream is complete if each choice that has begun has ended: it may be cut in the middle of the last one. Not every
    server sends a `finish_reason` for each choice, but such a stream ends with `[DONE]`.

    More of a choice may follow its `finish_reason` unless that comes after all of a text, and not with a piece of it.
    Some servers send one with each piece, and some go on after one about tool calls, which they make themselves, with
    the usage of each step. Else nothing follows a chunk with the usage and no choice.
    """

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self._request = request
        self._before: dict[int, dict[str, Any]] = {}  # the last chunk of each choice
        self._ended: dict[int, bool] = {}  # whether nothing can follow what has come of the choice
        self._has_usage = False
        self._has_called = False

    @cached_property
    def _asked(self) -> int:
        """How many choices the request asks for; 0 if it does not say so plainly."""
        request = as_dict(numbers.loads(self._request))
        number, prompt = request.get("n"), request.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0] if prompt else 0, int) else 1
        return prompts if number is None else number * prompts if type(number) is int else 0

    @property
    def patience(self) -> float | None:
        """See `EndOfStream`. The request is decoded only once the rest has to be waited for."""
        if not (self.is_complete and all(self._ended.values()) and len(self._ended) == self._asked):
            return None
        return MOMENT if self._has_usage else _USAGE_COMES

    def follow(self, event: dict[str, Any]) -> None:
        """See `EndOfStream`."""
        chunks = as_list(event.get("choices"))
        for chunk in chunks:
            if chunk and isinstance(chunk, dict):
                index = index_of(chunk)
                if index in self._ended:
                    self._ended[index] = self._ended[index] and not _adds(chunk)
                elif reason := chunk.get("finish_reason"):
                    self._has_called = self._has_called or reason in _CALLING
                    follows_text = reason not in _CALLING and _adds_text(self._before.get(index, {}))
                    self._ended[index] = follows_text and not _adds(chunk)
                elif index not in self._before:
                    check_parts(len(self._before))
                self._before[index] = chunk
        if event.get("usage"):
            self._has_usage = True
        self.is_complete = 0 < len(self._ended) == len(self._before)
        if self.is_complete and not chunks and event.get("usage") and not self._has_called:
            self._ended = dict.fromkeys(self._ended, True)


def _adds(chunk: dict[str, Any]) -> bool:
    """Returns whether a chunk adds anything to its choice's message."""
    if chunk.get("text") or "message" in chunk:
        return True
    return any(value for name, value in as_dict(chunk.get("delta")).items() if name != "role")


def _adds_text(chunk: dict[str, Any]) -> bool:
    """Returns whether a chunk adds a text to its choice's message, and no tool call."""
    message = as_dict(chunk["delta"] if "delta" in chunk else chunk.get("message"))
    if any(message.get(name) for name in _CALLING):
        return False
    return bool(chunk.get("text")) or any(text_of(message.get(name)) for name in _TEXT_FIELDS)


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
