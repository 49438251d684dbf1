"""Airbyte's destination: RECORD messages on stdin become rows of the output, enriched; a STATE is told once it holds.

A STATE comes out as it came, in its order, when all rows before it are durable: committed, not only staged.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, ConnectorError
from connector.base.lines import lines
from connector.base.records import IDLE, JSON, Idle, Message, Outcome, Record
from connector.base.streams import Target
from connector.protocols import Destination, Platform, Transform
from connector.protocols._airbyte_catalog import targets
from connector.protocols._airbyte_messages import Message as Airbyte
from connector.protocols._airbyte_messages import log
from connector.protocols._cut import loads

_ROOM: Final = 1 << 26  # bytes of lines that may be on their way


def write(platform: Platform, config: JSON, catalog: JSON) -> Iterator[Airbyte | bytes | Idle]:
    """Enriches and stores what comes on stdin; yields the states that are covered, and what has been stored.

    Raises:
        ConfigError: The config, the catalogue or a message is wrong; the message is named by its line.
        FatalError: The endpoint or the output ended it.
    """
    transform = platform.transform(config)
    wanted = [_opened(target, transform) for target in targets(catalog)]
    inbox = _Inbox(wanted)
    with platform.destination(config, wanted) as destination:
        outbox = _Outbox(inbox, destination)
        try:
            with closing(transform.run(inbox.items(_given()))) as results:
                for result in results:
                    outbox.take(result)
                    if outbox.states and destination.is_due:
                        destination.commit()
                        yield from outbox.covered()
            destination.commit(unfinished=inbox.unfinished)
        except Exception as error:  # whatever ended it, the rows that are whole are paid for
            yield from _rescued(destination, outbox, error)
            raise
        yield from outbox.covered()
        yield from _told(destination, transform)
    lost = [target.name for target in wanted if target.mode == "overwrite" and target.name in inbox.unfinished]
    if lost:
        raise ConnectorError(f"the source did not finish {', '.join(lost)}: the rows of the last run are kept")


def _given() -> Iterator[bytes | None]:
    try:
        yield from lines(sys.stdin.buffer)
    except OSError as error:
        raise ConfigError(f"standard input cannot be read: {error.strerror or error}") from None


def _opened(target: Target, transform: Transform) -> Target:
    return target._replace(added=transform.open(target.name, list(target.columns) or None) or {})


def _rescued(destination: Destination, outbox: _Outbox, error: Exception) -> Iterator[Airbyte | bytes | Idle]:
    """Stores what can be after an error, and tells it. What cannot be stored now is in the ledger still."""
    try:
        destination.commit()
    except ConnectorError as second:
        if second is not error and not isinstance(error, type(second)):
            yield log("ERROR", second.message)
    yield from outbox.covered()
    yield from _told(destination, None)


def _told(destination: Destination, transform: Transform | None) -> Iterator[Airbyte]:
    rows = ", ".join(f'{count:,} of "{stream}"' for stream, count in destination.stored.items())
    yield log("INFO", f"rows stored: {rows or 'none'}")
    if transform and transform.summary:
        yield log("INFO", transform.summary)


class _Placed(NamedTuple):
    """What a line on its way is: a row to be enriched (neither `row` nor `state`), one as it is, or a state."""

    stream: str
    size: int
    row: dict[str, Any] | None = None
    state: bytes | None = None


class _Inbox:
    """Lines as items of a run, and what each of them is, until its result comes."""

    def __init__(self, wanted: Iterable[Target]) -> None:
        self._targets = {target.name: target for target in wanted}
        self.unfinished: set[str] = set()
        self._index = 0
        self._places: deque[_Placed] = deque()
        self._held = 0

    def items(self, given: Iterable[bytes | None]) -> Iterator[Record | Message | Idle]:
        """A record or a message for each RECORD and STATE, in their order; `IDLE` for each pause."""
        number = 0
        for line in given:
            if line is None:
                yield IDLE
                continue
            number += 1
            try:
                item = self._item(line) if line.strip() else None
            except ConfigError as error:
                raise ConfigError(f"standard input, line {number}: {error.message}") from None
            if item is not None:
                yield item
            while self._held > _ROOM:
                yield IDLE

    def placed(self) -> _Placed:
        """What the next result is of."""
        placed = self._places.popleft()
        self._held -= placed.size
        return placed

    def _item(self, line: bytes) -> Record | Message | None:
        message = loads(line)
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str):
            raise ConfigError("it is no message: a message is a JSON object with a type")
        if kind == "RECORD":
            if is_too_deep(message, line):
                raise ConfigError("the RECORD is nested too deeply: make the inner objects and lists texts")
            return self._record(message.get("record"), len(line))
        if kind == "STATE":
            return Message(self._place(_Placed("", len(line), state=line)), b"")
        if kind == "TRACE":
            self._traced(message.get("trace"))
        return None

    def _record(self, record: Any, size: int) -> Record | Message:
        stream = record.get("stream") if isinstance(record, dict) else None
        if not isinstance(stream, str) or not isinstance(row := record.get("data"), dict):
            raise ConfigError("the RECORD has no stream, or no data that is an object")
        target = self._targets.get(stream)
        if target is None:
            raise ConfigError(f'there is no stream "{stream}" in the catalog; there is: {", ".join(self._targets)}')
        if not target.added:
            return Message(self._place(_Placed(stream, size, row)), b"")
        if clash := [name for name in target.added if name in row]:
            raise ConfigError(f'the record of stream "{stream}" has "{clash[0]}" already: rename the new column')
        return Record(self._place(_Placed(stream, size)), row, stream)

    def _traced(self, trace: Any) -> None:
        """A source tells of each stream at its end whether it is whole."""
        told = trace.get("stream_status") if isinstance(trace, dict) else None
        if isinstance(told, dict) and isinstance(told.get("stream_descriptor"), dict):
            name, status = told["stream_descriptor"].get("name"), told.get("status")
            if status == "INCOMPLETE" and isinstance(name, str):
                self.unfinished.add(name)

    def _place(self, placed: _Placed) -> int:
        self._places.append(placed)
        self._held += placed.size
        self._index += 1
        return self._index - 1


class _Outbox:
    """Results on their way to the destination, and the states that wait for it."""

    def __init__(self, inbox: _Inbox, destination: Destination) -> None:
        self._inbox = inbox
        self._destination = destination
        self.states: deque[tuple[int, bytes]] = deque()

    def take(self, result: Outcome | Message | Idle) -> None:
        """Stages a row, or keeps a state behind the rows before it."""
        if isinstance(result, Idle):
            return
        placed = self._inbox.placed()
        if isinstance(result, Outcome):
            self._destination.write(placed.stream, result.row)
        elif placed.row is not None:
            self._destination.write(placed.stream, placed.row)
        elif placed.state is not None:
            self.states.append((self._destination.written, placed.state))

    def covered(self) -> Iterator[bytes | Idle]:
        """The states that only durable rows come before, at once."""
        while self.states and self.states[0][0] <= self._destination.durable:
            yield self.states.popleft()[1]
        yield IDLE
