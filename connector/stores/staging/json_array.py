"""Splits a JSON array into its items, without parsing them and without holding all of it in memory."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO, Final

from connector.base.regex import regex
from connector.stores.staging.ordered import BUFFER

LONGEST: Final = 1 << 24
"""Most bytes of an item."""

_BLANK: Final = b" \t\r\n"
_BETWEEN: Final = regex(rb'(?:[^"{}\[\],]++|"(?:[^"\\]++|\\.)*+")*+[{}\[\],]', re.DOTALL)
_INSIDE: Final = regex(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+[{}\[\]]', re.DOTALL)


def items(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the text of each item of the array in a UTF-8 file, in linear time.

    An item ends at the comma or bracket outside of its own brackets and strings; its content may be invalid.

    Raises:
        ValueError: It is not an array, or its end is missing; an item is missing, or too long.
    """
    data, number, depth = _first(stream), 1, 0
    start = at = 1
    while True:
        found = _INSIDE.match(data, at) if depth else _BETWEEN.match(data, at)
        if found is None:
            if len(data) - start > LONGEST:
                raise ValueError(f"item {number} has more than {LONGEST >> 20} MiB")
            piece = stream.read(max(BUFFER, len(data) - start))  # as much again: a long string is rescanned each time
            if not piece:
                raise ValueError(f"it ends within item {number}")
            data, at, start = data[start:] + piece, at - start, 0
            continue
        at = found.end()
        mark = data[at - 1 : at]
        if mark in b"{[":
            depth += 1
        elif depth:
            depth -= 1
        else:
            item = data[start : at - 1].strip(_BLANK)
            if item:
                yield item
            elif mark != b"]" or number > 1:
                raise ValueError(f"item {number} is missing")
            if mark != b",":
                break
            start, number = at, number + 1
    _expect_the_end(data[at - (mark == b"}") :], stream)


def _first(stream: BinaryIO) -> bytes:
    """Returns the beginning of a file, from the opening bracket on."""
    data = stream.read(BUFFER).removeprefix(BOM_UTF8).lstrip(_BLANK)
    while not data and (piece := stream.read(BUFFER)):
        data = piece.lstrip(_BLANK)
    if not data.startswith(b"["):
        raise ValueError("it is not an array")
    return data


def _expect_the_end(rest: bytes, stream: BinaryIO) -> None:
    while not rest.strip(_BLANK):
        rest = stream.read(BUFFER)
        if not rest:
            return
    raise ValueError("something follows its end")
