"""Requests and replies as people are shown them: without what is long and tells a person nothing, on one screen."""

from __future__ import annotations

import re
import shutil
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.amounts import counted, size
from connector.base.records import JSON

_LONG: Final = 1_000  # characters of a text that are shown
_MANY: Final = 12  # numbers of a list, of which
_FEW: Final = 3  # are shown
_DATA: Final = re.compile(r"data:([^;,\s]*)(?:;[^,\s]*)?;base64,(?=[A-Za-z0-9+/_-]{64})")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{200}")
_BODY: Final = re.compile(r"[A-Za-z0-9+/_=\s-]*")
_LINES: Final = 40  # of a screen, where there is none that says so
_LEAST: Final = 8  # lines


def excerpt(value: JSON) -> JSON:
    """Returns a value with its files, long texts and long lists of numbers told in a few words."""
    if isinstance(value, dict):
        return {name: excerpt(each) for name, each in value.items()}
    if isinstance(value, list | array):
        if len(value) > _MANY and all(isinstance(each, int | float) for each in value):
            return [*value[:_FEW], f"… {counted(len(value) - _FEW, 'more number')}"]
        return [excerpt(each) for each in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    if data := _DATA.match(text):
        return f"[{data[1] or 'data'}, {_decoded_size(len(text) - data.end())}]"
    if _BASE64.match(text) and _BODY.fullmatch(text):
        return f"[base64, {_decoded_size(len(text))}]"
    return text if len(text) <= _LONG else f"{text[:_LONG]}… ({counted(len(text) - _LONG, 'more character')})"


def _decoded_size(length: int) -> str:
    """Returns the size of what so many characters of base64 hold."""
    return size(length * 3 // 4)


def common(values: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    """Returns the members that all of several objects share, if there are several."""
    if len(values) < 2:  # noqa: PLR2004 - one shares nothing
        return {}
    first, *others = values
    return {name: each for name, each in first.items() if all(name in o and o[name] == each for o in others)}


def screen(value: Any, *, whole: bool, share: float = 1) -> str:
    """Returns a value as indented JSON that takes at most this share of a screen, or all of it."""
    text = numbers.dumps(value if whole else excerpt(value), option=orjson.OPT_INDENT_2).decode()
    height = shutil.get_terminal_size((80, _LINES)).lines - 1  # one is the title's
    lines, most = text.splitlines(), max(_LEAST, int(height * share))
    if whole or len(lines) <= most:
        return text
    return "\n".join([*lines[: most - 1], f"… {counted(len(lines) - most + 1, 'more line')}: --full shows them"])
