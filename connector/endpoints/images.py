"""Images made from a prompt: `POST /v1/images/generations` (OpenAI API reference, "Images")."""

from __future__ import annotations

from typing import Final

from connector.base.records import JSON
from connector.endpoints import Shorthand
from connector.endpoints._defaults import (
    HAS_OUTPUT_TOKENS,
    IN_BATCHES,
    IN_CAPABILITIES,
    OVER_HTTP,
    decode,
    dedicated_model,
    encode,
    expectation,
    open_sender,
    packing,
    raised,
    repaired,
    structured,
)
from connector.endpoints._images import (
    COLUMNS,
    COSTLY,
    FALLBACKS,
    REPLY,
    REPLY_SIZE_FACTOR,
    answer,
    broken_off,
    end_of_stream,
    fold,
    inline,
    is_chunk,
    missing_text,
    streamed,
    value_types,
    values,
)
from connector.endpoints._models import IMAGE, purpose_of
from connector.endpoints._prompt import as_text

PATH: Final = "/images/generations"


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a request for one image. Size, quality, style and number need a `request_format`."""
    model = {} if shorthand.model is None else {"model": shorthand.model}
    return {**model, "prompt": as_text(shorthand.prompt or ""), **inline(shorthand.files)}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request for one image, since no cheaper request works with all models."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "prompt": "a dot", "n": 1}


def other_purpose(model: str) -> str | None:
    """Returns the purpose of models that neither write text nor make images; else `None`."""
    purpose = purpose_of(model)
    return None if purpose == IMAGE else purpose
