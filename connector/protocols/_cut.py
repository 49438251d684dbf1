"""Finds the row in the line of a RECORD message and cuts the line before the row's end, where new columns go.

What is around the cut is never written anew, so it stays as it is: numbers to the last digit, spelling and all.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

import orjson

from connector.base.errors import ConfigError

_GUESSES: Final = 4  # closing braces, from the end of a line, that are tried as the row's own
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


class Cut(NamedTuple):
    """A row, and the two parts of its line; the second begins with the brace that ends the row."""

    row: dict[str, Any]
    head: bytes
    tail: bytes


def loads(line: bytes) -> Any:
    """Decodes a line. What Python's taps write beyond JSON (NaN, half a character) is let through.

    Raises:
        ConfigError: It is not JSON.
    """
    try:
        return orjson.loads(line)
    except ValueError:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"it is not JSON: {error}") from None


def guessed(line: bytes, start: int, depth: int) -> Cut | None:
    """Cuts a line whose row begins at `start`, `depth` objects deep, if its end is among the last braces.

    An object of JSON ends where it is whole for the first time: what can be parsed up to a brace is the row.
    """
    end = len(line)
    for brace in range(depth + _GUESSES):
        end = line.rfind(b"}", start, end)
        if end < 0:
            break
        if brace < depth:
            continue
        try:
            row = orjson.loads(line[start : end + 1])
            orjson.loads(b'{"":' * depth + b"0" + line[end + 1 :])
        except ValueError:
            continue
        return Cut(row, line[:end], line[end:])
    return None


def walked(line: bytes, path: tuple[str, ...]) -> Cut:
    """Cuts the line of any RECORD, an object of JSON, whose row is at `path`; it walks member by member.

    Raises:
        ConfigError: There is no object at `path`.
    """
    text, at, row = line.decode(), 0, None
    try:
        for name in path:
            at = _member(text, at, name)
        row, at = _DECODER.raw_decode(text, at)
    except ValueError:
        pass  # a member is missing
    if not isinstance(row, dict):
        raise ConfigError(f"the RECORD has no {'.'.join(path)}, or it is no object")
    return Cut(row, text[: at - 1].encode(), text[at - 1 :].encode())


def _member(text: str, at: int, name: str) -> int:
    """Where the value of `name` begins, in the object that begins at `at`. Raises `ValueError` if it is not there."""
    at = _skipped(text, at)
    while True:
        key, at = _DECODER.raw_decode(text, _skipped(text, at + 1))
        at = _skipped(text, _skipped(text, at) + 1)
        if key == name:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at = _skipped(text, at)


def _skipped(text: str, at: int) -> int:
    """Where the white space that begins at `at` ends."""
    found = _SPACE.match(text, at)
    return found.end() if found else at
