"""Legacy completions: `POST /v1/completions` (OpenAI API reference, "Completions").

A completion is a chat completion whose message is nothing but a text. So it is read as one: `_as_chat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector.base.errors import ConfigError, Problem
from connector.base.records import JSON, Answer, Schema
from connector.endpoints import Packing, Shorthand, chat
from connector.endpoints._chat_concessions import schema_of
from connector.endpoints._chat_stream import fold as fold_chat
from connector.endpoints._completions_concessions import CONCESSIONS, told
from connector.endpoints._completions_rows import Prompts
from connector.endpoints._plain import ROOM, dial, wire_form
from connector.endpoints._prompt import as_text, in_json
from connector.endpoints._shapes import listed

PATH: Final = "/completions"
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
    """The system prompt, where there is one, and a paragraph below it the prompt.

    Raises:
        ConfigError: There are images or tools, which a completion cannot have.
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


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
    """Adds `response_format`, which vLLM and SGLang take here, too. OpenAI does not: that is conceded."""
    return chat.structured(body, schema)


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, and the option that makes the last chunk carry the usage."""
    return chat.streamed(body)


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One word for one token, to the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "prompt": "ping", "max_tokens": 1}


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Puts the chunks of a stream together into one `text_completion`. Complete is one that has a `finish_reason`."""
    body, complete = fold_chat(_as_chat(event, "delta") for event in events)
    if not body:
        return body, complete
    choices = [
        {name: value for name, value in choice.items() if name != "message"}
        | {"text": choice["message"]["content"] or ""}
        for choice in body["choices"]
    ]
    return {**body, "object": "text_completion", "choices": choices}, complete


def answer(body: dict[str, Any]) -> Answer:
    """Reads the choice with the lowest index. A cut, filtered or empty one is no success."""
    return chat.answer(_as_chat(body, "message"))


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """The texts of all choices."""
    return {"contents": chat.values(_as_chat(body, "message"))["contents"]}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """A text, and the texts of all choices."""
    return {"content": _TEXT, "contents": {"type": "array", "items": _TEXT}}


def repaired(body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON] | None:
    """The prompt goes on: the reply, what is wrong with it, and the schema, of which the prompt may say nothing yet."""
    schema = schema_of(body)
    wanted = "Reply with the corrected JSON only." if schema is None else in_json(schema)
    return told(body, f"This reply cannot be used: {content}\n\n{problem}. {wanted}")


def raised(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Four times the limit."""
    return chat.raised(body)


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """One prompt per call unless `batch_size` says otherwise."""
    return Prompts(batch_size) if batch_size and batch_size > 1 else None


def _as_chat(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The same as a chat completion, or a chunk of one, its texts in what is called `name` there."""
    return {**body, "choices": [_choice(choice, name) for choice in listed(body.get("choices"))]}


def _choice(choice: Any, name: str) -> Any:
    if not isinstance(choice, dict) or "message" in choice or "delta" in choice:
        return choice
    rest = {key: value for key, value in choice.items() if key != "text"}
    return {**rest, name: {"content": choice.get("text")}}
