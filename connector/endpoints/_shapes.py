"""Reading replies of any shape: what is not as it should be is as if it were not there."""

from __future__ import annotations

from typing import Any


def mapped(value: object) -> dict[str, Any]:
    """The object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """The array; an empty one for what is none."""
    return value if isinstance(value, list) else []


def index_of(item: dict[str, Any]) -> int:
    """The `index` of a choice or an item; 0 where it has none."""
    index = item.get("index")
    return index if isinstance(index, int) else 0


def text_or_none(value: object) -> str | None:
    """The text; `None` for what is none."""
    return value if isinstance(value, str) else None


def text_of(value: object) -> str | None:
    """The text of a message: as it stands, or joined where it comes as parts."""
    if isinstance(value, str):
        return value
    texts = [part.get("text") for part in listed(value) if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)) if texts else None
