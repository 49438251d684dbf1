"""One line at the bottom of a terminal, redrawn in place and erased before other output."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self, TextIO

from connector.base.terminal import one_line

_ERASE: Final = "\r\x1b[K"  # to the first column, then to the end of the line (ECMA-48: EL)
_PLAIN: Final = str.maketrans("·×…", "|x~")
_NARROWEST: Final = 10  # columns; a smaller reported width is not believed
_USUAL: Final = 80


class Part(NamedTuple):
    """A part of a line. If there is no room for all, parts with a low `rank` are kept first."""

    text: str
    rank: int = 0


def fitted(parts: Iterable[Part], columns: int | None) -> str:
    """Joins parts into a line of at most `columns`; `None` for no limit."""
    given = [part._replace(text=one_line(part.text)) for part in parts if part.text]
    if columns is None or not given:
        return _joined(given)
    first, *others = sorted(range(len(given)), key=lambda place: given[place].rank)
    if len(given[first].text) > columns:
        return f"{given[first].text[: columns - 1]}…"
    chosen = [first]
    for place in others:
        more = sorted([*chosen, place])
        chosen = more if len(_joined([given[each] for each in more])) <= columns else chosen
    return _joined([given[place] for place in chosen])


def _joined(parts: list[Part]) -> str:
    return " · ".join(part.text for part in parts)


class LiveLine:
    """A line on a terminal. While entered, it replaces `sys.stderr`, so that other output erases the line first.

    Args:
        stream: The terminal, as a text stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # reentrant, as a signal handler may take it again
        self._drawn = ""

    @property
    def columns(self) -> int:
        """How many columns a line may take now: all except the last, at which some terminals wrap."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns if columns >= _NARROWEST else _USUAL) - 1

    def draw(self, parts: Iterable[Part]) -> None:
        """Shows a line in place of the previous one."""
        line = fitted(parts, self.columns)
        with self._lock:
            self._drawn = line  # first: a signal may come before the next step
            self._stream.write(_ERASE + _encodable(line, self._stream.encoding))
            self._stream.flush()

    def clear(self) -> None:
        """Erases the line."""
        with self._lock:
            if self._drawn:
                self._stream.write(_ERASE)
                self._stream.flush()
                self._drawn = ""

    def taken(self) -> str:
        """Returns the characters that erase the line, for writers that bypass `sys.stderr`; empty if none is shown."""
        drawn, self._drawn = self._drawn, ""
        return _ERASE if drawn else ""

    def write(self, text: str) -> int:
        """Writes other output, in place of `sys.stderr`."""
        with self._lock:
            self.clear()
            return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        sys.stderr = self  # what it does not define is delegated to the stream
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        if sys.stderr is self:
            sys.stderr = self._stream


def _encodable(line: str, encoding: str | None) -> str:
    """Returns a line with characters that the terminal's encoding lacks replaced."""
    try:
        line.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return line.translate(_PLAIN).encode("ascii", "replace").decode()
    return line
