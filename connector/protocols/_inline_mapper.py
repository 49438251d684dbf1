"""Maps streams inline: lines of another program's messages become items of a run, and the results become lines again.

Every line comes out once and in order. The line of a stream that gains no columns is parsed only up to its name.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import IDLE, Idle, Message, Outcome, Record, Schema, is_earlier
from connector.protocols import Transform
from connector.protocols._record_lines import SplitLine, dumps, loads, split_exactly, split_quickly

_TOGETHER: Final = 1 << 16  # bytes of neighbouring lines that pass through as one message
_ROOM: Final = 1 << 26  # the most bytes between input and output
_NOTHING: Final = re.compile(rb"(?!)()")

Object = dict[str, Any]
OpenStream = Callable[[str, Iterable[str] | None], dict[str, Schema] | None]
"""`Transform.open`."""


class MessageFormat(NamedTuple):
    """How a protocol writes its messages.

    Attributes:
        head: Matches a RECORD as it is usually written, up to its row; its group is the name of the stream.
        path: Leads to the row of any RECORD.
        stream_of: Returns the stream of a RECORD.
        declares: The type of the messages that declare columns.
        declare: Adds the columns that streams gain to such a message; returns whether there are any.
        is_strict: Whether a RECORD before that message is an error.
        refused: The types of messages whose rows are not in the message.
    """

    head: re.Pattern[bytes]
    path: tuple[str, ...]
    stream_of: Callable[[Object], Any]
    declares: str
    declare: Callable[[Object, OpenStream], bool]
    is_strict: bool = False
    refused: frozenset[str] = frozenset()


class InlineMapper:
    """Turns lines into items of a run, and its results into lines.

    Args:
        format_of: Tells the format by the first message.
    """

    def __init__(self, transform: Transform, format_of: Callable[[Object], MessageFormat]) -> None:
        self._transform = transform
        self._format_of = format_of
        self._format: MessageFormat | None = None
        self._head = _NOTHING.match
        self._gained: dict[str, frozenset[str] | None] = {}
        self._names: dict[bytes, str | None] = {}
        self._index = 0
        self._places: deque[tuple[bytes, bytes]] = deque()
        self._held = 0

    def items(self, lines: Iterable[bytes | None]) -> Iterator[Record | Message | Idle]:
        """Yields records of streams that gain columns, messages for all other lines, `IDLE` for each pause.

        Raises:
            ConfigError: A line is not a message, or cannot be enriched; the error names the line.
        """
        passing: list[bytes] = []
        size = 0
        for part in self._parts(lines):
            if isinstance(part, bytes):
                passing.append(part)
                size += len(part)
                if size < _TOGETHER:
                    continue
            if passing:
                line = b"\n".join(passing)
                yield Message(self._placed(line), line)
                passing.clear()
                size = 0
            if isinstance(part, tuple):
                stream, cut = part
                yield Record(self._placed(cut.head, cut.tail), cut.row, stream)
            elif part is None:
                yield IDLE
            while self._held > _ROOM:
                yield IDLE

    def written(self, result: Outcome | Message) -> bytes:
        """Returns the lines of a result, with line ends. Takes one result for each item, in order."""
        head, tail = self._places.popleft()
        self._held -= len(head) + len(tail)
        if isinstance(result, Message):
            return result.line and result.line + b"\n"
        comma = b"," if result.record.data else b""
        return b"%b%b%b%b\n" % (head, comma, numbers.dumps({**result.columns, **result.group})[1:-1], tail)

    def _placed(self, head: bytes, tail: bytes = b"") -> int:
        """Keeps the parts of a line until its result comes; returns its index."""
        self._places.append((head, tail))
        self._held += len(head) + len(tail)
        self._index += 1
        return self._index - 1

    def _parts(self, lines: Iterable[bytes | None]) -> Iterator[bytes | tuple[str, SplitLine] | None]:
        """Yields lines that pass through, rows of streams that gain columns, and `None` for a pause and the end."""
        number = 0
        for line in lines:
            if line is None:
                yield None
                continue
            number += 1
            try:
                part = self._read(line)
            except ConfigError as error:
                yield None
                raise ConfigError(f"standard input, line {number}: {error.message}") from None
            if part:
                yield part
        yield None

    def _read(self, line: bytes) -> bytes | tuple[str, SplitLine]:
        match = self._head(line)
        if match is None or self._format is None:
            return self._parsed(line)
        name: bytes = match[1]
        if name not in self._names:
            self._names[name] = self._enriched(loads(b'"%b"' % name))
        stream = self._names[name]
        if stream is None:
            return line
        cut = split_quickly(line, match.end(), len(self._format.path))
        return self._row(stream, cut) if cut else self._parsed(line)

    def _parsed(self, line: bytes) -> bytes | tuple[str, SplitLine]:
        """Reads any line, however it is written; a blank one is left out."""
        if not line.strip():
            return b""
        message = loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ConfigError("it is not a message: a message is a JSON object with a type")
        if self._format is None:
            self._format = self._format_of(message)
            self._head = self._format.head.match
        format_, kind = self._format, message["type"]
        if kind == format_.declares:
            return dumps(message) if format_.declare(message, self._open) else line
        if kind in format_.refused and self._gained.get(str(message.get("stream")), ()) is not None:
            raise ConfigError(
                f"a {kind} message cannot be enriched, since its rows are in files: set the tap to send RECORD messages"
            )
        if kind != "RECORD":
            return line
        stream = format_.stream_of(message)
        if not isinstance(stream, str):
            raise ConfigError("the RECORD has no stream")
        return line if self._enriched(stream) is None else self._row(stream, split_exactly(line, format_.path))

    def _row(self, stream: str, cut: SplitLine) -> tuple[str, SplitLine]:
        gained = self._gained[stream] or frozenset()
        if any(map(is_earlier, gained)) and (earlier := list(filter(is_earlier, cut.row))):
            cut = cut.without(earlier)  # one rule: the provenance of an earlier run is replaced
        if not gained.isdisjoint(cut.row):
            names = ", ".join(f'"{name}"' for name in cut.row if name in gained)
            raise ConfigError(f'the record of stream "{stream}" already has {names}: rename the new column')
        return stream, cut

    def _enriched(self, stream: str) -> str | None:
        """Returns the name of the stream if it gains columns."""
        if stream not in self._gained:
            if self._format is None or self._format.is_strict:
                raise ConfigError(f'a RECORD of stream "{stream}" comes before its SCHEMA: send the SCHEMA first')
            self._open(stream, None)
        return None if self._gained[stream] is None else stream

    def _open(self, stream: str, columns: Iterable[str] | None) -> dict[str, Schema] | None:
        gained = self._transform.open(stream, columns)
        self._gained[stream] = None if gained is None else frozenset(gained)
        return gained
