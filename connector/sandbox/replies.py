"""What the sandbox accepts, refuses and answers.

Shapes are those of https://platform.openai.com/docs/api-reference (chat/object, chat-streaming); error bodies are as
users quote them in public issue threads.

A request that asks for no JSON is answered with "Sandbox reply to: " and the first 24 words of the message. Parameters
that are not named here change nothing.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

import orjson
from jsonschema import Draft202012Validator

from connector.records import Schema
from connector.sandbox.values import TOKEN, data_of, first_words, written

MODEL: Final = "sandbox-1"
KEY: Final = "sk-sandbox"


class APIError(Exception):
    """A refusal, in the shape of OpenAI's."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _form(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": ["boolean", "null"]}
_COUNT: Final = {"type": ["integer", "null"], "minimum": 1}
_PARTS: Final = {"type": ["string", "array", "null"], "items": _form(text=_TEXT)}
_FUNCTION: Final = _form("function", function=_form("name", name=_TEXT, parameters=_form()))
_FORMAT: Final = _form("type", type={"enum": ["json_object", "json_schema", "text"]})
_FORMAT_SCHEMA: Final = _form("json_schema", json_schema=_form("name", "schema", name=_TEXT, schema=_form()))
_REQUEST: Final = Draft202012Validator(
    _form(
        "model",
        "messages",
        model=_TEXT,
        messages={"type": "array", "minItems": 1, "items": _form("role", role=_TEXT, content=_PARTS)},
        n=_COUNT | {"maximum": 128},
        max_tokens=_COUNT,
        max_completion_tokens=_COUNT,
        stream=_FLAG,
        stream_options=_form(include_usage=_FLAG) | {"type": ["object", "null"]},
        tools={"type": "array", "items": _FUNCTION},
        tool_choice=_FUNCTION | {"type": ["string", "object"]},
        response_format=_FORMAT | {"if": {"properties": {"type": {"const": "json_schema"}}}, "then": _FORMAT_SCHEMA},
    )
)
_CODES: Final = {
    "type": "invalid_type",
    "minimum": "integer_below_min_value",
    "maximum": "integer_above_max_value",
    "minItems": "empty_array",
}
_NOT_JSON: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


def check_key(authorization: str, key: str) -> None:
    """Raises `APIError` unless the header brings the key."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise APIError(401, _NO_KEY)
    if given != key:
        masked = re.sub(r"(?<=.{8}).(?=.{4})", "*", given)
        message = f"Incorrect API key provided: {masked}. The sandbox takes the key that it names when it starts."
        raise APIError(401, message, None, "invalid_api_key")


def checked(raw: bytes) -> dict[str, Any]:
    """The body of a chat request, if it is one."""
    try:
        body: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise APIError(400, _NOT_JSON) from None
    for error in _REQUEST.iter_errors(body):
        where = error.json_path.removeprefix("$").removeprefix(".") or "body"
        if error.validator != "required":
            code = _CODES.get(str(error.validator), "invalid_value")
            raise APIError(400, f"Invalid '{where}': {error.message[:200]}.", where, code)
        missing = next(name for name in error.validator_value if name not in error.instance)
        where = f"{where}.{missing}".removeprefix("body.")
        raise APIError(400, f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if body["model"] != MODEL:
        message = f"The model `{body['model']}` does not exist or you do not have access to it."
        raise APIError(404, message, None, "model_not_found")
    if body.get("stream_options") and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise APIError(400, message, "stream_options")
    return body


# --- Replies ---


class _Wanted(NamedTuple):
    """The JSON that a request asks for, and which of its parameters does. `tool` is the function to call."""

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
        return _Wanted("response_format", "json_object", _form("reply", reply=_TEXT))
    return None


def _said(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """The whole reply to a checked request."""
    messages, wanted = body["messages"], _wanted(body)
    prompt = _said(next((message for message in reversed(messages) if message["role"] == "user"), messages[-1]))
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
        # As at OpenAI, a call of a function that was named ends with "stop".
        done = "tool_calls" if body.get("tool_choice") == "required" else "stop"
        reason = done if len(kept) == len(tokens) else "length"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
    given = sum(len(TOKEN.findall(_said(message))) for message in messages)
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
    """A whole choice, cut into those of a stream."""
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


def events_of(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:
    """The reply as server-sent events. Several choices take turns; the usage comes last, in a chunk without choices."""
    head = whole | {"object": "chat.completion.chunk", "usage": None}
    if not usage:
        del head["usage"]
    for choice in filter(None, chain.from_iterable(zip_longest(*map(_chunks, whole["choices"])))):
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [choice]})
    if usage:
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"
