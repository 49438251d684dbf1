"""Moderations: `POST /v1/moderations` (OpenAI API reference, "Moderations"). Many rows share a call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from connector.base.errors import ConfigError, Problem
from connector.base.records import JSON, Answer, Schema, Status
from connector.base.values import dumps
from connector.endpoints import Packing, Shorthand, usage_of
from connector.endpoints._defaults import (
    COSTLY,
    FALLBACKS,
    IN_CAPABILITIES,
    OVER_HTTP,
    REPLY_SIZE_FACTOR,
    broken_off,
    decode,
    encode,
    end_of_stream,
    expectation,
    fold,
    open_sender,
    raised,
    repaired,
    streamed,
    structured,
)
from connector.endpoints._inputs import InputPacking
from connector.endpoints._models import MODERATION, is_chat_model, purpose_of
from connector.endpoints._prompt import as_text, image_of
from connector.endpoints._shapes import as_dict, as_list, by_place, null_in, text_or_none

PATH: Final = "/moderations"
IN_BATCHES: Final = True
COLUMNS: Final[Mapping[str, str]] = {
    "flagged": "{{ flagged }}",
    "categories": "{{ flagged_categories }}",
    "category_scores": "{{ category_scores }}",
}
HAS_OUTPUT_TOKENS: Final = False

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_FLAGS: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["boolean", "null"]}}
_SCORES: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "model": _TEXT,
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "flagged": _FLAG,
                    "categories": _FLAGS,
                    "category_scores": _SCORES,
                    "category_applied_input_types": {"type": "object"},
                },
            },
        },
    },
}

_USUAL_BATCH: Final = 32
_MOST_BYTES: Final = 32_768  # omni-moderation's limit in tokens; no tokenizer makes more tokens than there are bytes


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a request to judge the prompt; with images, text and images are parts that are judged as one.

    Raises:
        ConfigError: There are tools, which this endpoint does not take.
    """
    if shorthand.tools:
        raise ConfigError([Problem("tools", "moderations have none: use a chat endpoint")])
    model = {} if shorthand.model is None else {"model": shorthand.model}
    text = as_text(shorthand.prompt or "")
    if not shorthand.images:
        return {**model, "input": text}
    words: list[JSON] = [{"type": "text", "text": text}] if shorthand.prompt else []
    pictures: list[JSON] = [{"type": "image_url", "image_url": {"url": image_of(name)}} for name in shorthand.images]
    return {**model, "input": [*words, *pictures]}


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of an input, or of a part of it, that is null."""
    return null_in(body.get("input", ""), "input")


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request about one word, with the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "input": "ping"}


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event is a whole reply."""
    return "results" in event


def answer(body: dict[str, Any]) -> Answer:
    """Reads the verdict, which is a success whatever it says. There is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    if _flagged(_first(body)) is None:
        problem = "the reply has no verdict: neither flagged nor categories are in its first result"
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, problem)
    return Answer(None, None, model, usage)


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns the parts of the first result, and the names of the categories that are flagged."""
    first = _first(body)
    return {
        "flagged": _flagged(first),
        "flagged_categories": [name for name, is_flagged in as_dict(first.get("categories")).items() if is_flagged],
        "categories": first.get("categories"),
        "category_scores": first.get("category_scores"),
    }


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns the schemas. The categories depend on the model."""
    return {
        "flagged": _FLAG,
        "flagged_categories": {"type": "array", "items": _TEXT},
        "categories": _FLAGS,
        "category_scores": _SCORES,
    }


def _first(body: dict[str, Any]) -> dict[str, Any]:
    results = as_list(body.get("results"))
    return as_dict(results[0]) if results else {}


def _flagged(result: dict[str, Any]) -> bool | None:
    """Returns the verdict. If a server sends categories only, as Mistral does, it is whether any is flagged."""
    flagged, categories = result.get("flagged"), as_dict(result.get("categories"))
    if isinstance(flagged, bool):
        return flagged
    return any(each is True for each in categories.values()) if categories else None


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Packs rows unless `batch_size` is 1: texts that share a call do not influence each other."""
    most = batch_size or _USUAL_BATCH
    return InputPacking(most, _MOST_BYTES, "results") if most > 1 else None


def other_purpose(model: str) -> str | None:
    """Returns "chat" for chat models, and the purpose of other models that do not moderate."""
    purpose = purpose_of(model)
    if purpose in (None, MODERATION):
        return "chat" if is_chat_model(model) else None
    return purpose


def dedicated_model(offered: Sequence[str]) -> str | None:
    """Returns the first model with "moderation" in its name."""
    return next((name for name in offered if purpose_of(name) == MODERATION), None)
