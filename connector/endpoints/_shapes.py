"""Reading replies of any shape: a part of the wrong type counts as missing."""

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
"""Where the value of a part of a message, or of an item of an input, stands; and where in that, if it is an object."""


def null_in(value: object, path: str) -> str | None:
    """Returns the path of a null: the value itself, at `path`, an item of a list, or what an item consists of.

    A part that names a file by its `file_id` may have null for the rest.
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
"""Choices, items or tool calls that a stream may have: each takes a kilobyte of memory while its pieces arrive."""


def check_parts(count: int) -> None:
    """Raises `ReplyError` for a stream of more parts than there may be."""
    if count > MOST_PARTS:
        raise ReplyError(f"the reply has more than {MOST_PARTS:,} parts: ask for less at once")


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


def by_place(items: Iterable[Any], count: int, name: str = "index", first: int = 0) -> list[dict[str, Any]] | None:
    """Returns the parts of a reply to `count` requests that share a call, in the order of the requests.

    `None` unless each place, from `first` on, comes exactly once: an index outside of them, one that comes twice or a
    missing one shows that the server counts in another way, so none of them can be trusted. Where no part has an index
    at all, their order counts.
    """
    parts = [item for item in items if isinstance(item, dict)]
    if len(parts) != count:
        return None
    if not any(name in part for part in parts):
        return parts
    found = {part[name]: part for part in parts if type(part.get(name)) is int}
    places = range(first, first + count)
    return [found[place] for place in places] if found.keys() == set(places) else None
