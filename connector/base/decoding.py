"""Decoding of JSON that others wrote, and joining of texts that were cut anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.errors import ReplyError

_DEEPEST: Final = 100  # levels; their schema has twice as many, its message a few more, and orjson writes 254
_SHORT: Final = 2 * _DEEPEST  # characters: shorter texts cannot be too deep; most events of a stream are shorter

_OBJECT, _ITEM = 72, 32  # bytes of memory that an object or a list, and a value in it, take at least
_COSTLIER: Final = 4  # times the bytes of the largest reply: that much memory a reply may take

SMALL: Final = 1 << 16
"""Bytes of JSON that cost little memory, whatever they hold."""

_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)

TOO_DEEP: Final = "the reply is nested too deeply to be kept"
"""What a row is told whose reply raises `DepthError`."""


class DepthError(ValueError):
    """JSON that is nested too deeply to be written again."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply")


class Allowance:
    """The memory that the JSON of one reply may take once it is decoded, however it comes: whole or in pieces.

    Args:
        most: The bytes that the reply may have; JSON such as `[{},{},{},…]` takes over thirty times its own.

    Attributes:
        taken: Bytes of memory so far, about. Brackets and commas in texts count too, but are rare there.
    """

    def __init__(self, most: int) -> None:
        self._most = _COSTLIER * most
        self._size = 0
        self.taken = 0

    def take(self, data: bytes) -> None:
        """Counts a piece of JSON. Raises `ReplyError` for too much."""
        self._size += len(data)
        self.taken += _OBJECT * (data.count(b"{") + data.count(b"[")) + _ITEM * data.count(b",")
        if self.taken > self._most and self._size > SMALL:
            raise ReplyError("the reply has too many values: ask for a shorter one, or raise max_response_bytes")


def loads(data: bytes | str, decode: Callable[[bytes | str], Any] = orjson.loads) -> Any:
    """Decodes JSON. Accepts half of a surrogate pair, since a stream may cut an emoji in two, but not NaN.

    Args:
        data: The JSON.
        decode: What decodes JSON without such halves: `numbers.loads` where numbers are to keep all of their digits.

    Raises:
        ValueError: It is not JSON. As `DepthError`: it is nested too deeply.
    """
    try:
        value = decode(data)
    except orjson.JSONDecodeError:
        text = data if isinstance(data, str) else str(data, "utf-8")
        if _is_written_too_deep(text):
            raise DepthError from None
        value = numbers.exactly(text)
    if len(data) > _SHORT and is_too_deep(value, data):
        raise DepthError
    return value


def is_too_deep(value: Any, source: bytes | str) -> bool:
    """Returns whether JSON, decoded from `source`, is nested too deeply to be written: orjson reads more levels."""
    if isinstance(source, bytes):
        opened = source.count(b"[") + source.count(b"{")
    else:
        opened = source.count("[") + source.count("{")
    return opened > _DEEPEST and _is_too_deep(value)


def _is_too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        parts = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _is_written_too_deep(text: str) -> bool:
    """Returns whether JSON is nested too deeply, without reading it.

    A reader that recurses until Python stops it may be stopped inside the finalizer of any object.
    """
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > _DEEPEST:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


def storable(body: dict[str, Any], data: bytes | None = None) -> dict[str, Any]:
    """Makes sure that a decoded object can be kept and written again: a lone half of a character becomes U+FFFD.

    `data` is the JSON that orjson decoded it from, if it did: it lets no such half through, and writes what it reads
    unless that is nested too deeply.

    Raises `DepthError` if it is.
    """
    if data is None:
        try:
            data = numbers.dumps(body)
        except TypeError:
            if _is_too_deep(body):
                raise DepthError from None
            body = _joined(body)
            data = numbers.dumps(body)
    if is_too_deep(body, data):
        raise DepthError
    return body


def _joined(value: Any) -> Any:
    if isinstance(value, str):
        return joined([value])
    if isinstance(value, dict):
        return {joined([key]): _joined(each) for key, each in value.items()}
    return [_joined(each) for each in value] if isinstance(value, list) else value


def joined(parts: list[str]) -> str:
    """Joins pieces of a text, also characters that were cut in two between them."""
    whole = "".join(parts)
    if whole.isascii() or _encodable(whole):
        return whole
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
