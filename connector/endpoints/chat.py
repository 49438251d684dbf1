"""Chat completions: `POST /v1/chat/completions` (OpenAI API reference, "Chat")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from connector.base.decoding import loads
from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import Packing, Shorthand, usage_of
from connector.endpoints._chat_concessions import CONCESSIONS
from connector.endpoints._chat_rows import Rows
from connector.endpoints._chat_stream import fold
from connector.endpoints._plain import ROOM, dial, wire_form
from connector.endpoints._prompt import as_text, image_of
from connector.endpoints._shapes import index_of, listed, mapped, text_of, text_or_none

PATH: Final = "/chat/completions"
COLUMNS: Final[Mapping[str, str]] = {"content": "{{ content }}"}

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


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """A conversation of the system prompt, where there is one, and the prompt. Nulls are left out."""
    prompt: JSON = None if shorthand.prompt is None else as_text(shorthand.prompt)
    if shorthand.images:
        detail = {"detail": shorthand.detail} if shorthand.detail else {}
        images = [{"type": "image_url", "image_url": {"url": image_of(name), **detail}} for name in shorthand.images]
        prompt = [*([{"type": "text", "text": prompt}] if prompt is not None else []), *images]
    system = None if shorthand.system_prompt is None else as_text(shorthand.system_prompt)
    messages = [
        {"role": role, "content": content} for role, content in (("system", system), ("user", prompt)) if content
    ]
    given = {
        "model": shorthand.model,
        "messages": messages,
        "tools": shorthand.tools,
        "tool_choice": shorthand.tool_choice,
        "max_tokens": shorthand.max_tokens,
        "temperature": shorthand.temperature,
    }
    return {name: value for name, value in given.items() if value is not None}


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `response_format` as OpenAI's structured outputs define it, unless the body has one of its own."""
    if "response_format" in body:
        return body
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(schema.get("title", "")))[:64] or "answer"  # all that OpenAI admits
    described = {"name": name, "strict": True, "schema": schema}
    return {**body, "response_format": {"type": "json_schema", "json_schema": described}}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, and the option that makes the last chunk carry the usage."""
    return {**body, "stream": True, "stream_options": {"include_usage": True, **mapped(body.get("stream_options"))}}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One word for one token, to the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}


def answer(body: dict[str, Any]) -> Answer:
    """Reads the choice with the lowest index. A cut, filtered, refused or empty one is no success."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    choices = [choice for choice in listed(body.get("choices")) if isinstance(choice, dict)]
    if not choices:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no choices")
    choice = choices[0] if len(choices) == 1 else min(choices, key=index_of)
    message = choice.get("message") or choice.get("delta")
    finish_reason = text_or_none(choice.get("finish_reason"))
    if not isinstance(message, dict):
        return Answer(None, finish_reason, model, usage, Status.INVALID_OUTPUT, "the reply's choice has no message")
    content = text_of(message.get("content"))
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
    calls = _calls(message) if "tool_calls" in message or "function_call" in message else None
    if not calls:
        empty = not (content or "").strip()
        return (Status.INVALID_OUTPUT, "the reply is empty") if empty else (Status.SUCCESS, None)
    wrong = next((call["name"] for call in calls if call["arguments"] is None), None)
    if wrong is not None:
        return Status.INVALID_OUTPUT, f"the arguments of the call of {wrong!r} are not a JSON object"
    return Status.SUCCESS, None


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """The texts of all choices, the reasoning, and the tool calls; `tool_name` and `arguments` are of the first one."""
    choices = sorted((choice for choice in listed(body.get("choices")) if isinstance(choice, dict)), key=index_of)
    messages = [mapped(choice.get("message") or choice.get("delta")) for choice in choices]
    first = messages[0] if messages else {}
    calls = _calls(first)
    return {
        "contents": [text_of(message.get("content")) for message in messages],
        "reasoning": text_of(first.get("reasoning_content") or first.get("reasoning")),
        "tool_calls": calls,
        "tool_name": calls[0]["name"] if calls else None,
        "arguments": calls[0]["arguments"] if calls else None,
    }


def value_types(request: JSON) -> dict[str, Schema]:
    """The arguments are typed where the request offers a single tool."""
    tools = listed(mapped(request).get("tools"))
    function = mapped(mapped(tools[0]).get("function")) if len(tools) == 1 else {}
    arguments = {"type": "object", **mapped(function.get("parameters"))}
    call = {"id": _TEXT, "name": _TEXT, "arguments": arguments}
    return {
        "content": _TEXT,
        "contents": {"type": "array", "items": _TEXT},
        "reasoning": _TEXT,
        "tool_calls": {"type": "array", "items": {"type": "object", "properties": call}},
        "tool_name": _TEXT,
        "arguments": arguments,
    }


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of a message, their arguments parsed: `None` where they are cut, or no object."""
    functions = [(call.get("id"), mapped(call.get("function"))) for call in listed(message.get("tool_calls")) if call]
    old = mapped(message.get("function_call"))  # what they were before there were tools
    return [
        {"id": name, "name": text_or_none(function.get("name")) or "", "arguments": _arguments(function)}
        for name, function in (functions or ([(None, old)] if old else []))
    ]


def _arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    given = function.get("arguments")
    if isinstance(given, dict):  # as some servers pass them on
        return given
    try:
        parsed = loads(given or "{}")
    except (TypeError, ValueError):
        return None
    return parsed if isinstance(parsed, dict) else None


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON]:
    """The conversation goes on: the reply, and what is wrong with it."""
    told = f"That reply cannot be used: {problem}. Reply again, with the corrected JSON only."
    further = [{"role": "assistant", "content": content}, {"role": "user", "content": told}]
    return {**body, "messages": [*listed(body.get("messages")), *further]}


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Four times the limit, whichever name it has."""
    caps = {name: body[name] * 4 for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)}
    return {**body, **caps} if caps else None


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Rows share a call only where the config asks for it: that changes what the model sees."""
    return Rows(rows_per_call, schema) if rows_per_call and rows_per_call > 1 else None
