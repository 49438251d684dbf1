"""Splits the line of a message before the end of an object in it, as the row of a RECORD, where new members go.

The rest of the line is never encoded again, so every byte of it stays: digits of numbers, escapes, white space.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import orjson

from connector.base import numbers
from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError
from connector.base.regex import regex

TOO_DEEP: Final = "is nested too deeply: send inner objects and lists as text"

_GUESSES: Final = 4  # closing braces, from the end of a line, that are tried as the end of the row
_SPACE: Final = regex(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder(parse_float=numbers.exact, parse_int=numbers.whole)


class SplitLine(NamedTuple):
    """A row, and the two parts of its line: the row begins at `start`, `tail` with the brace that ends it."""

    row: dict[str, Any]
    head: bytes
    tail: bytes
    start: int

    def without(self, names: Collection[str]) -> SplitLine:
        """Returns the line without these members of its row, which is rewritten."""
        row = {name: value for name, value in self.row.items() if name not in names}
        return SplitLine(row, self.head[: self.start] + dumps(row)[:-1], self.tail, self.start)


def loads(line: bytes) -> Any:
    """Decodes a line. Accepts what Python's taps write beyond JSON (NaN, lone surrogates).

    Raises:
        ConfigError: It is not JSON.
    """
    try:
        return numbers.loads(line)
    except ValueError:
        try:
            return json.loads(line.decode("utf-8-sig"), parse_float=numbers.exact, parse_int=numbers.whole)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"it is not JSON: {error}") from None


def dumps(message: Any, option: int = 0) -> bytes:
    """Encodes what `loads` has decoded. Of orjson's options, it takes the ones about line ends and indentation.

    Raises:
        ConfigError: It is nested too deeply.
    """
    try:
        return numbers.dumps(message, option=option)
    except TypeError:  # half of a character, or a few levels more than orjson encodes
        try:
            text = json.dumps(message, default=list)  # a vector may be an `array`
        except RecursionError:
            raise ConfigError(f"it {TOO_DEEP}") from None
        return text.encode() + (b"\n" if option & orjson.OPT_APPEND_NEWLINE else b"")


def split_quickly(line: bytes, start: int, depth: int) -> SplitLine | None:
    """Splits a line whose row begins at `start`, `depth` objects deep; `None` if its end is not among the last braces.

    A JSON object ends at the first brace up to which it can be parsed.
    """
    end = len(line)
    for brace in range(depth + _GUESSES):
        end = line.rfind(b"}", start, end)
        if end < 0:
            break
        if brace < depth:
            continue
        try:
            row = numbers.loads(line[start : end + 1])
            orjson.loads(b'{"":' * depth + b"0" + line[end + 1 :])
        except ValueError:
            continue
        return SplitLine(row, line[:end], line[end:], start)
    return None


def split_object(line: bytes) -> SplitLine:
    """Splits a line that is a row and nothing else.

    Raises:
        ConfigError: It is not an object.
    """
    row = loads(line)
    if not isinstance(row, dict):
        raise ConfigError("it is not an object")
    if is_too_deep(row, line):
        raise ConfigError(f"it {TOO_DEEP}")
    end = line.rindex(b"}")
    return SplitLine(row, line[:end], line[end:], len(line) - len(line.lstrip()))


def split_exactly(line: bytes, path: tuple[str, ...]) -> SplitLine:
    """Splits the line of any message, a JSON object, whose row is at `path`: goes through it member by member.

    Raises:
        ConfigError: There is no object at `path`.
    """
    text, at, start, row = line.decode(), 0, 0, None
    try:
        for name in path:
            at = _member(text, at, name)
        start = at
        row, at = _DECODER.raw_decode(text, at)
    except ValueError:
        pass  # a member is missing
    if not isinstance(row, dict):
        raise ConfigError(f"the RECORD has no {'.'.join(path)}, or it is not an object")
    return SplitLine(row, text[: at - 1].encode(), text[at - 1 :].encode(), len(text[:start].encode()))


def _member(text: str, at: int, name: str) -> int:
    """Returns where the value of `name` begins in the object at `at`. Raises `ValueError` if it is missing."""
    at = _skipped(text, at)
    while True:
        key, at = _DECODER.raw_decode(text, _skipped(text, at + 1))
        at = _skipped(text, _skipped(text, at) + 1)
        if key == name:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at = _skipped(text, at)


def _skipped(text: str, at: int) -> int:
    """Returns where the white space that begins at `at` ends."""
    found = _SPACE.match(text, at)
    return found.end() if found else at
