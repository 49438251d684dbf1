"""Decodes JSON from outside, and joins texts that were cut anywhere."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.errors import ReplyError
from connector.base.regex import regex

_DEEPEST: Final = 100  # levels; a schema has twice as many, a message around it a few more, and orjson writes 254
_SHORT: Final = 2 * _DEEPEST  # characters: shorter texts cannot be too deep; most events of a stream are shorter

_OBJECT, _ITEM, _NAME = 72, 32, 100  # bytes of memory for an object or a list, for a value in it, and for a key
_SIZES: Final = ((b"{", _OBJECT), (b"[", _OBJECT), (b",", _ITEM), (b":", _NAME))
_WIDER: Final = 3  # more bytes per byte of a text: one character beyond 16 bits makes all of it four bytes wide
_KEPT: Final = 64  # the least bytes of memory that an event, or a text, object or list in it, leaves behind
_PLACE: Final = 8
_COSTLIER: Final = 4  # the most bytes of memory per byte of the largest reply, and of a stream
_DELTA: Final = "delta"  # the key of a piece of text outside of choices
_CALLS: Final = "tool_calls"  # the key of the list with pieces of tool calls

_NESTED: Final = frozenset({dict, list})
_SPARSE: Final = 512  # the average distance in bytes from which on `find` is faster than `count`

SMALL: Final = 1 << 16
"""Bytes of JSON that take little memory when decoded, whatever they are."""

_STRING_OR_BRACKET: Final = regex(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)

TOO_DEEP: Final = "the reply is nested too deeply to be kept"
"""The error of a row whose reply raises `DepthError`."""


class DepthError(ValueError):
    """JSON that is nested too deeply to be encoded again."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply")


class Allowance:
    """The memory that one reply may take when decoded, whether its JSON comes whole or in pieces.

    Args:
        most: The most bytes of the reply. JSON such as `[{},{},{},…]` takes over thirty times its size in memory.

    Attributes:
        most_bytes: The most bytes of the reply, as given.
        taken: About how many bytes of memory it takes so far. Brackets, colons and commas in texts count too, but are
            rare.
    """

    def __init__(self, most: int) -> None:
        self.most_bytes = most
        self._most = _COSTLIER * most
        self._size = 0
        self._values = 0
        self._wider = 0
        self._kept = 0
        self._before: dict[str, Any] = {}
        self.taken = 0

    @property
    def most(self) -> int:
        """The most bytes of memory that a reply may take, and the most bytes of a stream."""
        return self._most

    def take(self, data: bytes) -> None:
        """Counts a piece of JSON. Raises `ReplyError` for too much."""
        self.count(data)
        if self.taken - self._size > self._most and self._size > SMALL:
            raise _too_many()

    def count(self, data: bytes) -> None:
        """Counts a piece of JSON that leaves little in memory, which `keep` bounds.

        One wide character makes the whole text wide that its piece is joined to.
        """
        self._size += len(data)
        self._values += sum(size * occurrences(data, sign) for sign, size in _SIZES)
        if not self._wider and (not data.isascii() or (b"\\" in data and b"\\u" in data)):
            self._wider = _WIDER
        self.taken = self._values + (1 + self._wider) * self._size

    def keep(self, event: dict[str, Any]) -> None:
        """Counts what an event leaves in memory: events of a stream repeat the same fields around each piece of text.

        Raises `ReplyError` for too much.
        """
        before = self._before
        self._kept += _KEPT
        for name, value in event.items():
            if name not in before:
                self._kept += _NAME
            if not isinstance(value, str) or name == _DELTA or before.get(name) != value:
                self._kept += _added(value, before.get(name), 1 + self._wider)
        before |= event
        if self._kept > self._most:
            raise _too_many()


def weight_of_reply(data: bytes, most: int = sys.maxsize) -> int:
    """Returns about how many bytes of memory a large reply takes, as JSON and decoded together; 0 for a small one.

    Raises `ReplyError` if it has more values than a reply of `most` bytes may have.
    """
    if len(data) <= SMALL:
        return 0
    allowance = Allowance(most)
    allowance.take(data)
    return len(data) + allowance.taken


def _too_many() -> ReplyError:
    return ReplyError("the reply has too many values: ask for a shorter one, or raise max_response_bytes")


def _added(value: Any, before: Any, width: int, *, is_place: bool = True) -> int:
    """Returns the bytes of memory that a value adds if it replaces `before`; a character takes `width` bytes.

    `is_place`: a single value in a list also replaces the one before; otherwise lists grow by it, like `logprobs`.
    """
    if isinstance(value, dict) and isinstance(before, dict):
        return sum(
            _added(each, before[name], width, is_place=is_place or (name == _CALLS and _goes_on(each, before[name])))
            if name in before
            else _NAME + _weight(each, width)
            for name, each in value.items()
        )
    if is_place and isinstance(value, list) and isinstance(before, list) and len(value) == len(before) == 1:
        return _added(value[0], before[0], width, is_place=False)
    return _weight(value, width)


def _goes_on(calls: Any, before: Any) -> bool:
    """Returns whether a list has only the next piece of the same tool call, rather than the start of another one."""
    lists = [
        each for each in (calls, before) if isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict)
    ]
    if len(lists) < 2:  # noqa: PLR2004 - both
        return False
    piece, function = calls[0], calls[0].get("function")
    has_name = bool(piece.get("id") or not isinstance(function, dict) or function.get("name"))
    return not has_name and piece.get("index") == before[0].get("index")


def _weight(value: Any, width: int) -> int:
    """Returns about how many bytes of memory the texts, objects and lists in a value take."""
    if isinstance(value, str):
        return _KEPT + len(value) * width
    if isinstance(value, dict):
        return _KEPT + _NAME * len(value) + sum(_weight(each, width) for each in value.values())
    if isinstance(value, list):
        return _KEPT + _PLACE * len(value) + sum(_weight(each, width) for each in value)
    return 0


def occurrences(data: bytes, sign: bytes) -> int:
    """Returns how often a byte occurs. `find` skips other bytes over ten times as fast as `count`.

    It is used while the byte is rare, as in the JSON of base64 vectors; once it turns out to be frequent, `count` is.
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
    """Decodes JSON. Accepts a lone surrogate, since a stream may cut an emoji in two, but not NaN.

    Args:
        data: The JSON.
        decode: Decodes JSON without lone surrogates; `numbers.loads` keeps all digits of numbers.

    Raises:
        ValueError: It is not JSON. `DepthError`: it is nested too deeply.
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
    """Returns whether JSON, decoded from `source`, is nested too deeply to be encoded: orjson decodes more levels."""
    if isinstance(source, str):
        opened = source.count("[") + source.count("{")
    elif len(source) <= SMALL:  # as `occurrences` counts, without two calls for each row
        opened = source.count(b"[") + source.count(b"{")
    else:
        opened = occurrences(source, b"[") + occurrences(source, b"{")
    return opened > _DEEPEST and _is_too_deep(value, opened)


def _is_too_deep(value: Any, opened: float = math.inf) -> bool:
    """Returns whether there are too many levels, given the total number of objects and lists, `opened`.

    A level is scanned only if it could matter, since the lowest one may hold many numbers of vectors.
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
    """Returns whether JSON is nested too deeply, without decoding it.

    Decoding until Python's recursion limit stops it may raise inside the finalizer of any object.
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


def storable(body: Any, data: bytes | None = None) -> Any:
    """Makes sure that a decoded object can be stored and encoded again: lone surrogates become U+FFFD.

    `data` is the JSON from which orjson decoded it, if it did: orjson accepts no lone surrogates, and encodes all that
    it decodes unless that is nested too deeply. Raises `DepthError` if it is.
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
    """Joins pieces of a text, and repairs characters that were cut in two between them."""
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
