"""Moderations of the sandbox.

The shape is that of https://platform.openai.com/docs/api-reference (moderations/object). A category is flagged if a
word of the text starts with one of its words; its score grows with their number. Images are never flagged.
"""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

from jsonschema import Draft202012Validator

from connector.base.records import JSON
from connector.base.regex import regex
from connector.sandbox.validation import MODEL, TEXT, form

_SHARED: Final = ("text", "image")  # the inputs of categories that also judge images
_WORDS: Final = {
    "harassment": r"idiot loser moron pathetic shut\sup stupid",
    "harassment/threatening": r"find\syou hunt\syou hurt\syou kill\syou",
    "hate": r"hate(?:s|ful)?\s subhuman vermin",
    "hate/threatening": r"exterminat wipe\sthem",
    "illicit": r"counterfeit launder pills shoplift steal",
    "illicit/violent": r"bomb explosive",
    "self-harm": r"self-?harm suicid",
    "self-harm/intent": r"kill\smyself end\smy\slife",
    "self-harm/instructions": r"how\sto\s(?:cut|kill)\s(?:my|your)self",
    "sexual": r"nude porn sexual",
    "sexual/minors": r"child\sporn",
    "violence": r"find\syou hurt kill shoot stab",
    "violence/graphic": r"behead blood gore",
}
_CATEGORIES: Final = {name: regex(rf"\b(?:{'|'.join(words.split())})", re.IGNORECASE) for name, words in _WORDS.items()}
_OF_IMAGES: Final = ("self-harm", "sexual", "violence")  # with their sub-categories, except that of minors
_CALM, _CERTAIN = 0.02, 0.98

_FILLED: Final = TEXT | {"minLength": 1}
_TEXT_PART: Final = form("text", type={"const": "text"}, text=TEXT)
_IMAGE_PART: Final = form("image_url", type={"const": "image_url"}, image_url=form("url", url=_FILLED))
_PART: Final = {
    "type": ["string", "object"],
    "if": {"type": "object"},
    "then": form("type", type={"enum": ["text", "image_url"]})
    | {"if": {"properties": {"type": {"const": "text"}}}, "then": _TEXT_PART, "else": _IMAGE_PART},
}
stream: Final = None
REQUEST: Final = Draft202012Validator(
    form("input", model=TEXT, input={"type": ["string", "array"], "minItems": 1, "items": _PART})
)
"""The schema of a request. Without a model, the sandbox's own is used."""


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the whole reply to a checked request: one result for each text, or one for all parts of an input."""
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    parts = [part for part in given if isinstance(part, dict)]
    if parts:
        kinds = [kind for kind in _SHARED if any(part["type"].startswith(kind) for part in parts)]
        results = [_result(" ".join(part.get("text", "") for part in parts), kinds)]
    else:
        results = [_result(text, ["text"]) for text in given]
    return {"id": f"modr-{uuid.uuid4().hex}", "model": MODEL, "results": results}


def _result(text: str, kinds: list[str]) -> dict[str, JSON]:
    found = {name: len(words.findall(text)) for name, words in _CATEGORIES.items()}
    scores = {name: round(_CERTAIN - 0.5 / count**2, 4) if count else _CALM for name, count in found.items()}
    applied: dict[str, JSON] = {name: [kind for kind in kinds if kind == "text" or _sees(name)] for name in found}
    return {
        "flagged": any(found.values()),
        "categories": {name: count > 0 for name, count in found.items()},
        "category_scores": dict(scores),
        "category_applied_input_types": applied,
    }


def _sees(category: str) -> bool:
    """Returns whether a category also judges images."""
    return category.startswith(_OF_IMAGES) and category != "sexual/minors"
