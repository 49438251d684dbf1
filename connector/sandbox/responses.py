"""Responses of the sandbox: each has the content of the reply to the same chat request.

Shapes are those of https://platform.openai.com/docs/api-reference (responses/object, responses-streaming). Input items
that are not messages have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator

from connector.sandbox.chat import reply as chat_reply
from connector.sandbox.validation import COUNT, FLAG, FORMAT, PARTS, TEXT, form
from connector.sandbox.values import TOKEN

_FUNCTION: Final = form("name", name=TEXT, parameters=form())
_SCHEMA: Final = form("name", "schema", name=TEXT, schema=form())
REQUEST: Final = Draft202012Validator(
    form(
        "model",
        "input",
        model=TEXT,
        input={"type": ["string", "array"], "minItems": 1, "items": form(role=TEXT, content=PARTS)},
        instructions={"type": ["string", "null"]},
        max_output_tokens=COUNT | {"minimum": 16},
        stream=FLAG,
        tools={"type": "array", "items": _FUNCTION},
        tool_choice=_FUNCTION | {"type": ["string", "object"]},
        text=form(format=FORMAT | {"if": {"properties": {"type": {"const": "json_schema"}}}, "then": _SCHEMA}),
    )
)
_STOPPED: Final = {"length": {"reason": "max_output_tokens"}}


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the whole reply to a checked request."""
    whole = chat_reply(_as_chat(body))
    (choice,) = whole["choices"]
    number = whole["id"].removeprefix("chatcmpl-")
    stopped = _STOPPED.get(choice["finish_reason"])
    status = "incomplete" if stopped else "completed"
    output = [
        {"id": f"fc_{number}", "type": "function_call", "status": status, "call_id": call["id"], **call["function"]}
        for call in choice["message"].get("tool_calls", ())
    ]
    if not output:
        part = {"type": "output_text", "text": choice["message"]["content"], "annotations": []}
        message = {"id": f"msg_{number}", "type": "message", "status": status, "role": "assistant", "content": [part]}
        output = [message]
    usage = whole["usage"]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": whole["created"],
        "status": status,
        "error": None,
        "incomplete_details": stopped,
        "model": whole["model"],
        "output": output,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    given, choice, shape = body["input"], body.get("tool_choice"), (body.get("text") or {}).get("format")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    messages = [*system, *(item for item in items if "role" in item)] or [{"role": "user", "content": ""}]
    form = shape and ({"type": "json_schema", "json_schema": shape} if shape["type"] == "json_schema" else shape)
    return {
        "model": body["model"],
        "messages": messages,
        "max_tokens": body.get("max_output_tokens"),
        "tools": [{"function": tool} for tool in body.get("tools") or ()],
        "tool_choice": {"function": choice} if isinstance(choice, dict) else choice,
        "response_format": form,
    }


def _events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    opened = whole | {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield {"type": "response.created", "response": opened}
    yield {"type": "response.in_progress", "response": opened}
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        is_call = item["type"] == "function_call"
        nothing: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
        yield {
            "type": "response.output_item.added",
            "output_index": index,
            "item": item | nothing | {"status": "in_progress"},
        }
        for event in _call_events(item) if is_call else _text_events(item["content"][0]):
            yield place | event
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{whole['status']}", "response": whole}


def _call_events(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for token in TOKEN.findall(call["arguments"]):
        yield {"type": "response.function_call_arguments.delta", "delta": token}
    yield {"type": "response.function_call_arguments.done", "arguments": call["arguments"]}


def _text_events(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.content_part.added", "content_index": 0, "part": part | {"text": ""}}
    for token in TOKEN.findall(part["text"]):
        yield {"type": "response.output_text.delta", "content_index": 0, "delta": token}
    yield {"type": "response.output_text.done", "content_index": 0, "text": part["text"]}
    yield {"type": "response.content_part.done", "content_index": 0, "part": part}


def stream(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:  # noqa: ARG001 - the last event always has it
    """Yields the reply as server-sent events; the last one holds the whole reply. There is no `[DONE]`."""
    for number, event in enumerate(_events(whole)):
        yield b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event | {"sequence_number": number}))
