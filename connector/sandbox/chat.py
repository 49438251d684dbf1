"""Chat completions of the sandbox.

Shapes are those of https://platform.openai.com/docs/api-reference (chat/object, chat-streaming).

The reply to a request that does not ask for JSON is "Sandbox reply to: " and the first 24 words of the message.
Parameters that are not named here have no effect.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

import orjson
from jsonschema import Draft202012Validator

from connector.base.records import Schema
from connector.sandbox.validation import (
    COUNT,
    FLAG,
    MODEL,
    PARTS,
    RESPONSE_FORMAT,
    STREAM_OPTIONS,
    TEXT,
    APIError,
    form,
)
from connector.sandbox.values import TOKEN, data_of, first_words, written

_FUNCTION: Final = form("function", function=form("name", name=TEXT, parameters=form()))
REQUEST: Final = Draft202012Validator(
    form(
        "model",
        "messages",
        model=TEXT,
        messages={"type": "array", "minItems": 1, "items": form("role", role=TEXT, content=PARTS)},
        n=COUNT | {"maximum": 128},
        max_tokens=COUNT,
        max_completion_tokens=COUNT,
        stream=FLAG,
        stream_options=STREAM_OPTIONS,
        tools={"type": "array", "items": _FUNCTION},
        tool_choice=_FUNCTION | {"type": ["string", "object"]},
        response_format=RESPONSE_FORMAT,
    )
)


class _Wanted(NamedTuple):
    """The JSON that a request asks for, and the parameter that does so. `tool`: whether it is a function call."""

    param: str
    name: str
    schema: Schema
    tool: bool = False

    def write(self, data: str, salt: int) -> str:
        try:
            return written(self.schema, data, salt)
        except ValueError as error:
            raise APIError(400, f"Invalid schema for {self.param} '{self.name}': {error}.", self.param) from None


def _wanted(body: dict[str, Any]) -> _Wanted | None:
    choice, shape = body.get("tool_choice"), body.get("response_format") or {"type": "text"}
    if choice == "required" or isinstance(choice, dict):
        name = choice["function"]["name"] if isinstance(choice, dict) else None
        for function in (tool["function"] for tool in body.get("tools") or ()):
            if name in {None, function["name"]}:
                schema = {"type": "object"} | function.get("parameters", {})
                return _Wanted("tools", function["name"], schema, tool=True)
        message = "Invalid 'tool_choice': there is no such function in 'tools'."
        raise APIError(400, message, "tool_choice", "invalid_value")
    if shape["type"] == "json_schema":
        return _Wanted("response_format", shape["json_schema"]["name"], shape["json_schema"]["schema"])
    if shape["type"] == "json_object":
        return _Wanted("response_format", "json_object", form("reply", reply=TEXT))
    return None


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the whole reply to a checked request."""
    messages, wanted = body["messages"], _wanted(body)
    prompt = _text_of(next((message for message in reversed(messages) if message["role"] == "user"), messages[-1]))
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    choices, spent = [], 0
    for index in range(int(body.get("n") or 1)):
        greeting = f"Sandbox reply {index + 1} to:" if index else "Sandbox reply to:"
        tokens = TOKEN.findall(
            wanted.write(data_of(prompt), index) if wanted else f"{greeting} {first_words(prompt, 24)}"
        )
        kept = tokens[: int(most or len(tokens))]
        spent += len(kept)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(kept), "refusal": None}
        if wanted and wanted.tool:
            call = {"name": wanted.name, "arguments": message["content"]}
            message |= {"content": None, "tool_calls": [{"id": f"call_{index}", "type": "function", "function": call}]}
        # As at OpenAI, a forced call of a named function ends with "stop".
        done = "tool_calls" if body.get("tool_choice") == "required" else "stop"
        reason = done if len(kept) == len(tokens) else "length"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
    given = sum(len(TOKEN.findall(_text_of(message))) for message in messages)
    usage = {"prompt_tokens": given, "completion_tokens": spent, "total_tokens": given + spent}
    details = {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return {
        "id": f"chatcmpl-{zlib.crc32(orjson.dumps(body)):08x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": choices,
        "usage": usage | details,
        "service_tier": "default",
        "system_fingerprint": "sandbox",
    }


def _chunks(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Splits a whole choice into the choices of a stream's chunks."""
    message = choice["message"]
    chunk = {"index": choice["index"], "logprobs": None, "finish_reason": None}
    yield chunk | {"delta": {"role": "assistant", "content": message["content"] and "", "refusal": None}}
    for token in TOKEN.findall(message["content"] or ""):
        yield chunk | {"delta": {"content": token}}
    for call in message.get("tool_calls", ()):
        function = call["function"]
        parts = [call | {"index": 0, "function": function | {"arguments": ""}}]
        parts += [{"index": 0, "function": {"arguments": token}} for token in TOKEN.findall(function["arguments"])]
        for part in parts:
            yield chunk | {"delta": {"tool_calls": [part]}}
    yield chunk | {"delta": {}, "finish_reason": choice["finish_reason"]}


def stream(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:
    """Yields the reply as server-sent events. Several choices take turns; the usage comes last, without choices."""
    head = whole | {"object": "chat.completion.chunk", "usage": None}
    if not usage:
        del head["usage"]
    for choice in filter(None, chain.from_iterable(zip_longest(*map(_chunks, whole["choices"])))):
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [choice]})
    if usage:
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"
