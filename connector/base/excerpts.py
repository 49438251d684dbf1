"""Excerpts of requests, replies and rows for display, without long parts that mean nothing to people."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Final

from connector.base.amounts import counted, size
from connector.base.records import JSON
from connector.base.regex import regex

_LONG: Final = 1_000  # characters shown of a text
_MANY: Final = 12  # of a list with more numbers than this,
_FEW: Final = 3  # only so many are shown
_DATA: Final = regex(r"data:([^;,\s]*)(?:;[^,\s]*)?;base64,(?=[A-Za-z0-9+/_-]{64})")
_BASE64: Final = regex(r"[A-Za-z0-9+/_-]{200}")
_BODY: Final = regex(r"[A-Za-z0-9+/_=\s-]*")


def excerpt(value: JSON) -> JSON:
    """Returns a value with files, long texts and long lists of numbers summarized in a few words."""
    return _shortened(value, _text)


def without_files(value: Any) -> Any:
    """Returns a value with files and long lists of numbers summarized in a few words, and all texts in full.

    Bytes in a row count as a file, however short they are.
    """
    return f"[{size(len(value))}]" if isinstance(value, bytes) else _shortened(value, _file)


def _shortened(value: JSON, text: Callable[[str], str]) -> JSON:
    if isinstance(value, dict):
        return {name: _shortened(each, text) for name, each in value.items()}
    if isinstance(value, list | array):
        if len(value) > _MANY and all(isinstance(each, int | float) for each in value):
            return [*value[:_FEW], f"… {counted(len(value) - _FEW, 'more number')}"]
        return [_shortened(each, text) for each in value]
    return text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    text = _file(text)
    return text if len(text) <= _LONG else f"{text[:_LONG]}… ({counted(len(text) - _LONG, 'more character')})"


def _file(text: str) -> str:
    """Returns a summary of a text that contains a file; any other text as it is."""
    if data := _DATA.match(text):
        return f"[{data[1] or 'data'}, {_decoded_size(len(text) - data.end())}]"
    if _BASE64.match(text) and _BODY.fullmatch(text):
        return f"[base64, {_decoded_size(len(text))}]"
    return text


def _decoded_size(length: int) -> str:
    """Returns the decoded size of base64 with this many characters, for people."""
    return size(length * 3 // 4)
