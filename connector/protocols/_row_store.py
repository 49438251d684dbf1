"""What a destination is, whatever its platform's messages: rows come in as lines, states go out once they hold.

A state goes out in order, once all rows before it are durable: committed, not only staged.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, ConnectorError
from connector.base.lines import lines
from connector.base.records import IDLE, Idle, Message, Outcome, Record
from connector.base.streams import Target
from connector.base.suggestions import there_are
from connector.protocols import Destination, Transform
from connector.protocols._record_lines import TOO_DEEP, loads

_ROOM: Final = 1 << 26  # the most bytes of lines whose results are awaited


class RowCounts:
    """How many rows each stream has had since its last state: those that are stored, and those that are left out."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()


StateLine = Callable[[RowCounts], bytes]
"""Returns the line that hands a state back, once all rows before it are staged."""


class Pending(NamedTuple):
    """A line whose result is awaited: a row to enrich (no `row`, no `state`), a row as it is, or a state."""

    stream: str
    size: int
    row: dict[str, Any] | None = None
    state: StateLine | None = None


class Inbox:
    """Turns lines into items of a run, and remembers each of them until its result comes.

    A protocol's own inbox says in `read` what a message means.
    """

    def __init__(self, targets: Iterable[Target] = ()) -> None:
        self.targets = {target.name: target for target in targets}
        """The streams, with the columns that their rows gain."""
        self._index = 0
        self._places: deque[Pending] = deque()
        self._held = 0

    def read(self, message: dict[str, Any], line: bytes) -> Iterable[Record | Message]:
        """Returns the rows and states of a message, with `row` and `state`.

        Raises:
            ConfigError: It is not as the protocol has it.
        """
        raise NotImplementedError

    def items(self, given: Iterable[bytes | None]) -> Iterator[Record | Message | Idle]:
        """Yields what `read` returns for each line, in order, and `IDLE` for each pause.

        Raises:
            ConfigError: A line is not a message, or not one that can be stored; the error names it.
        """
        number = 0
        for line in given:
            if line is None:
                yield IDLE
                continue
            number += 1
            try:
                for item in self._read(line) if line.strip() else ():
                    yield item
                    while self._held > _ROOM:
                        yield IDLE
            except ConfigError as error:
                raise ConfigError(f"standard input, line {number}: {error.message}") from None

    def next_pending(self) -> Pending:
        """Returns the line that the next result belongs to."""
        pending = self._places.popleft()
        self._held -= pending.size
        return pending

    def row(self, stream: str, row: dict[str, Any], size: int, unknown: str) -> Record | Message:
        """Returns a row of a stream; `unknown` says where the streams are declared.

        Raises:
            ConfigError: There is no such stream, or the row has a column that it would gain.
        """
        target = self.targets.get(stream)
        if target is None:
            raise ConfigError(f'there is no stream "{stream}" {unknown}; {there_are(stream, self.targets)}')
        if not target.added:
            return Message(self._place(Pending(stream, size, row)), b"")
        if clash := [name for name in target.added if name in row]:
            raise ConfigError(f'the record of stream "{stream}" already has "{clash[0]}": rename the new column')
        return Record(self._place(Pending(stream, size)), row, stream)

    def state(self, size: int, line: StateLine) -> Message:
        """Returns a state, which `line` hands back."""
        return Message(self._place(Pending("", size, state=line)), b"")

    def _read(self, line: bytes) -> Iterable[Record | Message]:
        message = loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ConfigError("this is not a message: a message is a JSON object with a type")
        if message["type"] == "RECORD" and is_too_deep(message, line):
            raise ConfigError(f"the RECORD {TOO_DEEP}")
        return self.read(message, line)

    def _place(self, pending: Pending) -> int:
        self._places.append(pending)
        self._held += pending.size
        self._index += 1
        return self._index - 1


class Outbox:
    """Stages results in the destination, and holds the states that wait for a commit."""

    def __init__(self, inbox: Inbox, destination: Destination) -> None:
        self._inbox = inbox
        self._destination = destination
        self._counts = RowCounts()
        self._states: deque[tuple[int, bytes]] = deque()

    def stored(self, transform: Transform) -> Generator[bytes | Idle, None, None]:
        """Enriches and stages the rows on standard input; yields the states that hold, whenever a commit was due."""
        with closing(transform.run(self._inbox.items(_given()))) as results:
            for result in results:
                self._take(result)
                if self._states and self._destination.is_due:
                    self._destination.commit()
                    yield from self.covered()

    def rescued(self, error: Exception) -> ConnectorError | None:
        """Stores what it can after an error, since that is paid for; returns another error that kept it from that."""
        try:
            self._destination.commit()
        except ConnectorError as second:
            return None if second is error or isinstance(error, type(second)) else second
        return None

    def covered(self) -> Iterator[bytes | Idle]:
        """Yields the states that only durable rows come before, and a pause, so that they go out at once."""
        while self._states and self._states[0][0] <= self._destination.durable:
            yield self._states.popleft()[1]
        yield IDLE

    def summary(self) -> str:
        """Returns in words what is in the output."""
        rows = ", ".join(f'{count:,} of "{stream}"' for stream, count in self._destination.stored.items())
        return f"rows stored: {rows or 'none'}"

    def _take(self, result: Outcome | Message | Idle) -> None:
        """Stages a row, or holds a state until the rows before it are durable."""
        if isinstance(result, Idle):
            return
        pending = self._inbox.next_pending()
        row = result.row if isinstance(result, Outcome) else pending.row
        if pending.state is not None:
            self._states.append((self._destination.written, pending.state(self._counts)))
        elif row is not None:
            self._destination.write(pending.stream, row)
            self._counts.stored[pending.stream] += 1
        else:
            self._counts.rejected[pending.stream] += 1


def opened(target: Target, transform: Transform) -> Target:
    """Returns a stream with the columns that its rows gain."""
    return target._replace(added=transform.open(target.name, list(target.columns) or None) or {})


def _given() -> Iterator[bytes | None]:
    try:
        yield from lines(sys.stdin.buffer)
    except OSError as error:
        raise ConfigError(f"standard input cannot be read: {error.strerror or error}") from None
