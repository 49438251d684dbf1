"""Responses: `POST /v1/responses` (OpenAI API reference, "Responses").

A response says what a chat completion says, in another shape. So it is read as one: `_as_chat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import Shorthand, chat, usage_of
from connector.endpoints._plain import ROOM, dial, packing, wire_form
from connector.endpoints._prompt import as_text, image_of, in_json
from connector.endpoints._responses_concessions import CONCESSIONS, schema_of, told
from connector.endpoints._responses_stream import fold
from connector.endpoints._shapes import listed, mapped, text_of, text_or_none

PATH: Final = "/responses"
COLUMNS: Final[Mapping[str, str]] = {"content": "{{ content }}"}

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_PART: Final[Schema] = {"type": "object", "properties": {"type": _TEXT, "text": _TEXT, "refusal": _TEXT}}
_PARTS: Final[Schema] = {"type": "array", "items": _PART}
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "object": _TEXT,
        "created_at": {"type": "number"},
        "model": _TEXT,
        "status": _TEXT,
        "service_tier": _TEXT,
        "output": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": _TEXT,
                    "type": _TEXT,
                    "role": _TEXT,
                    "status": _TEXT,
                    "content": _PARTS,
                    "summary": _PARTS,
                    "call_id": _TEXT,
                    "name": _TEXT,
                    "arguments": _TEXT,
                },
            },
        },
        "usage": {
            "type": "object",
            "properties": {
                "input_tokens": _COUNT,
                "output_tokens": _COUNT,
                "total_tokens": _COUNT,
                "input_tokens_details": {"type": "object", "properties": {"cached_tokens": _COUNT}},
                "output_tokens_details": {"type": "object", "properties": {"reasoning_tokens": _COUNT}},
            },
        },
    },
}

_LEAST_TOKENS: Final = 16  # OpenAI takes no lower limit
_NO_PARAMETERS: Final[Schema] = {"type": "object", "properties": {}}


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """The system prompt as `instructions` and the prompt as `input`: as items where images go with it."""
    prompt: JSON = "" if shorthand.prompt is None else as_text(shorthand.prompt)
    if shorthand.images:
        detail = shorthand.detail or "auto"  # the API reference requires it, and so do servers that check its types
        parts = [{"type": "input_text", "text": prompt}] if prompt else []
        images = [{"type": "input_image", "image_url": image_of(name), "detail": detail} for name in shorthand.images]
        prompt = [{"role": "user", "content": [*parts, *images]}]
    given = {
        "model": shorthand.model,
        "instructions": None if shorthand.system_prompt is None else as_text(shorthand.system_prompt),
        "input": prompt,
        "tools": None if shorthand.tools is None else [_tool(tool) for tool in shorthand.tools],
        "tool_choice": _flat(shorthand.tool_choice),
        "max_output_tokens": shorthand.max_tokens,
        "temperature": shorthand.temperature,
    }
    return {name: value for name, value in given.items() if value is not None}


def _tool(tool: JSON) -> JSON:
    """A function as chat completions describe it, where strict has to be asked for; here it is the default."""
    flat = _flat(tool)
    return flat if flat is tool else {"parameters": _NO_PARAMETERS, "strict": False, **flat}


def _flat(value: JSON) -> JSON:
    """`{"type": "function", "function": {…}}` with its inner object's names beside the type; all else as it is."""
    function = mapped(value).get("function")
    return {"type": "function", **function} if isinstance(function, dict) else value


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `text.format` as OpenAI's structured outputs define it, unless the body has one of its own."""
    text = mapped(body.get("text"))
    if "format" in text:
        return body
    described = mapped(chat.structured({}, schema)["response_format"])["json_schema"]
    return {**body, "text": {**text, "format": {"type": "json_schema", **described}}}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`. The last event carries the usage without being asked to."""
    return {**body, "stream": True}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One word for the fewest tokens that may be asked for, to the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "input": "ping", "max_output_tokens": _LEAST_TOKENS}


def answer(body: dict[str, Any]) -> Answer:
    """Reads all messages as one text, as OpenAI's libraries do. A failed, cut or filtered one is no success."""
    read = chat.answer(_as_chat(body))
    ended = _ended(body)
    if ended is not None:
        return read._replace(status=ended[0], problem=ended[1])
    if not isinstance(body.get("output"), list):
        return read._replace(status=Status.INVALID_OUTPUT, problem="the reply has no output")
    return read


def _ended(body: dict[str, Any]) -> tuple[Status, str] | None:
    """How the response says itself that it did not go well."""
    status, error = body.get("status"), body.get("error")
    if error or status in ("failed", "cancelled"):
        told = text_or_none(mapped(error).get("message")) or text_or_none(error) or "without saying why"
        return Status.ERROR, "the reply was cancelled" if status == "cancelled" else f"the endpoint failed: {told}"
    if status in ("in_progress", "queued"):
        return Status.INVALID_OUTPUT, f"the reply is not ready ({status}): leave `background` out of the request"
    if status != "incomplete":
        return None
    reason = text_or_none(mapped(body.get("incomplete_details")).get("reason")) or "no reason given"
    if reason == "content_filter":
        return Status.FILTERED, f"the endpoint's content filter stopped the reply ({reason})"
    return Status.TRUNCATED, f"the reply was cut ({reason}): raise max_output_tokens"


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """As those of chat completions; `contents` are the texts of the messages, of which there is mostly one."""
    messages = [item for item in _items(body) if item.get("type") == "message"]
    return {**chat.values(_as_chat(body)), "contents": [text_of(item.get("content")) for item in messages]}


def value_types(request: JSON) -> dict[str, Schema]:
    """As those of chat completions."""
    tools = [mapped(tool) for tool in listed(mapped(request).get("tools"))]
    return chat.value_types({"tools": [tool if "function" in tool else {"function": tool} for tool in tools]})


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON]:
    """The input goes on: the reply (not every server takes one as an item), what is wrong with it, and the schema.

    llama.cpp ignores `text.format`, so the input may say nothing of the schema yet.
    """
    schema = schema_of(body)
    wanted = "Reply with the corrected JSON only." if schema is None else in_json(schema)
    return told(body, f"Your last reply was:\n\n{content}\n\nIt cannot be used: {problem}. {wanted}")


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Four times the limit."""
    most = body.get("max_output_tokens")
    return {**body, "max_output_tokens": most * 4} if isinstance(most, int) else None


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in listed(body.get("output")) if isinstance(item, dict)]


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """The same as a chat completion of one choice. Where it says nothing of its end, its status stands for that."""
    contents: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    calls: list[JSON] = []
    for item in _items(body):
        kind, parts = item.get("type"), item.get("content")
        if kind == "message":
            contents += filter(None, [text_of(parts)])
            refusals += [part["refusal"] for part in listed(parts) if text_or_none(mapped(part).get("refusal"))]
        elif kind == "reasoning":
            told = listed(parts) or listed(item.get("summary"))
            thoughts += filter(None, (text_or_none(mapped(part).get("text")) for part in told))
        elif kind == "function_call":
            calls.append({"id": item.get("call_id") or item.get("id"), "function": item})
    message = {
        "content": "".join(contents) if contents else None,
        "refusal": "\n".join(refusals),
        "reasoning": "\n\n".join(thoughts) or None,
        "tool_calls": calls,
    }
    reason = mapped(body.get("incomplete_details")).get("reason") or body.get("status")
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"model": body.get("model"), "usage": body.get("usage"), "choices": [choice]}
