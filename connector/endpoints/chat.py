"""Chat completions: `POST /v1/chat/completions` (OpenAI API reference, "Chat")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from connector.endpoints import usage_of
from connector.records import JSON, Answer, Schema, Status
from connector.values import joined

PATH: Final = "/chat/completions"

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_MESSAGE: Final[Schema] = {
    "type": "object",
    "properties": {"role": _TEXT, "content": _TEXT, "refusal": _TEXT, "reasoning_content": _TEXT, "reasoning": _TEXT},
}
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "object": _TEXT,
        "created": _COUNT,
        "model": _TEXT,
        "system_fingerprint": _TEXT,
        "service_tier": _TEXT,
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"index": _COUNT, "message": _MESSAGE, "delta": _MESSAGE, "finish_reason": _TEXT},
            },
        },
        "usage": {
            "type": "object",
            "properties": {
                "prompt_tokens": _COUNT,
                "completion_tokens": _COUNT,
                "total_tokens": _COUNT,
                "prompt_tokens_details": {"type": "object", "properties": {"cached_tokens": _COUNT}},
                "completion_tokens_details": {"type": "object", "properties": {"reasoning_tokens": _COUNT}},
            },
        },
    },
}

# What OpenAI calls "length" and "content_filter", and the names that other servers pass through from their engines.
_CUT: Final = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_FILTERED: Final = frozenset({"content_filter", "content-filter", "safety", "recitation", "blocklist", "refusal"})
_TEXT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")


def request_format(model: str | None, system_prompt: str | None, prompt: str | None) -> dict[str, JSON]:
    """A conversation of the system prompt, where there is one, and the prompt. Nulls are left out."""
    messages = [
        {"role": role, "content": _as_text(content)}
        for role, content in (("system", system_prompt), ("user", prompt))
        if content is not None
    ]
    return {"model": model, "messages": messages} if model else {"messages": messages}


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `response_format` as OpenAI's structured outputs define it, unless the body has one of its own."""
    if "response_format" in body:
        return body
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(schema.get("title", "")))[:64] or "answer"  # all that OpenAI admits
    described = {"name": name, "strict": True, "schema": schema}
    return {**body, "response_format": {"type": "json_schema", "json_schema": described}}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, and the option that makes the last chunk carry the usage."""
    return {**body, "stream": True, "stream_options": {"include_usage": True, **_dict(body.get("stream_options"))}}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One word for one token, to the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Puts `chat.completion.chunk` events together into one `chat.completion`.

    Text is joined once at the end, so a cut emoji is whole again. Complete is a stream in which some choice has a
    `finish_reason`: not every server gives one for each. What is of no known shape is passed over.
    """
    body: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for event in events:
        for key, value in event.items():
            if key == "choices":
                for chunk in filter(_dict, _list(value)):
                    index = _index(chunk)
                    if index not in choices:
                        choices[index] = _Choice(index)
                    choices[index].add(chunk)
            elif value is not None and value != "":
                body[key] = value
    if not body and not choices:
        return {}, False
    body["object"] = "chat.completion"
    body["choices"] = [choices[index].whole() for index in sorted(choices)]
    return body, any(choice.rest.get("finish_reason") for choice in choices.values())


class _Choice:
    """One choice of a stream while its chunks arrive."""

    __slots__ = ("arguments", "message", "rest", "texts", "tools")

    def __init__(self, index: int) -> None:
        self.rest: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.texts: dict[str, list[str]] = {}
        self.tools: dict[int, dict[str, Any]] = {}
        self.arguments: dict[int, list[str]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        if "delta" not in chunk and "message" in chunk:  # the message so far, which is no piece of it
            self.texts.clear()
        for name, part in _dict(chunk.get("delta", chunk.get("message"))).items():
            if part is not None:
                self._add_part(name, part)
        for name, items in _dict(chunk.get("logprobs")).items():
            _extend(self.rest.setdefault("logprobs", {}), name, _list(items))
        known = ("delta", "message", "index", "logprobs")
        self.rest |= {key: value for key, value in chunk.items() if key not in known and value is not None}

    def _add_part(self, name: str, part: Any) -> None:
        text = _content(part) if name in _TEXT_FIELDS else None
        if text is not None:
            self.texts.setdefault(name, []).append(text)
        elif name == "tool_calls":
            for position, call in enumerate(filter(_dict, _list(part))):
                self._add_tool_call(self._tool_index(call, position), call)
        elif isinstance(part, list):
            _extend(self.message, name, part)
        else:
            self.message[name] = part

    def _tool_index(self, delta: dict[str, Any], position: int) -> int:
        """Without an index, it is the call with the same id, a new one for a new id, and the last one for none."""
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
        for key, value in _dict(delta.get("function")).items():
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


def answer(body: dict[str, Any]) -> Answer:
    """Reads the choice with the lowest index. A cut, filtered, refused or empty one is no success."""
    usage, model = usage_of(body), body.get("model")
    model = model if isinstance(model, str) else None
    choices = [choice for choice in _list(body.get("choices")) if isinstance(choice, dict)]
    if not choices:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no choices")
    choice = min(choices, key=_index)
    message = choice.get("message") or choice.get("delta")
    finish_reason = choice.get("finish_reason")
    finish_reason = finish_reason if isinstance(finish_reason, str) else None
    if not isinstance(message, dict):
        return Answer(None, finish_reason, model, usage, Status.INVALID_OUTPUT, "the reply's choice has no message")
    content = _content(message.get("content"))
    status, problem = _judged(message, content, (finish_reason or "").lower())
    return Answer(content, finish_reason, model, usage, status, problem)


def _judged(message: dict[str, Any], content: str | None, finish_reason: str) -> tuple[Status, str | None]:
    if finish_reason in _CUT:
        return Status.TRUNCATED, "the reply was cut at the token limit: raise max_tokens"
    if finish_reason in _FILTERED:
        return Status.FILTERED, f"the endpoint's content filter stopped the reply ({finish_reason})"
    if message.get("refusal"):
        return Status.FILTERED, f"the model refused: {message['refusal']}"
    if finish_reason == "error":
        return Status.ERROR, "the endpoint ended the reply with an error"
    if not (content or "").strip() and not message.get("tool_calls") and not message.get("function_call"):
        return Status.INVALID_OUTPUT, "the reply is empty"
    return Status.SUCCESS, None


def _content(value: object) -> str | None:
    """The text of a message: as it stands, or joined where it comes as parts."""
    if isinstance(value, str):
        return value
    texts = [part.get("text") for part in _list(value) if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)) if texts else None


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _extend(target: dict[str, Any], name: str, items: list[Any]) -> None:
    if not isinstance(target.get(name), list):
        target[name] = []
    target[name].extend(items)


def _as_text(template: str) -> str:
    """A prompt is always a text: the comment keeps a lone `{{ column }}` from becoming a number or null in the JSON."""
    return template + "{# text #}" if template.lstrip().startswith("{{") else template
