"""Legacy completions: `POST /v1/completions` (OpenAI API reference, "Completions").

A completion is read as a chat completion whose message is a bare text: see `_as_chat`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from connector.base.errors import ConfigError, Problem
from connector.base.records import JSON, Answer, Schema
from connector.base.values import dumps
from connector.endpoints import Fallback, Packing, Shorthand, chat
from connector.endpoints._choices_stream import end_of_stream, is_chunk
from connector.endpoints._choices_stream import fold as fold_choices
from connector.endpoints._defaults import (
    COSTLY,
    HAS_OUTPUT_TOKENS,
    IN_CAPABILITIES,
    OVER_HTTP,
    REPLY_SIZE_FACTOR,
    decode,
    dedicated_model,
    encode,
    expectation,
    open_sender,
)
from connector.endpoints._models import purpose_of as other_purpose
from connector.endpoints._prompt import as_text, schema_in_words
from connector.endpoints._shapes import as_list, by_place, null_in
from connector.endpoints.chat import broken_off

PATH: Final = "/completions"
IN_BATCHES: Final = True
COLUMNS: Final[Mapping[str, str]] = {"content": "{{ content }}"}

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_NUMBERS: Final[Schema] = {"type": "array", "items": {"type": ["number", "null"]}}
_CHAT_REPLY: Final = chat.REPLY["properties"]
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        **{name: _CHAT_REPLY[name] for name in ("id", "object", "created", "model", "system_fingerprint", "usage")},
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": _COUNT,
                    "text": _TEXT,
                    "finish_reason": _TEXT,
                    "logprobs": {
                        "type": ["object", "null"],
                        "properties": {"tokens": {"type": "array", "items": _TEXT}, "token_logprobs": _NUMBERS},
                    },
                },
            },
        },
    },
}


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a prompt whose first paragraph is the system prompt, if there is one.

    Raises:
        ConfigError: There are images or tools, which this endpoint does not take.
    """
    given = {"image_columns": shorthand.images, "tools": shorthand.tools}
    problems = [Problem(name, "completions have none: use a chat endpoint") for name, value in given.items() if value]
    if problems:
        raise ConfigError(problems)
    texts = [text for text in (shorthand.system_prompt, shorthand.prompt) if text is not None]
    body = {
        "model": shorthand.model,
        "prompt": as_text("\n\n".join(texts)),
        "max_tokens": shorthand.max_tokens,
        "temperature": shorthand.temperature,
    }
    return {name: value for name, value in body.items() if value is not None}


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of a prompt that is null."""
    return null_in(body.get("prompt", ""), "prompt")


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `response_format`, which vLLM and SGLang accept here too. OpenAI does not: see `FALLBACKS`."""
    return chat.structured(body, schema)


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, and the option that makes the last chunk carry the usage."""
    return chat.streamed(body)


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request of one word for one token, with the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "prompt": "ping", "max_tokens": 1}


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merges the chunks of a stream into one `text_completion`."""
    body = fold_choices(_as_chat(event, "delta") for event in events)
    if not body:
        return body
    choices = [
        {name: value for name, value in choice.items() if name != "message"}
        | {"text": choice["message"]["content"] or ""}
        for choice in body["choices"]
    ]
    return {**body, "object": "text_completion", "choices": choices}


def answer(body: dict[str, Any]) -> Answer:
    """Reads the choice with the lowest index. Not a success if it is truncated, filtered or empty."""
    return chat.answer(_as_chat(body, "message"))


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns the texts of all choices."""
    return {"contents": chat.values(_as_chat(body, "message"))["contents"]}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns the schemas of a text and of the texts of all choices."""
    return {"content": _TEXT, "contents": {"type": "array", "items": _TEXT}}


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON] | None:
    """Appends the reply, its problem, and the schema, which the prompt may not contain yet, to the prompt."""
    schema = chat.requested_schema(body)
    wanted = "Reply with the corrected JSON only." if schema is None else schema_in_words(schema)
    return _appended(body, f"This reply cannot be used: {content}\n\n{problem}. {wanted}")


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Multiplies the limit by four."""
    return chat.raised(body)


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Packs prompts only if `batch_size` asks for it."""
    return PromptPacking(batch_size) if batch_size and batch_size > 1 else None


def _as_chat(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a reply or chunk in the shape of a chat completion, its texts under `name`: `message` or `delta`."""
    return {**body, "choices": [_choice(choice, name) for choice in as_list(body.get("choices"))]}


def _choice(choice: Any, name: str) -> Any:
    if not isinstance(choice, dict) or "message" in choice or "delta" in choice:
        return choice
    rest = {key: value for key, value in choice.items() if key != "text"}
    return {**rest, name: {"content": choice.get("text")}}


def _appended(body: dict[str, JSON], words: str) -> dict[str, JSON] | None:
    """Returns the request with words appended to each prompt; `None` if prompts are lists of tokens."""
    prompt = body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or not all(isinstance(each, str) for each in prompts):
        return None
    longer = [f"{each}\n\n{words}\n\n" for each in prompts]
    return {**body, "prompt": longer if isinstance(prompt, list) else longer[0]}


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Asks in the prompt alone, with the schema in words."""
    schema = chat.requested_schema(body)
    if schema is None:
        return None
    return _appended(
        {name: value for name, value in body.items() if name != "response_format"}, schema_in_words(schema)
    )


FALLBACKS: Final[Mapping[str, Fallback]] = {
    "prompt": chat.FALLBACKS["prompt"]._replace(apply=_as_prompt),
    "no_usage": chat.FALLBACKS["no_usage"],
    "whole": chat.FALLBACKS["whole"],
}
"""The fallbacks by the names under which the table of capabilities records them, in the order of trial."""


class PromptPacking:
    """Packs requests that differ only in their prompt: the reply has one choice for each, by its index.

    Args:
        most: The highest number of prompts in a call.
    """

    most_bytes: Final = 2**20

    def __init__(self, most: int) -> None:
        self.most = most

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Returns everything but the prompt; `None` for several choices per prompt, whose indexes would clash."""
        if not isinstance(body.get("prompt"), str) or body.get("n", 1) != 1:
            return None
        return dumps({**body, "prompt": None})

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """Returns one request with a list of prompts. `max_tokens` applies to each of them."""
        return {**bodies[0], "prompt": [body["prompt"] for body in bodies]}

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Returns each choice as a completion of its own; all `None` unless each prompt has exactly one."""
        choices = by_place(as_list(body.get("choices")), count)
        if choices is None:
            return [None] * count
        rest = {name: value for name, value in body.items() if name != "usage"}
        return [{**rest, "choices": [{**choice, "index": 0}]} for choice in choices]
