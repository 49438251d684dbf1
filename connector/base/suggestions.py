"""Suggestions for an unknown word or a missing file: the closest one that exists."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from itertools import islice
from typing import Final

_ALIKE: Final = 0.6  # `reviw` is similar to `review`, but `text` is not to `title`
_FILES_ALIKE: Final = 0.75  # `reviwes.csv` is similar to `reviews.csv`, but `config.json` is not to `o4.jsonl`
_SHOWN: Final = 100  # names that people may still read through
_LOOKED_AT: Final = 1000  # files of a folder


def closest(word: str, known: Iterable[str], most: int, alike: float = _ALIKE) -> list[str]:
    """Returns the known words that are like one, the closest first: at most so many, letter for letter."""
    found: list[str] = import_module("difflib").get_close_matches(word, known, most, alike)  # most runs have no slip
    return found


def nearest(word: str, known: Iterable[str], alike: float = _ALIKE) -> str | None:
    """Returns the known word that was most probably meant; `None` if none is close."""
    by_lower = {name.lower(): name for name in reversed(list(known))}
    near = closest(word.lower(), by_lower, 1, alike)
    return by_lower[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `did you mean "x"?` for an unknown word, or an empty text."""
    near = nearest(word, known)
    return "" if near is None else f'did you mean "{near}"?'


def there_are(word: str, known: Iterable[str]) -> str:
    """Returns the known words for an unknown one: `there are: review, date; did you mean "review"?`."""
    names = list(known)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    meant = did_you_mean(word, names)
    return f"there are: {', '.join(names[:_SHOWN]) or 'none'}{more}{f'; {meant}' if meant else ''}"


def file_meant(path: str) -> str:
    """Returns `did you mean "x"?` for a missing file if its folder has one with a similar name, or an empty text."""
    folder, name = os.path.split(path)
    with suppress(OSError, ValueError), os.scandir(folder or ".") as entries:
        near = nearest(name, [entry.name for entry in islice(entries, _LOOKED_AT) if entry.is_file()], _FILES_ALIKE)
        return f'did you mean "{os.path.join(folder, near)}"?' if near else ""  # noqa: PTH118 - as it was written
    return ""
