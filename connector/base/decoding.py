"""Decoding JSON from outside, and joining texts that were cut anywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.errors import ReplyError

_DEEPEST: Final = 100  # levels; their schema has twice as many, its message a few more, and orjson writes 254
_SHORT: Final = 2 * _DEEPEST  # characters: shorter texts cannot be too deep; most events of a stream are shorter

_OBJECT, _ITEM, _NAME = 72, 32, 100  # bytes of memory that an object or a list, a value in it, and its name take
_SIZES: Final = ((b"{", _OBJECT), (b"[", _OBJECT), (b",", _ITEM), (b":", _NAME))
_WIDER: Final = 3  # bytes more for each byte of a text: one character beyond 16 bits makes all of it four bytes wide
_KEPT: Final = 64  # bytes of memory that an event, or a text, an object or a list in it, leaves at least
_PLACE: Final = 8
_COSTLIER: Final = 4  # times the bytes of the largest reply: that much memory a reply may take, and so long be framed
_DELTA: Final = "delta"  # the name of the piece of a text, where it is not inside a choice
_CALLS: Final = "tool_calls"  # the name of the list that a piece of a call comes in

_NESTED: Final = frozenset({dict, list})
_SPARSE: Final = 512  # bytes between two, on average

SMALL: Final = 1 << 16
"""Bytes of JSON that cost little memory, whatever they hold."""

_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)

TOO_DEEP: Final = "the reply is nested too deeply to be kept"
"""The error of a row whose reply raises `DepthError`."""


class DepthError(ValueError):
    """JSON that is nested too deeply to be written again."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply")


class Allowance:
    """The memory that the JSON of one reply may take once it is decoded, however it comes: whole or in pieces.

    Args:
        most: The bytes that the reply may have; JSON such as `[{},{},{},…]` takes over thirty times its own.

    Attributes:
        taken: Bytes of memory so far, about. Brackets, colons and commas in texts count too, but are rare there.
    """

    def __init__(self, most: int) -> None:
        self._most = _COSTLIER * most
        self._size = 0
        self._kept = 0
        self._before: dict[str, Any] = {}
        self.taken = 0

    @property
    def most(self) -> int:
        """Bytes of memory that a reply may take, and bytes that a stream of pieces may have."""
        return self._most

    def take(self, data: bytes) -> None:
        """Counts a piece of JSON. Raises `ReplyError` for too much."""
        self.count(data)
        if self.taken > self._most and self._size > SMALL:
            raise _too_many()

    def count(self, data: bytes) -> None:
        """Counts a piece of JSON that leaves little behind, which `keep` bounds."""
        self._size += len(data)
        self.taken += sum(size * occurrences(data, sign) for sign, size in _SIZES)
        if not data.isascii() or (b"\\" in data and b"\\u" in data):
            self.taken += _WIDER * len(data)

    def keep(self, event: dict[str, Any]) -> None:
        """Counts what an event of a stream leaves behind, whose events say the same again around each piece of a text.

        Raises `ReplyError` for too much.
        """
        before = self._before
        self._kept += _KEPT
        for name, value in event.items():
            if name not in before:
                self._kept += _NAME
            if not isinstance(value, str) or name == _DELTA or before.get(name) != value:
                self._kept += _added(value, before.get(name))
        before |= event
        if self._kept > self._most:
            raise _too_many()


def _too_many() -> ReplyError:
    return ReplyError("the reply has too many values: ask for a shorter one, or raise max_response_bytes")


def _added(value: Any, before: Any, *, is_place: bool = True) -> int:
    """Returns the bytes of memory that a value leaves behind, one that takes the place of the value before.

    `is_place`: the one value in a list takes the place of that before, too; else lists grow by it, as `logprobs` do.
    """
    if isinstance(value, dict) and isinstance(before, dict):
        return sum(
            _added(each, before[name], is_place=is_place or (name == _CALLS and _goes_on(each, before[name])))
            if name in before
            else _NAME + _weight(each)
            for name, each in value.items()
        )
    if is_place and isinstance(value, list) and isinstance(before, list) and len(value) == len(before) == 1:
        return _added(value[0], before[0], is_place=False)
    return _weight(value)


def _goes_on(calls: Any, before: Any) -> bool:
    """Returns whether a list holds no more than the next piece of the tool call before: it begins no other one."""
    lists = [
        each for each in (calls, before) if isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict)
    ]
    if len(lists) < 2:  # noqa: PLR2004 - both
        return False
    piece, function = calls[0], calls[0].get("function")
    has_name = bool(piece.get("id") or not isinstance(function, dict) or function.get("name"))
    return not has_name and piece.get("index") == before[0].get("index")


def _weight(value: Any) -> int:
    """Returns the bytes of memory that the texts, objects and lists in a value take, about."""
    if isinstance(value, str):
        return _KEPT + len(value) * (1 if value.isascii() else 1 + _WIDER)
    if isinstance(value, dict):
        return _KEPT + _NAME * len(value) + sum(map(_weight, value.values()))
    return _KEPT + _PLACE * len(value) + sum(map(_weight, value)) if isinstance(value, list) else 0


def occurrences(data: bytes, sign: bytes) -> int:
    """Returns how often a byte is there. `find` skips what lies between over ten times as fast as `count` does.

    That helps where few are in a lot, as in the JSON of packed vectors; where there turn out to be many, it counts.
    """
    if len(data) <= SMALL:
        return data.count(sign)
    at = -1
    for found in range(len(data) // _SPARSE):
        at = data.find(sign, at + 1)
        if at < 0:
            return found
    return data.count(sign, at + 1) + len(data) // _SPARSE


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
    if isinstance(source, str):
        opened = source.count("[") + source.count("{")
    else:
        opened = occurrences(source, b"[") + occurrences(source, b"{")
    return opened > _DEEPEST and _is_too_deep(value, opened)


def _is_too_deep(value: Any, opened: float = math.inf) -> bool:
    """Returns whether there are too many levels. There are no more objects and lists in all than were `opened`.

    A level is looked through only if it could matter: the numbers of a call's vectors, at the lowest one, are many.
    """
    level, seen = [value] if type(value) in _NESTED else [], 0
    for depth in range(_DEEPEST):
        seen += len(level)
        if not level or depth + 1 + opened - seen <= _DEEPEST:
            return False
        parts = (each.values() if type(each) is dict else each for each in level)
        level = [
            inner
            for part in parts
            if not _NESTED.isdisjoint(map(type, part))
            for inner in part
            if type(inner) in _NESTED
        ]
    return bool(level)


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
