"""Messages in flight: lines of another program's messages become items of a run, and its results become lines again.

Every line comes out once, at its place. One that nothing happens to is not parsed beyond the name of its stream.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from connector.base.errors import ConfigError
from connector.base.records import IDLE, Idle, Message, Outcome, Record, Schema
from connector.protocols import Transform
from connector.protocols._cut import Cut, guessed, loads, walked

_TOGETHER: Final = 1 << 16  # bytes of neighbouring lines that pass as one message
_ROOM: Final = 1 << 26  # bytes that may be on their way between input and output
_NOTHING: Final = re.compile(rb"(?!)()")

Object = dict[str, Any]
Open = Callable[[str, Iterable[str] | None], dict[str, Schema] | None]
"""`Transform.open`."""


class Form(NamedTuple):
    """How a dialect's messages look.

    `head` matches a RECORD as it usually is written, up to its row, with the stream's name as its group; `path` leads
    to the row of any RECORD, and `stream_of` tells its stream. `declares` is the type of the messages that declare
    columns: `declare` puts into one what its streams gain, and returns whether that is anything. If `is_strict`, no
    RECORD comes before that. `refused` are the types of messages whose rows cannot be reached.
    """

    head: re.Pattern[bytes]
    path: tuple[str, ...]
    stream_of: Callable[[Object], Any]
    declares: str
    declare: Callable[[Object, Open], bool]
    is_strict: bool = False
    refused: frozenset[str] = frozenset()


class Inlet:
    """The way of lines into a run, and out of it.

    Args:
        form_of: Tells the dialect by the first message.
    """

    def __init__(self, transform: Transform, form_of: Callable[[Object], Form]) -> None:
        self._transform = transform
        self._form_of = form_of
        self._form: Form | None = None
        self._head = _NOTHING.match
        self._gained: dict[str, frozenset[str] | None] = {}
        self._names: dict[bytes, str | None] = {}
        self._index = 0
        self._places: deque[tuple[bytes, bytes]] = deque()
        self._held = 0

    def items(self, lines: Iterable[bytes | None]) -> Iterator[Record | Message | Idle]:
        """Records of streams that gain columns, messages of all other lines, `IDLE` for each pause.

        Raises:
            ConfigError: A line is no message, or one that cannot be enriched; it tells the line's number.
        """
        passing: list[bytes] = []
        size = 0
        for told in self._told(lines):
            if isinstance(told, bytes):
                passing.append(told)
                size += len(told)
                if size < _TOGETHER:
                    continue
            if passing:
                line = b"\n".join(passing)
                yield Message(self._placed(line), line)
                passing.clear()
                size = 0
            if isinstance(told, tuple):
                stream, cut = told
                yield Record(self._placed(cut.head, cut.tail), cut.row, stream)
            elif told is None:
                yield IDLE
            while self._held > _ROOM:
                yield IDLE

    def written(self, result: Outcome | Message) -> bytes:
        """The lines of a result, with their ends. Results come in the order of their items, one for each."""
        head, tail = self._places.popleft()
        self._held -= len(head) + len(tail)
        if isinstance(result, Message):
            return result.line and result.line + b"\n"
        comma = b"," if result.record.data else b""
        return b"%b%b%b%b\n" % (head, comma, orjson.dumps({**result.columns, **result.group})[1:-1], tail)

    def _placed(self, head: bytes, tail: bytes = b"") -> int:
        """Keeps the parts of a line until its result comes; returns its index."""
        self._places.append((head, tail))
        self._held += len(head) + len(tail)
        self._index += 1
        return self._index - 1

    def _told(self, lines: Iterable[bytes | None]) -> Iterator[bytes | tuple[str, Cut] | None]:
        """What passes as it is, a row of a stream that gains columns, or `None` for a pause and the end."""
        number = 0
        for line in lines:
            if line is None:
                yield None
                continue
            number += 1
            try:
                told = self._read(line)
            except ConfigError as error:
                yield None
                raise ConfigError(f"standard input, line {number}: {error.message}") from None
            if told:
                yield told
        yield None

    def _read(self, line: bytes) -> bytes | tuple[str, Cut]:
        match = self._head(line)
        if match is None or self._form is None:
            return self._parsed(line)
        name: bytes = match[1]
        if name not in self._names:
            self._names[name] = self._enriched(loads(b'"%b"' % name))
        stream = self._names[name]
        if stream is None:
            return line
        cut = guessed(line, match.end(), len(self._form.path))
        return self._row(stream, cut) if cut else self._parsed(line)

    def _parsed(self, line: bytes) -> bytes | tuple[str, Cut]:
        """The same for any line: blank ones are left out."""
        if not line.strip():
            return b""
        message = loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ConfigError("it is no message: a message is a JSON object with a type")
        if self._form is None:
            self._form = self._form_of(message)
            self._head = self._form.head.match
        form, kind = self._form, message["type"]
        if kind == form.declares:
            return json.dumps(message).encode() if form.declare(message, self._open) else line
        if kind in form.refused and self._gained.get(str(message.get("stream")), ()) is not None:
            raise ConfigError(f"a {kind} message cannot be enriched, since its rows are elsewhere: have RECORDs sent")
        if kind != "RECORD":
            return line
        stream = form.stream_of(message)
        if not isinstance(stream, str):
            raise ConfigError("the RECORD has no stream")
        return line if self._enriched(stream) is None else self._row(stream, walked(line, form.path))

    def _row(self, stream: str, cut: Cut) -> tuple[str, Cut]:
        gained = self._gained[stream] or frozenset()
        if not gained.isdisjoint(cut.row):
            names = ", ".join(f'"{name}"' for name in cut.row if name in gained)
            raise ConfigError(f'the record of stream "{stream}" has {names} already: give the new column another name')
        return stream, cut

    def _enriched(self, stream: str) -> str | None:
        """The stream's name if it gains columns."""
        if stream not in self._gained:
            if self._form is None or self._form.is_strict:
                raise ConfigError(f'a RECORD of stream "{stream}" comes before its SCHEMA')
            self._open(stream, None)
        return None if self._gained[stream] is None else stream

    def _open(self, stream: str, columns: Iterable[str] | None) -> dict[str, Schema] | None:
        gained = self._transform.open(stream, columns)
        self._gained[stream] = None if gained is None else frozenset(gained)
        return gained
