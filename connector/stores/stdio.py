"""Standard input and output: JSON lines, one object per line, passed on as they come.

Input may also be in any other file format, compressed or not. It is then read to its end before the first row is passed
on, because the types of columns depend on all rows.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from connector.base.errors import ConfigError, StorageError
from connector.base.lines import lines
from connector.base.records import BAD_INPUT, IDLE, JSON, Checkpoint, Idle, OnBadInput, Record, Schema, merged
from connector.base.streams import Target
from connector.base.terminal import data_writer
from connector.stores import DEAD_LETTER, Source, files
from connector.stores.staging.compression import COMPRESSIONS
from connector.stores.staging.encodings import is_encoding
from connector.stores.staging.kept import kept
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.position import INTERVAL, Counted, Position
from connector.stores.staging.private_directory import private_directory
from connector.stores.staging.spool import decode, encode, no_room

_LINES: Final = "jsonl"
_HEAD: Final = 4
_CALLED: Final = "standard input"
_LOG: Final = logging.getLogger(__name__)

WINDOW: Final = 50_000
"""Most rows that wait for an earlier one. If that takes longer, it is written after them."""


class Options(BaseModel):
    """Standard input and output, as JSON lines unless the input has another format."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Standard input")

    type: Literal["stdio"] = Field(default="stdio", title="Type")
    name: str = Field(default="", title="Stream name", description="The name of the stream. Default: stdin.")
    format: Annotated[str, AfterValidator(files.is_format)] = Field(
        default=_LINES,
        title="Format",
        description="The format of the rows. JSON lines (`jsonl`) are handed on as they come; other formats are read "
        "to the end first.",
        json_schema_extra={"enum": [each for each in files.CHOICES if each != files.AUTO]},
    )
    delimiter: Annotated[str, AfterValidator(files.is_delimiter)] = Field(
        default="", title="CSV delimiter", description="The separator of CSV: one character, or `tab`."
    )
    encoding: Annotated[str, AfterValidator(is_encoding)] = Field(
        default="", title="Encoding", description="The encoding of the text, such as `latin-1`. Default: UTF-8."
    )
    on_bad_input: SkipJsonSchema[OnBadInput] = "fail"  # the config has it for every input
    keep_llm_as: SkipJsonSchema[str] = ""  # the config has it for every input


class Reader:
    """A `Source` whose columns and length are not known before reading."""

    rows: int | None = None
    primary_key: tuple[str, ...] = ()

    def __init__(self, name: str, stream: BinaryIO, limit: int | None, on_bad: OnBadInput = "fail") -> None:
        self.name = name
        self.columns: dict[str, Schema] = {}
        self._stream = stream
        self._limit = limit
        self._on_bad = on_bad

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """See `Source.read`. Skips the rows that `state` covers; yields `IDLE` while the producer pauses."""
        return self._read(Position.of(state, None).rows)

    def _read(self, start: int) -> Iterator[Record | Checkpoint | Idle]:
        index, told, span = 0, start, Counted()
        for row in self._rows():
            if row is None:
                if index > told:
                    told = index
                    yield Checkpoint(Position(index).state)
                yield IDLE
                continue
            if index >= start:
                yield Record(index, row, self.name, row.pop(BAD_INPUT, ""), span)
            index += 1
            if index >= told + INTERVAL:
                told = index
                yield Checkpoint(Position(index).state)
        if index < start:
            raise ConfigError(
                f"the saved state covers {start:,} rows, but standard input had {index:,}: send the same rows again"
            )
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
                row = self._decoded(line, number)
                row.pop(DEAD_LETTER, None)
                yield row
                rows += 1
                if rows == self._limit:
                    return

    def _decoded(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            return decode(line, f"{_CALLED}, line", number, self._on_bad)
        except ConfigError as error:
            if number > 1:
                raise
            other = "or give its format with --input-format, such as csv (`format` in the input)"
            raise ConfigError(f"{error.message}, {other}") from error


class Writer:
    """A `Sink` that passes rows on in the order of their index, each as soon as all before it have come."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._write = data_writer(stream)
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
        """Passes on what still waits."""
        self._put(line for _, line in sorted(self._waiting.items()))
        self._waiting.clear()
        self.flush()

    def _ready(self) -> Iterator[bytes]:
        while self._next in self._waiting:
            yield self._waiting.pop(self._next)
            self._next += 1

    def _put(self, lines: Iterable[bytes]) -> None:
        with _open_ended():
            for line in lines:
                self._write(line)


@contextmanager
def source(
    options: Options, *, limit: int | None = None, cursor_field: str | None = None, stream: BinaryIO | None = None
) -> Iterator[Source]:
    """Opens standard input, or another `stream` of bytes, see `Store.source`."""
    if cursor_field is not None:
        raise ConfigError(f'cursor_field: standard input comes in its own order: leave out "{cursor_field}"')
    if stream is None and sys.stdin is None:
        raise ConfigError("standard input: it is closed: pipe records into it, or name a file")
    given = stream or sys.stdin.buffer
    if given.isatty():
        _LOG.warning("rows are read from the terminal: end them with Ctrl-D, or pipe them in")
    if options.format == _LINES and not options.encoding:
        yield kept(Reader(options.name or "stdin", given, limit, options.on_bad_input), options.keep_llm_as)
        return
    with ExitStack() as stack:
        path = _whole(given, stack.enter_context(private_directory()))
        copied = options.model_dump(exclude={"type"}) | {"path": str(path), "name": options.name or "stdin"}
        with _called(path):
            opened = stack.enter_context(files.source(files.Options(**copied), limit=limit))
        yield opened


def _whole(stream: BinaryIO, directory: Path) -> Path:
    """Copies a stream to a file, whose extension says how it is compressed.

    Raises:
        StorageError: There is no room for it.
    """
    head = stream.read(_HEAD)
    suffix = next((each.suffix for each in COMPRESSIONS if head.startswith(each.magic)), "")
    path = directory / f"stdin{suffix}"
    try:
        with path.open("wb") as file:
            file.write(head)
            shutil.copyfileobj(stream, file, BUFFER)
    except OSError as error:
        raise no_room(error, directory.parent) from error
    return path


@contextmanager
def _called(path: Path) -> Iterator[None]:
    """Makes errors name standard input instead of its copy."""
    try:
        yield
    except ConfigError as error:
        problems = [each._replace(message=each.message.replace(str(path), _CALLED)) for each in error.problems]
        raise ConfigError(problems, detail=error.detail) from error


@contextmanager
def sink(
    options: Options,  # noqa: ARG001 - the contract's; there is nothing to choose
    added: Mapping[str, Schema],  # noqa: ARG001 - the contract's; JSON needs no types
    *,
    source: Source | None = None,  # noqa: ARG001 - the contract's
    target: Target | None = None,
    stream: BinaryIO | None = None,
) -> Iterator[Writer]:
    """Opens standard output, or another `stream` of bytes, see `Store.sink`. Rows passed on are never taken back."""
    if target is not None:
        raise ConfigError("output: standard output carries the platform's messages, not rows: choose files or sql")
    yield Writer(stream or sys.stdout.buffer)


@contextmanager
def _open_ended() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise StorageError(
            "standard output: it accepts no more rows: check that its reader is still running and its disk is not full",
            detail=str(error),
        ) from error
