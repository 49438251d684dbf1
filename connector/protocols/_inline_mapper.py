"""Maps streams inline: lines of another program's messages become items of a run, and the results become lines again.

Every line comes out once and in order. The line of a stream that gains no columns is parsed only up to its name. Rows
that a message has in files are mapped into files beside them, and the message then names those.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import IDLE, Idle, Message, Outcome, Record, Schema, is_earlier
from connector.base.regex import regex
from connector.protocols import Transform
from connector.protocols._batch_files import BatchFiles, EnrichedFile
from connector.protocols._record_lines import SplitLine, dumps, loads, split_exactly, split_object, split_quickly

_TOGETHER: Final = 1 << 16  # bytes of neighbouring lines that pass through as one message
_ROOM: Final = 1 << 26  # the most bytes between input and output
_NOTHING: Final = regex(rb"(?!)()")

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
        in_files: The types of messages whose rows are in files.
    """

    head: re.Pattern[bytes]
    path: tuple[str, ...]
    stream_of: Callable[[Object], Any]
    declares: str
    declare: Callable[[Object, OpenStream], bool]
    is_strict: bool = False
    in_files: frozenset[str] = frozenset()


class _Row(NamedTuple):
    """A row of a stream that gains columns; `file` is where it goes if it came in one."""

    stream: str
    cut: SplitLine
    file: EnrichedFile | None = None


class _Files(NamedTuple):
    """A message whose rows are in files, once all of them have been read."""

    line: bytes
    files: Sequence[EnrichedFile]


class _Place(NamedTuple):
    """The parts of a line whose result is awaited, the file that it goes to, and those that are whole with it."""

    head: bytes
    tail: bytes = b""
    file: EnrichedFile | None = None
    whole: Sequence[EnrichedFile] = ()


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
        self._places: deque[_Place] = deque()
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
                yield Message(self._placed(_Place(line)), line)
                passing.clear()
                size = 0
            if isinstance(part, _Row):
                yield Record(self._placed(_Place(part.cut.head, part.cut.tail, part.file)), part.cut.row, part.stream)
            elif isinstance(part, _Files):
                yield Message(self._placed(_Place(part.line, whole=part.files)), part.line)
            elif part is None:
                yield IDLE
            while self._held > _ROOM:
                yield IDLE

    def written(self, result: Outcome | Message) -> bytes:
        """Returns the lines of a result, with line ends. Takes one result for each item, in order."""
        head, tail, file, whole = self._places.popleft()
        self._held -= len(head) + len(tail)
        for each in whole:
            each.close()
        if isinstance(result, Message):
            return result.line and result.line + b"\n"
        comma = b"," if result.record.data else b""
        line = b"%b%b%b%b\n" % (head, comma, numbers.dumps({**result.columns, **result.group})[1:-1], tail)
        if file is None:
            return line
        file.write(line)
        return b""

    def _placed(self, place: _Place) -> int:
        """Keeps the parts of a line until its result comes; returns its index."""
        self._places.append(place)
        self._held += len(place.head) + len(place.tail)
        self._index += 1
        return self._index - 1

    def _parts(self, lines: Iterable[bytes | None]) -> Iterator[bytes | _Row | _Files | None]:
        """Yields lines that pass through, rows of streams that gain columns, and `None` for a pause and the end."""
        number = 0
        for line in lines:
            if line is None:
                yield None
                continue
            number += 1
            try:
                part = self._read(line)
                if isinstance(part, dict):
                    yield from self._mapped_files(part)
                elif part:
                    yield part
            except ConfigError as error:
                yield None
                raise ConfigError(f"standard input, line {number}: {error.message}") from None
        yield None

    def _mapped_files(self, message: Object) -> Iterator[_Row | _Files]:
        """Yields the rows that a message has in files, and behind them the message with the files that they go to."""
        stream, found = str(message["stream"]), BatchFiles(message)
        made = []
        for path in found.paths:
            file = found.writing(path)
            made.append(file)
            for number, line in enumerate(found.lines(path), 1):
                try:
                    yield self._row(stream, split_object(line), file)
                except ConfigError as error:
                    raise ConfigError(f"{path}, line {number}: {error.message}") from None
        yield _Files(dumps({**message, "manifest": [file.uri for file in made]}), made)

    def _read(self, line: bytes) -> bytes | _Row | Object:
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

    def _parsed(self, line: bytes) -> bytes | _Row | Object:
        """Reads any line, however it is written; a blank one is left out, a message with files comes as it is."""
        if not line.strip():
            return b""
        message = loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ConfigError("this is not a message: a message is a JSON object with a type")
        if self._format is None:
            self._format = self._format_of(message)
            self._head = self._format.head.match
        format_, kind = self._format, message["type"]
        if kind == format_.declares:
            return dumps(message) if format_.declare(message, self._open) else line
        if kind != "RECORD" and kind not in format_.in_files:
            return line
        stream = message.get("stream") if kind in format_.in_files else format_.stream_of(message)
        if not isinstance(stream, str):
            raise ConfigError(f"the {kind} has no stream")
        if kind in format_.in_files:
            return line if self._enriched(stream, kind) is None else message
        return line if self._enriched(stream) is None else self._row(stream, split_exactly(line, format_.path))

    def _row(self, stream: str, cut: SplitLine, file: EnrichedFile | None = None) -> _Row:
        gained = self._gained[stream] or frozenset()
        if any(map(is_earlier, gained)) and (earlier := list(filter(is_earlier, cut.row))):
            cut = cut.without(earlier)  # one rule: the provenance of an earlier run is replaced
        if not gained.isdisjoint(cut.row):
            names = ", ".join(f'"{name}"' for name in cut.row if name in gained)
            raise ConfigError(f'the record of stream "{stream}" already has {names}: rename the new column')
        return _Row(stream, cut, file)

    def _enriched(self, stream: str, kind: str = "RECORD") -> str | None:
        """Returns the name of the stream if it gains columns."""
        if stream not in self._gained:
            if self._format is None or self._format.is_strict:
                raise ConfigError(f'a {kind} of stream "{stream}" comes before its SCHEMA: send the SCHEMA first')
            self._open(stream, None)
        return None if self._gained[stream] is None else stream

    def _open(self, stream: str, columns: Iterable[str] | None) -> dict[str, Schema] | None:
        gained = self._transform.open(stream, columns)
        self._gained[stream] = None if gained is None else frozenset(gained)
        return gained
