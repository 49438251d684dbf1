"""Standard input and output: JSON lines, one object a line, handed on as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from connector.base.errors import ConfigError, StorageError
from connector.base.lines import lines
from connector.base.records import BAD_INPUT, IDLE, JSON, Checkpoint, Idle, OnBadInput, Record, Schema, merged
from connector.base.streams import Target
from connector.stores import DEAD_LETTER, Source
from connector.stores.staging.position import INTERVAL, Position, state_mismatch
from connector.stores.staging.spool import decode, encode

WINDOW: Final = 50_000
"""How many rows wait for an earlier one at most. If it takes longer, it comes after them."""


class Options(BaseModel):
    """Standard input and output, as JSON lines."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Standard input")

    type: Literal["stdio"] = Field(default="stdio", title="Type")
    name: str = Field(default="", title="Stream name", description="The name of the stream. Default: stdin.")
    on_bad_input: SkipJsonSchema[OnBadInput] = "fail"  # the config has it for every input


class Reader:
    """A `Source` whose columns and length only reading can tell."""

    rows: int | None = None

    def __init__(self, name: str, stream: BinaryIO, limit: int | None, on_bad: OnBadInput = "fail") -> None:
        self.name = name
        self.columns: dict[str, Schema] = {}
        self._stream = stream
        self._limit = limit
        self._on_bad = on_bad

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """See `Source.read`. Rows that `state` covers are skipped; yields `IDLE` while the producer pauses."""
        return self._read(Position.of(state, None).rows, state)

    def _read(self, start: int, state: JSON) -> Iterator[Record | Checkpoint | Idle]:
        index, told = 0, start
        for row in self._rows():
            if row is None:
                if index > told:
                    told = index
                    yield Checkpoint(Position(index).state)
                yield IDLE
                continue
            if index >= start:
                yield Record(index, row, self.name, row.pop(BAD_INPUT, ""))
            index += 1
            if index >= told + INTERVAL:
                told = index
                yield Checkpoint(Position(index).state)
        if index < start:
            raise state_mismatch(state, None)
        if index > told or index == start:
            yield Checkpoint(Position(index).state)

    def _rows(self) -> Iterator[dict[str, Any] | None]:
        """Yields the rows, and `None` for every pause between them."""
        rows = number = 0
        for line in lines(self._stream) if self._limit != 0 else ():
            if line is None:
                yield None
                continue
            number += 1
            if line.strip():
                row = decode(line, "standard input, line", number, self._on_bad)
                row.pop(DEAD_LETTER, None)
                yield row
                rows += 1
                if rows == self._limit:
                    return


class Writer:
    """A `Sink` that hands rows on in the order of their index, each as soon as all before it are there."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: dict[int, bytes] = {}
        self._next = 0

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        line = b"" if added is None else encode(merged(record.data, added))[0]
        if record.index < self._next:
            self._put([line])
            return
        self._waiting[record.index] = line
        if len(self._waiting) > WINDOW:
            self._next = min(self._waiting)
        self._put(self._ready())

    def flush(self) -> None:
        """See `Sink.flush`."""
        with _open_ended():
            self._stream.flush()

    def commit(self) -> None:
        """Hands on what still waits."""
        self._put(line for _, line in sorted(self._waiting.items()))
        self._waiting.clear()
        self.flush()

    def _ready(self) -> Iterator[bytes]:
        while self._next in self._waiting:
            yield self._waiting.pop(self._next)
            self._next += 1

    def _put(self, lines: Iterable[bytes]) -> None:
        with _open_ended():
            self._stream.writelines(lines)


@contextmanager
def source(
    options: Options, *, limit: int | None = None, cursor_field: str | None = None, stream: BinaryIO | None = None
) -> Iterator[Reader]:
    """Opens standard input, or another `stream` of bytes, see `Store.source`."""
    if cursor_field is not None:
        raise ConfigError(f'cursor_field: standard input comes in its own order: leave out "{cursor_field}"')
    if stream is None and sys.stdin is None:
        raise ConfigError("standard input: it is closed: pipe records into it, or name a file")
    yield Reader(options.name or "stdin", stream or sys.stdin.buffer, limit, options.on_bad_input)


@contextmanager
def sink(
    options: Options,  # noqa: ARG001 - the contract's; there is nothing to choose
    added: Mapping[str, Schema],  # noqa: ARG001 - the contract's; JSON needs no types
    *,
    source: Source | None = None,  # noqa: ARG001 - the contract's
    target: Target | None = None,
    stream: BinaryIO | None = None,
) -> Iterator[Writer]:
    """Opens standard output, or another `stream` of bytes, see `Store.sink`. What has been handed on stays."""
    if target is not None:
        raise ConfigError("output: standard output carries the platform's messages, not rows: choose files or sql")
    yield Writer(stream or sys.stdout.buffer)


@contextmanager
def _open_ended() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise StorageError(
            "standard output: it takes no more rows: check that its reader still runs, and that its disk is not full",
            detail=str(error),
        ) from error
