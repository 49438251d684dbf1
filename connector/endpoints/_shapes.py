"""Reading replies of any shape: a part of the wrong type counts as missing."""

from __future__ import annotations

from typing import Any


def as_dict(value: object) -> dict[str, Any]:
    """Returns an object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Returns an array as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def index_of(item: dict[str, Any]) -> int:
    """Returns the `index` of a choice or an item; 0 where it has none."""
    index = item.get("index")
    return index if isinstance(index, int) else 0


def text_or_none(value: object) -> str | None:
    """Returns a text as it is, and `None` for anything else."""
    return value if isinstance(value, str) else None


def text_of(value: object) -> str | None:
    """Returns the content of a message as one text: the text itself, or its text parts joined."""
    if isinstance(value, str):
        return value
    texts = [part.get("text") for part in as_list(value) if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)) if texts else None
