"""Reads replies of any shape: a part of the wrong type counts as missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from connector.base.errors import ReplyError


def as_dict(value: object) -> dict[str, Any]:
    """Returns an object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Returns an array as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


_PART_VALUES: Final = ("text", "image_url", "input_audio", "content")
_WITHIN: Final = ("url", "data")
"""The keys that hold the value of a part of a message or input, and within that the keys if it is an object."""


def null_in(value: object, path: str) -> str | None:
    """Returns the path of the first null: `value` itself, which is at `path`, an item of a list, or an item's value.

    A part with a `file_id` may be null elsewhere.
    """
    if value is None:
        return path
    for place, item in enumerate(value) if isinstance(value, list) else ():
        if item is None:
            return f"{path}[{place}]"
        if isinstance(item, dict) and not item.get("file_id"):
            found = _null_among(item, _PART_VALUES)
            if found is not None:
                return f"{path}[{place}].{found}"
    return None


def _null_among(item: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name not in item:
            continue
        if item[name] is None:
            return name
        inner = _null_among(item[name], _WITHIN) if isinstance(item[name], dict) else None
        if inner is not None:
            return f"{name}.{inner}"
    return None


MOST_PARTS: Final = 1 << 16
"""The most choices, items or tool calls of a stream: each takes a kilobyte of memory while its pieces arrive."""


def check_parts(count: int) -> None:
    """Raises `ReplyError` for more than `MOST_PARTS`."""
    if count > MOST_PARTS:
        raise ReplyError(f"the reply has more than {MOST_PARTS:,} parts: ask for less at once")


def index_of(item: dict[str, Any]) -> int:
    """Returns the `index` of a choice or item; 0 if it has none."""
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


def by_place(items: Iterable[Any], count: int, name: str = "index", first: int = 0) -> list[dict[str, Any]] | None:
    """Returns the parts of a reply to `count` requests that share a call, in the order of the requests.

    `None` unless each index from `first` on occurs exactly once: one that is missing, repeated or out of range shows
    that the server counts differently, so none can be trusted. If no part has an index, their order counts.
    """
    parts = [item for item in items if isinstance(item, dict)]
    if len(parts) != count:
        return None
    if not any(name in part for part in parts):
        return parts
    found = {part[name]: part for part in parts if type(part.get(name)) is int}
    places = range(first, first + count)
    return [found[place] for place in places] if found.keys() == set(places) else None
