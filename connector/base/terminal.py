"""Writes what people read. Text from outside (names, replies, errors) is shown as text, and never controls a terminal.

Nor can it pass as a line of ours: within a line it stays on that line, and all but the first line of a message are
indented.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final, TextIO

from connector.base.regex import regex

_ACTIVE: Final = regex(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls (ECMA-48), without tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # control of the text direction (Unicode, UAX 9)
    "\u2028\u2029\ud800-\udfff]"  # other line breaks, and lone surrogates
)


def printable(text: str) -> str:
    """Returns a text with terminal controls as JSON escapes, so that JSON stays the same JSON."""
    return _ACTIVE.sub(_escape, text)


def one_line(text: str) -> str:
    """Like `printable`, on one line: line feeds and tabs are escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def hanging(text: str) -> str:
    """Returns a message with all lines after the first one indented."""
    return text.replace("\n", "\n  ")


def aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a table with aligned columns, one line per row."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    """Writes lines for people; each stays one line, whatever it contains."""
    write(stream, "".join(f"{one_line(line)}\n" for line in lines))


def data_writer(out: BinaryIO) -> Callable[[bytes], object]:
    """Returns a function that writes whole lines of JSON: to a program as they are, to a terminal as `printable`.

    The JSON is the same for both.
    """
    if not out.isatty():
        return out.write
    return lambda data: out.write(printable(data.decode("utf-8", "surrogateescape")).encode())


def write(stream: TextIO, text: str) -> None:
    """Writes a text for people. Characters that the stream's encoding lacks are escaped too."""
    shown = printable(text)
    try:
        shown.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        shown = re.sub(r"[^\x00-\x7f]", _escape, shown)
    stream.write(shown)


def is_terminal(stream: TextIO) -> bool:
    """Returns whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show_logs() -> None:
    """Makes warnings without a handler, which go to stderr, printable."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(hanging(super().format(record)))


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
