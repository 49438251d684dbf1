"""Folding the chunks of a stream of choices, as chat completions and completions have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from connector.base.decoding import joined
from connector.endpoints._shapes import as_dict, as_list, index_of, text_of

_TEXT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_PIECES: Final = frozenset({"delta", "message", "index"})


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Puts `chat.completion.chunk` events together into one `chat.completion`.

    Texts are joined at the end, which makes an emoji whole again that was split between chunks. The stream is complete
    if a choice has a `finish_reason`; not every server gives one for each choice. Unknown shapes are skipped.
    """
    body: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for event in events:
        for key, value in event.items():
            if key == "choices":
                for chunk in filter(as_dict, as_list(value)):
                    index = index_of(chunk)
                    choice = choices.get(index)
                    if choice is None:
                        choice = choices[index] = _Choice(index)
                    choice.add(chunk)
            elif value is not None and value != "":
                body[key] = value
    if not body and not choices:
        return {}, False
    body["object"] = "chat.completion"
    body["choices"] = [choices[index].whole() for index in sorted(choices)]
    return body, any(choice.rest.get("finish_reason") for choice in choices.values())


class _Choice:
    """One choice while its chunks arrive."""

    __slots__ = ("arguments", "message", "rest", "texts", "tools")

    def __init__(self, index: int) -> None:
        self.rest: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.texts: dict[str, list[str]] = {}
        self.tools: dict[int, dict[str, Any]] = {}
        self.arguments: dict[int, list[str]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        if "delta" not in chunk and "message" in chunk:  # the whole message so far, not a piece of it
            self.texts.clear()
        for name, part in as_dict(chunk.get("delta", chunk.get("message"))).items():
            if part is not None:
                self._add_part(name, part)
        for key, value in chunk.items():
            if value is None or key in _PIECES:
                continue
            if key == "logprobs":
                for name, items in as_dict(value).items():
                    _extend(self.rest.setdefault(key, {}), name, as_list(items))
            else:
                self.rest[key] = value

    def _add_part(self, name: str, part: Any) -> None:
        text = text_of(part) if name in _TEXT_FIELDS else None
        if text is not None:
            self.texts.setdefault(name, []).append(text)
        elif name == "tool_calls":
            for position, call in enumerate(filter(as_dict, as_list(part))):
                self._add_tool_call(self._tool_index(call, position), call)
        elif isinstance(part, list):
            _extend(self.message, name, part)
        else:
            self.message[name] = part

    def _tool_index(self, delta: dict[str, Any], position: int) -> int:
        """Returns a call's index; without one, that of the call with its id; without an id, that of the last call."""
        index, name = delta.get("index"), delta.get("id")
        if isinstance(index, int):
            return index
        if not name:
            return position or max(self.tools, default=0)
        known = (at for at, call in self.tools.items() if call["id"] == name)
        return next(known, max(self.tools, default=-1) + 1)

    def _add_tool_call(self, index: int, delta: dict[str, Any]) -> None:
        call = self.tools.setdefault(index, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        call |= {key: value for key, value in delta.items() if key not in ("index", "function") and value}
        for key, value in as_dict(delta.get("function")).items():
            if key == "arguments" and isinstance(value, str):
                self.arguments.setdefault(index, []).append(value)
            elif value:
                call["function"][key] = value

    def whole(self) -> dict[str, Any]:
        message = self.message | {name: joined(parts) for name, parts in self.texts.items()}
        for index, parts in self.arguments.items():
            self.tools[index]["function"]["arguments"] = joined(parts)
        if self.tools:
            message["tool_calls"] = [self.tools[index] for index in sorted(self.tools)]
        return self.rest | {"message": message}


def _extend(target: dict[str, Any], name: str, items: list[Any]) -> None:
    if not isinstance(target.get(name), list):
        target[name] = []
    target[name].extend(items)
