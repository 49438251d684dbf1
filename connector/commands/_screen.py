"""What fits on a screen: JSON that takes no more of it than its share, and what several values have in common."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.amounts import counted
from connector.base.decoding import storable
from connector.base.excerpts import excerpt
from connector.base.records import JSON

_LINES: Final = 40  # of a screen, where there is none that says so
_LEAST: Final = 8  # lines


def common(values: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    """Returns the members that all of several objects share, if there are several."""
    if len(values) < 2:  # noqa: PLR2004 - one shares nothing
        return {}
    first, *others = values
    return {name: each for name, each in first.items() if all(name in o and o[name] == each for o in others)}


def screen(value: Any, *, whole: bool, share: float = 1) -> str:
    """Returns a value as indented JSON that takes at most this share of a screen, or all of it."""
    text = numbers.dumps(storable(value if whole else excerpt(value)), option=orjson.OPT_INDENT_2).decode()
    height = shutil.get_terminal_size((80, _LINES)).lines - 1  # one is the title's
    lines, most = text.splitlines(), max(_LEAST, int(height * share))
    if whole or len(lines) <= most:
        return text
    return "\n".join([*lines[: most - 1], f"… {counted(len(lines) - most + 1, 'more line')}: --full shows them"])
