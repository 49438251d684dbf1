"""Responses: `POST /v1/responses` (OpenAI API reference, "Responses").

A response has the content of a chat completion in another shape, so it is read as one: see `_as_chat`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import Expectation, Fallback, Shorthand, chat
from connector.endpoints._defaults import (
    COSTLY,
    HAS_OUTPUT_TOKENS,
    OVER_HTTP,
    REPLY_SIZE_FACTOR,
    decode,
    dedicated_model,
    encode,
    open_sender,
    packing,
)
from connector.endpoints._models import purpose_of as other_purpose
from connector.endpoints._prompt import as_text, image_of, schema_in_words
from connector.endpoints._response_stream import end_of_stream, fold, is_chunk
from connector.endpoints._shapes import as_dict, as_list, null_in, text_of, text_or_none
from connector.endpoints._tools import asked_by
from connector.replies.finish_reasons import Ending, ending_of
from connector.replies.inline_errors import says_nothing

PATH: Final = "/responses"
IN_BATCHES: Final = True
COLUMNS: Final[Mapping[str, str]] = {"content": "{{ content }}"}
IN_CAPABILITIES: Final = True

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

_LEAST_TOKENS: Final = 16  # OpenAI accepts no lower limit
_NO_PARAMETERS: Final[Schema] = {"type": "object", "properties": {}}


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns the system prompt as `instructions` and the prompt as `input`, in parts if there are images."""
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


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of the first input, content, text or image that is null. Instructions may be null."""
    given = body.get("input", "")
    found = null_in(given, "input")
    for place, item in enumerate(as_list(given)):
        if found is None and isinstance(item, dict):
            found = null_in(item.get("content", ""), f"input[{place}].content")
    return found


def _tool(tool: JSON) -> JSON:
    """Returns a tool without nesting. Strict is the default here, but not for a tool in chat's shape."""
    flat = _flat(tool)
    return flat if flat is tool else {"parameters": _NO_PARAMETERS, "strict": False, **flat}


def _flat(value: JSON) -> JSON:
    """Returns `{"type": "function", "function": {…}}` with the inner names beside the type; anything else as it is."""
    function = as_dict(value).get("function")
    return {"type": "function", **function} if isinstance(function, dict) else value


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `text.format` as OpenAI's structured outputs define it, unless the body has its own."""
    text = as_dict(body.get("text"))
    if "format" in text:
        return body
    described = as_dict(chat.structured({}, schema)["response_format"])["json_schema"]
    return {**body, "text": {**text, "format": {"type": "json_schema", **described}}}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`. The last event always carries the usage."""
    return {**body, "stream": True}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request of one word for the fewest tokens that OpenAI allows, with the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "input": "ping", "max_output_tokens": _LEAST_TOKENS}


def answer(body: dict[str, Any]) -> Answer:
    """Reads all messages as one text, as OpenAI's libraries do. Not a success if failed, truncated or filtered."""
    read = chat.answer(_as_chat(body))
    ended = _ended(body)
    if ended is not None:
        return read._replace(status=ended[0], problem=ended[1])
    if not isinstance(body.get("output"), list):
        return read._replace(status=Status.INVALID_OUTPUT, problem="the reply has no output")
    return read


def _ended(body: dict[str, Any]) -> tuple[Status, str] | None:
    """Returns the status and the problem of a response that reports that it failed or ended early."""
    status, error = text_or_none(body.get("status")) or "", body.get("error")
    if not says_nothing(error) or ending_of(status) is Ending.BROKEN_OFF:
        reason = text_or_none(as_dict(error).get("message")) or text_or_none(error) or "without saying why"
        return Status.ERROR, "the reply was cancelled" if "cancel" in status else f"the endpoint failed: {reason}"
    if status in ("in_progress", "queued"):
        return Status.INVALID_OUTPUT, f"the reply is not ready ({status}): leave `background` out of the request"
    if status != "incomplete":
        return None
    reason = text_or_none(as_dict(body.get("incomplete_details")).get("reason")) or "no reason given"
    ending = ending_of(reason)
    if ending is Ending.FILTERED:
        return Status.FILTERED, f"the endpoint's content filter stopped the reply ({reason})"
    if ending is Ending.BROKEN_OFF:
        return Status.ERROR, f"the endpoint broke off the reply ({reason})"
    return Status.TRUNCATED, f"the reply was cut ({reason}): raise max_output_tokens"


def broken_off(body: dict[str, Any]) -> str | None:
    """Returns why the response failed or was cancelled."""
    ended = _ended(body)
    return ended[1] if ended is not None and ended[0] is Status.ERROR else None


def expectation(request: JSON, reads: Collection[str]) -> Expectation | None:
    """Returns the check that a reply calls the required function, and none that is not offered."""
    asked = asked_by(request, reads)
    return None if asked is None else asked.unmet


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns the names that chat completions have. `contents` are the texts of the messages, usually one."""
    messages = [item for item in _items(body) if item.get("type") == "message"]
    return {**chat.values(_as_chat(body)), "contents": [text_of(item.get("content")) for item in messages]}


def value_types(request: JSON) -> dict[str, Schema]:
    """Returns the schemas that chat completions have."""
    tools = [as_dict(tool) for tool in as_list(as_dict(request).get("tools"))]
    return chat.value_types({"tools": [tool if "function" in tool else {"function": tool} for tool in tools]})


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON]:
    """Appends to the input the reply as text (not every server takes it as an item), its problem, and the schema.

    llama.cpp ignores `text.format`, so the model may not have seen the schema yet.
    """
    schema = requested_schema(body)
    wanted = "Reply with the corrected JSON only." if schema is None else schema_in_words(schema)
    return _appended(body, f"Your last reply was:\n\n{content}\n\nIt cannot be used: {problem}. {wanted}")


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Multiplies the limit by four."""
    most = body.get("max_output_tokens")
    return {**body, "max_output_tokens": most * 4} if isinstance(most, int) else None


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in as_list(body.get("output")) if isinstance(item, dict)]


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the response as a chat completion of one choice. Its `finish_reason` falls back to the `status`."""
    contents: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    calls: list[JSON] = []
    for item in _items(body):
        kind, parts = item.get("type"), item.get("content")
        if kind == "message":
            contents += filter(None, [text_of(parts)])
            refusals += [part["refusal"] for part in as_list(parts) if text_or_none(as_dict(part).get("refusal"))]
        elif kind == "reasoning":
            texts = as_list(parts) or as_list(item.get("summary"))
            thoughts += filter(None, (text_or_none(as_dict(part).get("text")) for part in texts))
        elif kind == "function_call":
            calls.append({"id": item.get("call_id") or item.get("id"), "function": item})
    message = {
        "content": "".join(contents) if contents else None,
        "refusal": "\n".join(refusals),
        "reasoning": "\n\n".join(thoughts) or None,
        "tool_calls": calls,
    }
    reason = as_dict(body.get("incomplete_details")).get("reason") or body.get("status")
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"model": body.get("model"), "usage": body.get("usage"), "choices": [choice]}


# --- Fallbacks ---

_UNKNOWN: Final = ("unsupported", "not supported", "unknown", "unrecognized", "unexpected", "not permitted", "moved")
_OLD_CAPS: Final = ("max_tokens", "max_completion_tokens")


def _appended(body: dict[str, JSON], words: str) -> dict[str, JSON]:
    """Appends words to the last message of the request, since not every model accepts another message."""
    asked: Any = body.get("input")
    if isinstance(asked, str):
        return {**body, "input": f"{asked}\n\n{words}" if asked else words}
    items = as_list(asked)
    last: Any = items[-1] if items else None
    if not isinstance(last, dict) or last.get("role") != "user" or not isinstance(last.get("content"), str | list):
        return {**body, "input": [*items, {"role": "user", "content": words}]}
    content = last["content"]
    longer = f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "input_text", "text": words}]
    return {**body, "input": [*items[:-1], {**last, "content": longer}]}


def _is_unknown(words: str, *names: str) -> bool:
    return any(name in words for name in names) and any(word in words for word in _UNKNOWN)


def _capped(old: tuple[str, ...], new: str, body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Returns the request with its token limit under another name, since without one it could cost more."""
    cap = next((body[name] for name in old if name in body), None)
    return None if cap is None else {**{name: body[name] for name in body if name not in old}, new: cap}


def _formatted(body: dict[str, JSON], form: JSON) -> dict[str, JSON]:
    """Returns the request with another `text.format`, or without one."""
    text = {name: value for name, value in as_dict(body.get("text")).items() if name != "format"}
    text |= {} if form is None else {"format": form}
    rest = {name: value for name, value in body.items() if name != "text"}
    return {**rest, "text": text} if text else rest


def _format_of(body: dict[str, JSON]) -> dict[str, Any]:
    return as_dict(as_dict(body.get("text")).get("format"))


def requested_schema(body: dict[str, JSON]) -> JSON | None:
    """Returns the schema that the request asks the reply to fit."""
    return _format_of(body).get("schema")


def _without_strict(body: dict[str, JSON]) -> dict[str, JSON] | None:
    form = _format_of(body)
    return _formatted(body, {**form, "strict": False}) if form.get("strict") else None


def _as_json_object(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks for JSON of any shape, with the schema in the input."""
    schema = requested_schema(body)
    return None if schema is None else _appended(_formatted(body, {"type": "json_object"}), schema_in_words(schema))


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks in the input alone. If JSON of any shape was tried before, the schema is already in the input."""
    form = _format_of(body)
    if not form:
        return None
    bare = _formatted(body, None)
    return _appended(bare, schema_in_words(form["schema"])) if "schema" in form else bare


def _is_about_the_schema(words: str) -> bool:
    return (
        "text.format" in words or chat.FALLBACKS["json_object"].matches(words) or _is_unknown(words, "'text'", ": text")
    )


FALLBACKS: Final[Mapping[str, Fallback]] = {
    "max_output_tokens": Fallback(
        lambda words: _is_unknown(words, *_OLD_CAPS),
        lambda body: _capped(_OLD_CAPS, "max_output_tokens", body),
        "the token limit is called max_output_tokens",
    ),
    "max_tokens": Fallback(
        lambda words: _is_unknown(words, "max_output_tokens"),
        lambda body: _capped(("max_output_tokens",), "max_tokens", body),
        chat.FALLBACKS["max_tokens"].about,
    ),
    "loose_schema": chat.FALLBACKS["loose_schema"]._replace(apply=_without_strict),
    "json_object": Fallback(_is_about_the_schema, _as_json_object, chat.FALLBACKS["json_object"].about),
    "prompt": Fallback(_is_about_the_schema, _as_prompt, chat.FALLBACKS["prompt"].about),
    "whole": chat.FALLBACKS["whole"],
}
"""The fallbacks by the names under which the table of capabilities records them, in the order of trial."""
