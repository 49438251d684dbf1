"""Airbyte's destination: RECORD messages on stdin become enriched rows of the output.

A STATE is passed on in order, once all rows before it are durable: committed, not only staged. It says how many rows
have come since the state before it (`destinationStats`), and is otherwise unchanged.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, ConnectorError
from connector.base.lines import lines
from connector.base.records import IDLE, JSON, Idle, Message, Outcome, Record
from connector.base.streams import Target
from connector.base.suggestions import there_are
from connector.protocols import ConnectorAPI, Destination, PlatformMessage, Transform
from connector.protocols._airbyte_catalog import targets
from connector.protocols._airbyte_messages import log
from connector.protocols._record_lines import SplitLine, dumps, loads, split_exactly

_ROOM: Final = 1 << 26  # the most bytes of lines whose results are awaited


def write(connector: ConnectorAPI, config: JSON, catalog: JSON) -> Iterator[PlatformMessage | bytes | Idle]:
    """Enriches and stores the records on stdin; yields the covered states, and logs what has been stored.

    Raises:
        ConfigError: The config, the catalog or a message is wrong; a message is named by its line.
        FatalError: The endpoint or the output ended the run.
    """
    transform = connector.transform(config)
    wanted = [_opened(target, transform) for target in targets(catalog)]
    inbox = _Inbox(wanted)
    with connector.destination(config, wanted) as destination:
        outbox = _Outbox(inbox, destination)
        try:
            with closing(transform.run(inbox.items(_given()))) as results:
                for result in results:
                    outbox.take(result)
                    if outbox.states and destination.is_due:
                        destination.commit()
                        yield from outbox.covered()
            destination.commit(unfinished=inbox.unfinished)
        except Exception as error:  # whatever the error, the finished rows are paid for
            yield from _rescued(destination, outbox, transform, error)
            raise
        yield from outbox.covered()
        yield from _stored_rows(destination, transform)
    lost = [target.name for target in wanted if target.mode == "overwrite" and target.name in inbox.unfinished]
    if lost:
        raise ConnectorError(
            f"the source did not say that it has finished {', '.join(lost)} (STREAM_STATUS COMPLETE): the rows of the "
            "last run are kept; run the sync again"
        )


def _given() -> Iterator[bytes | None]:
    try:
        yield from lines(sys.stdin.buffer)
    except OSError as error:
        raise ConfigError(f"standard input cannot be read: {error.strerror or error}") from None


def _opened(target: Target, transform: Transform) -> Target:
    return target._replace(added=transform.open(target.name, list(target.columns) or None) or {})


def _rescued(
    destination: Destination, outbox: _Outbox, transform: Transform, error: Exception
) -> Iterator[PlatformMessage | bytes | Idle]:
    """Stores what it can after an error, and logs it. Replies that cannot be stored now are still in the ledger."""
    try:
        destination.commit()
    except ConnectorError as second:
        if second is not error and not isinstance(error, type(second)):
            yield log("ERROR", second.message)
    yield from outbox.covered()
    yield from _stored_rows(destination, transform)


def _stored_rows(destination: Destination, transform: Transform) -> Iterator[PlatformMessage]:
    if transform.summary:
        yield log("INFO", str(transform.summary))
    rows = ", ".join(f'{count:,} of "{stream}"' for stream, count in destination.stored.items())
    yield log("INFO", f"rows stored: {rows or 'none'}")


class _Pending(NamedTuple):
    """A line whose result is awaited: a row to enrich (no `row`, no `state`), a row as it is, or a STATE."""

    stream: str
    size: int
    row: dict[str, Any] | None = None
    state: SplitLine | None = None


class _Inbox:
    """Turns lines into items of a run, and remembers each of them until its result comes."""

    def __init__(self, wanted: Iterable[Target]) -> None:
        self._targets = {target.name: target for target in wanted}
        self.unfinished = set(self._targets)
        """The streams that the source has not called complete."""
        self._index = 0
        self._places: deque[_Pending] = deque()
        self._held = 0

    def items(self, given: Iterable[bytes | None]) -> Iterator[Record | Message | Idle]:
        """Yields a record or a message for each RECORD and STATE, in order; `IDLE` for each pause."""
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

    def next_pending(self) -> _Pending:
        """Returns the line that the next result belongs to."""
        pending = self._places.popleft()
        self._held -= pending.size
        return pending

    def _item(self, line: bytes) -> Record | Message | None:
        message = loads(line)
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str):
            raise ConfigError("it is not a message: a message is a JSON object with a type")
        if kind == "RECORD":
            if is_too_deep(message, line):
                raise ConfigError("the RECORD is nested too deeply: send inner objects and lists as text")
            return self._record(message.get("record"), len(line))
        if kind == "STATE":
            if not isinstance(message.get("state"), dict):
                raise ConfigError("the STATE has no state, or it is not an object")
            return Message(self._place(_Pending("", len(line), state=split_exactly(line, ("state",)))), b"")
        if kind == "TRACE":
            self._traced(message.get("trace"))
        return None

    def _record(self, record: Any, size: int) -> Record | Message:
        stream = record.get("stream") if isinstance(record, dict) else None
        if not isinstance(stream, str) or not isinstance(row := record.get("data"), dict):
            raise ConfigError("the RECORD has no stream, or no data that is an object")
        target = self._targets.get(stream)
        if target is None:
            raise ConfigError(f'there is no stream "{stream}" in the catalog; {there_are(stream, self._targets)}')
        if not target.added:
            return Message(self._place(_Pending(stream, size, row)), b"")
        if clash := [name for name in target.added if name in row]:
            raise ConfigError(f'the record of stream "{stream}" already has "{clash[0]}": rename the new column')
        return Record(self._place(_Pending(stream, size)), row, stream)

    def _traced(self, trace: Any) -> None:
        """Notes whether a stream is complete, as the source tells. A source that is killed tells nothing."""
        status = trace.get("stream_status") if isinstance(trace, dict) else None
        if isinstance(status, dict) and isinstance(status.get("stream_descriptor"), dict):
            name = status["stream_descriptor"].get("name")
            if status.get("status") == "COMPLETE":
                self.unfinished.discard(name)
            elif name in self._targets:
                self.unfinished.add(name)

    def _place(self, pending: _Pending) -> int:
        self._places.append(pending)
        self._held += pending.size
        self._index += 1
        return self._index - 1


class RowCounts:
    """How many rows each stream has had since its last state: those that are stored, and those that are left out."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()

    def told(self, state: SplitLine) -> bytes:
        """Returns the line of a STATE with the counts of its stream, or of all streams, and counts from 0 on."""
        if "destinationStats" in state.row:
            state = state.without(["destinationStats"])
        match state.row.get("stream"):
            case {"stream_descriptor": {"name": str(name)}}:
                names = [name]
            case _:
                names = [*self.stored, *self.rejected]
        stored, rejected = (sum(each.pop(name, 0) for name in names) for each in (self.stored, self.rejected))
        stats = {"recordCount": float(stored)} | ({"rejectedRecordCount": float(rejected)} if rejected else {})
        comma = b"," if len(state.row) else b""
        return b'%b%b"destinationStats":%b%b' % (state.head, comma, dumps(stats), state.tail)


class _Outbox:
    """Stages results in the destination, and holds the states that wait for a commit."""

    def __init__(self, inbox: _Inbox, destination: Destination) -> None:
        self._inbox = inbox
        self._destination = destination
        self._counts = RowCounts()
        self.states: deque[tuple[int, bytes]] = deque()

    def take(self, result: Outcome | Message | Idle) -> None:
        """Stages a row, or holds a state until the rows before it are durable."""
        if isinstance(result, Idle):
            return
        pending = self._inbox.next_pending()
        row = result.row if isinstance(result, Outcome) else pending.row
        if pending.state is not None:
            self.states.append((self._destination.written, self._counts.told(pending.state)))
        elif row is not None:
            self._destination.write(pending.stream, row)
            self._counts.stored[pending.stream] += 1
        else:
            self._counts.rejected[pending.stream] += 1

    def covered(self) -> Iterator[bytes | Idle]:
        """Yields the states that only durable rows come before, and a pause, so that they go out at once."""
        while self.states and self.states[0][0] <= self._destination.durable:
            yield self.states.popleft()[1]
        yield IDLE
