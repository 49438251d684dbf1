"""Images made from a prompt: `POST /v1/images/generations` (OpenAI API reference, "Images")."""

from __future__ import annotations

from typing import Final

from connector.base.records import JSON
from connector.endpoints import Shorthand
from connector.endpoints._images import (
    COLUMNS,
    CONCESSIONS,
    REPLY,
    ROOM,
    answer,
    fold,
    inline,
    streamed,
    value_types,
    values,
)
from connector.endpoints._plain import dial, packing, raised, repaired, structured, wire_form
from connector.endpoints._prompt import as_text

PATH: Final = "/images/generations"


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """One image of the prompt. Size, quality, style and number are for a request format to say."""
    model = {} if shorthand.model is None else {"model": shorthand.model}
    return {**model, "prompt": as_text(shorthand.prompt or ""), **inline(shorthand.files)}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One image: there is no cheaper request that all models take."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "prompt": "a dot", "n": 1}
