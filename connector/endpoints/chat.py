"""Chat completions: `POST /v1/chat/completions` (OpenAI API reference, "Chat")."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Final

from connector.base.decoding import loads
from connector.base.records import JSON, Answer, Schema, Status
from connector.base.regex import regex
from connector.base.values import dumps
from connector.endpoints import Expectation, Fallback, Packing, Shorthand, usage_of
from connector.endpoints._choices_stream import end_of_stream, fold, is_chunk
from connector.endpoints._defaults import (
    COSTLY,
    HAS_OUTPUT_TOKENS,
    IN_CAPABILITIES,
    OVER_HTTP,
    REPLY_SIZE_FACTOR,
    decode,
    dedicated_model,
    encode,
    open_sender,
)
from connector.endpoints._models import purpose_of as other_purpose
from connector.endpoints._prompt import as_text, image_of, schema_in_words
from connector.endpoints._shapes import as_dict, as_list, by_place, index_of, null_in, text_of, text_or_none
from connector.endpoints._tools import asked_by
from connector.replies.finish_reasons import Ending, ending_of
from connector.replies.inline_errors import says_nothing
from connector.replies.json_text import json_in
from connector.replies.refusals import read_error

PATH: Final = "/chat/completions"
IN_BATCHES: Final = True
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

_REASONS: Final = ("finish_reason", "native_finish_reason")
_USUAL: Final = ("stop", "tool_calls")
_COMPLETED: Final = (Ending.COMPLETED, "")
_CALLS: Final = frozenset({"tool_calls", "function_call"})
_CAPS: Final = ("max_tokens", "max_completion_tokens")


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a conversation: the system prompt, if there is one, and the prompt with its images."""
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


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of the first null content, text, image or sound. A message with tool calls may have none."""
    for place, message in enumerate(as_list(body.get("messages"))):
        if isinstance(message, dict) and type(message.get("content", "")) is not str and _CALLS.isdisjoint(message):
            found = null_in(message["content"], f"messages[{place}].content")
            if found is not None:
                return found
    return None


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `response_format` as OpenAI's structured outputs define it, unless the body has its own."""
    if "response_format" in body:
        return body
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(schema.get("title", "")))[:64] or "answer"  # all that OpenAI allows
    described = {"name": name, "strict": True, "schema": schema}
    return {**body, "response_format": {"type": "json_schema", "json_schema": described}}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, and the option that makes the last chunk carry the usage."""
    return {**body, "stream": True, "stream_options": {"include_usage": True, **as_dict(body.get("stream_options"))}}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request of one word for one token, with the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}


def answer(body: dict[str, Any]) -> Answer:
    """Reads the choice with the lowest index.

    Not a success if it is empty, or if any choice was truncated, filtered or refused.
    """
    usage, model = usage_of(body), text_or_none(body.get("model"))
    choice = _first(body)
    if choice is None:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no choices")
    given = choice.get("message") or choice.get("delta")
    message = as_dict(given)
    content = _content(message)
    calls = _calls(message) if "tool_calls" in message or "function_call" in message else []
    status, problem = _judged(choice, message, content, calls)
    if status is Status.INVALID_OUTPUT and message is not given:
        problem = "the reply's choice has no message"
    called = [call["name"] for call in calls] if calls else ()
    if status is Status.SUCCESS and len(as_list(body["choices"])) > 1:
        choice, status, problem = _worst_of_others(choice, body["choices"])
    return Answer(content, text_or_none(choice.get("finish_reason")), model, usage, status, problem, called)


def _worst_of_others(first: dict[str, Any], choices: list[Any]) -> tuple[dict[str, Any], Status, str | None]:
    """Returns the first choice as a success, unless another one was truncated, filtered or refused: then that one."""
    for place, choice in enumerate(choices, 1):
        if isinstance(choice, dict) and choice is not first:
            message = as_dict(choice.get("message") or choice.get("delta"))
            status, problem = _judged(choice, message, _content(message), [])
            if status not in (Status.SUCCESS, Status.INVALID_OUTPUT):
                return choice, status, f"choice {place} of {len(choices)}: {problem}"
    return first, Status.SUCCESS, None


def broken_off(body: dict[str, Any]) -> str | None:
    """Returns why one of the choices was broken off."""
    for choice in as_list(body.get("choices")):
        if isinstance(choice, dict) and _ended(choice)[0] is Ending.BROKEN_OFF:
            return _broken_off(choice)
    return None


def expectation(request: JSON, reads: Collection[str]) -> Expectation | None:
    """Returns the check that a reply calls the required function, and none that is not offered."""
    asked = asked_by(request, reads)
    return None if asked is None else asked.unmet


def _first(body: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the choice with the lowest index."""
    choices = as_list(body.get("choices"))
    if len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    return min((choice for choice in choices if isinstance(choice, dict)), key=index_of, default=None)


def _ended(choice: dict[str, Any]) -> tuple[Ending, str]:
    """Returns how a choice ended, and its reason: the engine's own one, if the standard one says nothing."""
    if choice.get("finish_reason") in _USUAL and "error" not in choice and "native_finish_reason" not in choice:
        return _COMPLETED
    for name in _REASONS:
        reason = choice.get(name)
        if type(reason) is str and (ending := ending_of(reason)) is not Ending.COMPLETED:
            return ending, reason
    if "error" in choice and not says_nothing(choice["error"]):  # OpenRouter's
        return Ending.BROKEN_OFF, "error"
    return _COMPLETED


def _broken_off(choice: dict[str, Any]) -> str:
    said = read_error({"error": choice["error"]}).message if choice.get("error") else ""
    return f"the endpoint broke off the reply ({said or _ended(choice)[1]})"


def _judged(
    choice: dict[str, Any], message: dict[str, Any], content: str | None, calls: Sequence[dict[str, Any]]
) -> tuple[Status, str | None]:
    ending, reason = _ended(choice)
    if ending is Ending.CUT:
        return Status.TRUNCATED, "the reply was cut at the token limit: raise max_tokens"
    if ending is Ending.FILTERED:
        return Status.FILTERED, f"the endpoint's content filter stopped the reply ({reason})"
    if message.get("refusal"):
        return Status.FILTERED, f"the model refused: {message['refusal']}"
    if ending is Ending.BROKEN_OFF:
        return Status.ERROR, _broken_off(choice)
    if not calls:
        empty = not (content or "").strip()
        return (Status.INVALID_OUTPUT, "the reply is empty") if empty else (Status.SUCCESS, None)
    wrong = next((call["name"] for call in calls if call["arguments"] is None), None)
    if wrong is not None:
        return Status.INVALID_OUTPUT, f'the arguments of the call of "{wrong}" are not a JSON object'
    return Status.SUCCESS, None


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns the texts of all choices, and the reasoning and tool calls of the first one.

    `tool_name` and `arguments` are those of its first tool call.
    """
    messages = _messages(body)
    first = messages[0]
    calls = _calls(first)
    return {
        "contents": [*map(_content, messages)],
        "reasoning": text_of(first.get("reasoning_content") or first.get("reasoning")),
        "tool_calls": calls,
        "tool_name": calls[0]["name"] if calls else None,
        "arguments": calls[0]["arguments"] if calls else None,
    }


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the messages of all choices in the order of their indexes; one empty message if there is no choice."""
    choices = sorted((choice for choice in as_list(body.get("choices")) if isinstance(choice, dict)), key=index_of)
    return [as_dict(choice.get("message") or choice.get("delta")) for choice in choices] or [{}]


def value_types(request: JSON) -> dict[str, Schema]:
    """Returns the schemas of texts and calls, and that of the arguments if the request offers a single tool."""
    tools = as_list(as_dict(request).get("tools"))
    function = as_dict(as_dict(tools[0]).get("function")) if len(tools) == 1 else {}
    arguments = {"type": "object", **as_dict(function.get("parameters"))}
    call = {"id": _TEXT, "name": _TEXT, "arguments": arguments}
    return {
        "content": _TEXT,
        "contents": {"type": "array", "items": _TEXT},
        "reasoning": _TEXT,
        "tool_calls": {"type": "array", "items": {"type": "object", "properties": call}},
        "tool_name": _TEXT,
        "arguments": arguments,
    }


def _content(message: dict[str, Any]) -> str | None:
    """Returns the text of a message. Beside tool calls, some servers send an empty one where others send null."""
    return text_of(message.get("content")) or None


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the tool calls of a message with parsed arguments: `None` if these are cut off or not an object."""
    given = filter(None, map(as_dict, as_list(message.get("tool_calls"))))
    functions = [(call.get("id"), as_dict(call.get("function") or call.get("custom"))) for call in given]
    old = as_dict(message.get("function_call"))  # from before there were tools
    return [
        {"id": name, "name": text_or_none(function.get("name")) or "", "arguments": _arguments(function)}
        for name, function in (functions or ([(None, old)] if old else []))
    ]


def _arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    given = function.get("arguments")
    if isinstance(given, dict):  # some servers send them parsed
        return given
    try:
        parsed = loads(given or "{}")
    except (TypeError, ValueError):
        return None
    return parsed if isinstance(parsed, dict) else None


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON]:
    """Appends the reply and what is wrong with it to the conversation."""
    request = f"That reply cannot be used: {problem}. Reply again, with the corrected JSON only."
    further = [{"role": "assistant", "content": content}, {"role": "user", "content": request}]
    return {**body, "messages": [*as_list(body.get("messages")), *further]}


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Multiplies the limit by four, whichever name it has."""
    caps = {name: body[name] * 4 for name in _CAPS if isinstance(body.get(name), int)}
    return {**body, **caps} if caps else None


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Packs rows only if `rows_per_call` asks for it, since that changes what the model sees."""
    return MessagePacking(rows_per_call, schema) if rows_per_call and rows_per_call > 1 else None


# --- Fallbacks ---

_SCHEMA_WORDS: Final = ("response_format", "json_schema", "json_object", "schema", "structured", "grammar", "guided")
_VALUE: Final = regex(r"too (?:large|high|big|small)|at most|at least|less than|greater than|exceed|range")
_STREAM: Final = regex(r"\bstream(?:ing|ed|s)?\b")
_STRICT_WORDS: Final = ("strict", "additionalproperties", "invalid schema", "'required' is required")


def _renamed(old: str, new: str, body: dict[str, JSON]) -> dict[str, JSON] | None:
    if old not in body:
        return None
    return {new if name == old else name: value for name, value in body.items() if name != new}


def _without_strict(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Makes the schema a hint: OpenAI's strict mode refuses optional properties and much else in JSON Schema."""
    asked = as_dict(body.get("response_format"))
    described = as_dict(asked.get("json_schema"))
    if not described.get("strict"):
        return None
    return {**body, "response_format": {**asked, "json_schema": {**described, "strict": False}}}


def _as_json_object(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks for JSON of any shape, with the schema in the prompt, as OpenAI's JSON mode requires a mention of JSON."""
    schema = requested_schema(body)
    return (
        None if schema is None else _with_schema_in_prompt({**body, "response_format": {"type": "json_object"}}, schema)
    )


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks in the prompt alone. If JSON mode was tried before, the schema is already in the prompt."""
    if "response_format" not in body:
        return None
    schema = requested_schema(body)
    bare = {name: value for name, value in body.items() if name != "response_format"}
    return bare if schema is None else _with_schema_in_prompt(bare, schema)


def requested_schema(body: dict[str, JSON]) -> JSON | None:
    """Returns the schema that the request asks the reply to fit."""
    return as_dict(as_dict(body.get("response_format")).get("json_schema")).get("schema")


def _with_schema_in_prompt(body: dict[str, JSON], schema: JSON) -> dict[str, JSON]:
    """Appends the schema to the last message, since not every model accepts another message."""
    words = schema_in_words(schema)
    messages = list(as_list(body.get("messages")))
    last: Any = messages[-1] if messages else None
    if not isinstance(last, dict) or not isinstance(last.get("content"), str | list):
        return {**body, "messages": [*messages, {"role": "user", "content": words}]}
    content = last["content"]
    longer = f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "text", "text": words}]
    return {**body, "messages": [*messages[:-1], {**last, "content": longer}]}


def _without_usage(body: dict[str, JSON]) -> dict[str, JSON] | None:
    if "stream_options" not in body:
        return None
    return {name: value for name, value in body.items() if name != "stream_options"}


def _whole(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks for the whole reply at once: some gateways fail on every stream."""
    if not body.get("stream"):
        return None
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


FALLBACKS: Final[Mapping[str, Fallback]] = {
    "max_completion_tokens": Fallback(
        lambda words: ("max_tokens" in words or "max_completion_tokens" in words) and not _VALUE.search(words),
        lambda body: _renamed("max_tokens", "max_completion_tokens", body),
        "the token limit is called max_completion_tokens",
    ),
    "max_tokens": Fallback(
        lambda words: "max_completion_tokens" in words and not _VALUE.search(words),
        lambda body: _renamed("max_completion_tokens", "max_tokens", body),
        "the token limit is called max_tokens",
    ),
    "loose_schema": Fallback(
        lambda words: any(word in words for word in _STRICT_WORDS),
        _without_strict,
        "the schema is a hint: the endpoint does not enforce it",
    ),
    "json_object": Fallback(
        lambda words: any(word in words for word in _SCHEMA_WORDS),
        _as_json_object,
        "replies are JSON, but the endpoint does not check them against the schema",
    ),
    "prompt": Fallback(
        lambda words: any(word in words for word in _SCHEMA_WORDS), _as_prompt, "the schema is written into the prompt"
    ),
    "no_usage": Fallback(
        lambda words: "stream_options" in words or "include_usage" in words,
        _without_usage,
        "streams do not report their tokens",
    ),
    "whole": Fallback(lambda words: _STREAM.search(words) is not None, _whole, "replies are not streamed"),
}
"""The fallbacks by the names under which the table of capabilities records them, in the order of trial."""


# --- Several rows in one call ---

_TASK: Final = """\
Here are {count} inputs that have nothing to do with each other, each with an id. Answer each of them exactly as if it
had come alone. Reply with JSON only, with one entry for each id: {{"answers": [{{"id": 1, "answer": …}}, …]}}

"""


class MessagePacking:
    """Packs requests that differ only in their last message: prompts get ids, by which answers are matched.

    Args:
        most: The highest number of rows in a call.
        schema: The schema of each answer; `None` for a text.
    """

    most_bytes: Final = 2**17

    def __init__(self, most: int, schema: Schema | None) -> None:
        self.most = most
        self._is_text = schema is None
        self._fits = schema is None or b'"$ref"' not in dumps(
            schema
        )  # a reference would point elsewhere in the larger schema
        self._answer = schema or {"type": "string"}

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Returns everything but the text of the last message; `None` if packing would change the request's meaning."""
        messages = as_list(body.get("messages"))
        last = as_dict(messages[-1]) if messages else {}
        plain = last.get("role") == "user" and isinstance(last.get("content"), str)
        if not (plain and self._fits) or body.get("tools") or body.get("n", 1) != 1:
            return None
        return dumps({**body, "messages": [*messages[:-1], {**last, "content": None}]})

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """Returns one request with all prompts, and with a schema that has an answer for each id."""
        first, count = bodies[0], len(bodies)
        *before, last = first["messages"]
        inputs = [{"id": place, "input": body["messages"][-1]["content"]} for place, body in enumerate(bodies, 1)]
        content = _TASK.format(count=count) + dumps(inputs).decode()
        entry = _object({"id": {"type": "integer"}, "answer": self._answer})
        described = {
            "name": "answers",
            "strict": True,
            "schema": _object({"answers": {"type": "array", "items": entry}}),
        }
        return {
            **first,
            **{cap: first[cap] * count for cap in _CAPS if isinstance(first.get(cap), int)},
            "messages": [*before, {**last, "content": content}],
            "response_format": {"type": "json_schema", "json_schema": described},
        }

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Returns each answer as a whole completion if each id occurs exactly once; `None` for one of another type."""
        choices = [choice for choice in as_list(body.get("choices")) if isinstance(choice, dict)]
        choice = min(choices, key=index_of, default={})
        try:
            value = json_in(text_of(as_dict(choice.get("message")).get("content")) or "")
        except ValueError:
            return [None] * count
        entries = by_place(as_list(as_dict(value).get("answers")), count, "id", first=1)
        if entries is None or "id" not in entries[0]:
            return [None] * count
        return [self._alone(body, choice, entry.get("answer")) for entry in entries]

    def _alone(self, body: dict[str, Any], choice: dict[str, Any], answer: JSON) -> dict[str, Any] | None:
        if answer is None or (self._is_text and not isinstance(answer, str)):
            return None
        message = {"role": "assistant", "content": answer if self._is_text else dumps(answer).decode()}
        rest = {name: value for name, value in body.items() if name != "usage"}
        return {**rest, "choices": [{**choice, "index": 0, "message": message}]}


def _object(properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
