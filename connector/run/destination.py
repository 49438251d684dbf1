"""Rows of any number of streams on their way into one output: staged as they come, durable after each commit."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

from connector import stores
from connector.base import numbers
from connector.base.clock import Clock
from connector.base.errors import ConfigError
from connector.base.records import JSON, Record, Schema
from connector.base.streams import Target
from connector.stores import Sink
from connector.stores.staging.private_directory import private_directory
from connector.stores.staging.shapes import Shape
from connector.stores.staging.spool import Spool

STREAM: Final = "{stream}"
"""Is replaced by the name of the stream, in a path or in the name of a table."""

_LONGEST: Final = 200  # bytes of a file's name; most file systems take 255, and names beside it are longer
_SHOWN: Final = 60
_EVERY: Final = 2.0  # seconds between two commits, at least
_SHARE: Final = 10  # and as many times as long as the last one took


class Destination:
    """The output of `write`; a context manager.

    Streams that append are committed whenever a commit is due. A commit rewrites the file, so the longer it takes, the
    rarer it is due. Streams that overwrite are committed once, at the end: until then, also if the run does not reach
    its end, the rows of the last run stay.

    Args:
        options: The store's options, with `{stream}` in place of the stream's name.

    Raises:
        ConfigError: The output cannot take the streams; this is checked before anything is paid for.
    """

    def __init__(self, options: Any, targets: Iterable[Target], clock: Clock | None = None) -> None:
        self._store = stores.load(options.type)
        self._given = options
        self._targets: dict[str, Target] = {}
        self._options: dict[str, Any] = {}
        self._streams: dict[str, str] = {}  # by their place
        for target in targets:
            self._add(target)
        self._now = (clock or Clock()).monotonic
        self._stack = ExitStack()
        self._staged: dict[str, _Staged] = {}
        self._due = self._now() + _EVERY
        self.written = 0
        self.stored: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for target in self._targets.values():
            self._try(target)
        self._directory = self._stack.enter_context(private_directory())
        return self

    def add(self, target: Target) -> None:
        """Takes rows of one more stream, or of one whose columns have changed.

        Raises:
            ConfigError: The output cannot take them.
        """
        is_new = target.name not in self._targets
        self._add(target)
        if is_new:
            self._try(target)

    def _add(self, target: Target) -> None:
        options = _options_of(self._given, target.name)
        other = self._streams.setdefault(_folded(_place_of(options)), target.name)
        if other != target.name:
            is_alike = _folded(other) == _folded(target.name)
            raise ConfigError(
                f"output: the streams {_shown(other)} and {_shown(target.name)} would be written to the same "
                "place: " + ("write one of them to another output" if is_alike else f'put "{STREAM}" into its name')
            )
        self._targets[target.name] = target
        self._options[target.name] = options

    def _try(self, target: Target) -> None:
        with self._store.sink(self._options[target.name], target.added, target=target):
            pass

    def __exit__(self, *_: object) -> None:
        for staged in self._staged.values():
            staged.close()
        self._stack.close()

    @property
    def durable(self) -> int:
        """How many rows, counted from the first without a gap, are in the output."""
        return min((staged.first for staged in self._staged.values()), default=self.written)

    @property
    def is_due(self) -> bool:
        """Whether the next commit is due."""
        return self._now() >= self._due

    def write(self, stream: str, row: dict[str, Any]) -> None:
        """Keeps a row for the next commit, in the order of its stream.

        Raises:
            StorageError: There is no room for it.
        """
        self._at(stream).write(row)
        self.written += 1

    def commit(self, *, unfinished: Iterable[str] | None = None) -> None:
        """Writes the rows that are kept to the output, each stream as a whole or not at all.

        Args:
            unfinished: The streams that are not complete at the end: they overwrite nothing. `None` before the end.

        Raises:
            StorageError: The output cannot be written.
        """
        began = self._now()
        if unfinished is not None:
            left = set(unfinished)
            for name, target in self._targets.items():
                if target.mode == "overwrite" and name not in left:
                    self._commit(name, self._at(name))
        for name, staged in list(self._staged.items()):
            if staged.target.mode != "overwrite":
                self._commit(name, staged)
        ended = self._now()
        self._due = ended + max(_EVERY, _SHARE * (ended - began))

    def _at(self, stream: str) -> _Staged:
        staged = self._staged.get(stream)
        if staged is None:
            options, target = self._options[stream], self._targets[stream]._replace(is_open=True)
            opened = partial(self._store.sink, options, target.added, target=target)
            if getattr(options, "LEARNS_COLUMNS", False):
                staged = _Handed(target, self.written, opened())
            else:
                shape = Shape.of_table()
                spool = Spool(self._directory / f"{self.written}.jsonl", shape, columns_of=_place_of(options))
                staged = _Spooled(target, self.written, spool, opened)
            self._staged[stream] = staged
        return staged

    def _commit(self, name: str, staged: _Staged) -> None:
        staged.commit()
        self.stored[name] += staged.rows
        del self._staged[name]
        staged.close()


class _Staged(Protocol):
    """The waiting rows of one stream. `first` is the number of rows of all streams before them, `rows` their own."""

    target: Target
    first: int

    @property
    def rows(self) -> int: ...

    def write(self, row: dict[str, Any]) -> None: ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class _Handed:
    """Rows that are handed on to the sink as they come, since it learns its columns from them, and wait there."""

    def __init__(self, target: Target, first: int, opened: AbstractContextManager[Sink]) -> None:
        self.target = target
        self.first = first
        self.rows = 0
        self._stack = ExitStack()
        self._sink = self._stack.enter_context(opened)

    def write(self, row: dict[str, Any]) -> None:
        self._sink.write(Record(self.rows, row, self.target.name), {})
        self.rows += 1

    def commit(self) -> None:
        self._sink.commit()

    def close(self) -> None:
        self._stack.close()


class _Spooled:
    """Rows that wait until all columns are known, as a `Source`."""

    primary_key: tuple[str, ...] = ()

    def __init__(
        self, target: Target, first: int, spool: Spool, opened: Callable[..., AbstractContextManager[Sink]]
    ) -> None:
        self.target = target
        self.name = target.name
        self.first = first
        self._spool = spool
        self._opened = opened

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._spool)

    @property
    def columns(self) -> Mapping[str, Schema]:
        """The declared columns, and after them those that have come besides."""
        added = self.target.added
        return {
            **self.target.columns,
            **{
                name: schema
                for name, schema in (self._spool.shape.columns.items() if self._spool.shape else ())
                if name not in added and name not in self.target.columns
            },
        }

    def write(self, row: dict[str, Any]) -> None:
        self._spool.write(len(self._spool), row)

    def read(self, state: JSON = None) -> Iterator[Record]:  # noqa: ARG002 - the contract's; it is always read from the start
        for index, line in enumerate(self._spool.lines()):
            yield Record(index, numbers.loads(line), self.name)

    def commit(self) -> None:
        with self._opened(source=self) as sink:
            for record in self.read():
                sink.write(record, {})
            sink.commit()

    def close(self) -> None:
        self._spool.close()
        self._spool.path.unlink(missing_ok=True)


def _place_of(options: Any) -> str:
    """Returns the file, as an error names it, or the table that rows go into."""
    path = getattr(options, "path", "")
    return str(Path(path).expanduser().resolve()) if path else str(getattr(options, "table", ""))


def _folded(name: str) -> str:
    """Returns a name as file systems and databases see it that do not tell cases, or forms of one letter, apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shown(stream: str) -> str:
    """Returns the name of a stream for a message: in quotes, on one line."""
    return json.dumps(stream if len(stream) <= _SHOWN else f"{stream[:_SHOWN]}…", ensure_ascii=not stream.isprintable())


def _options_of(options: Any, stream: str) -> Any:
    """Returns the store's options for one stream."""
    update = {name: value.replace(STREAM, stream) for name, value in options if isinstance(value, str)}
    path, table = getattr(options, "path", ""), getattr(options, "table", "")
    if STREAM in str(Path(path).parent):
        raise ConfigError(f'output.path: "{STREAM}" is in the name of a folder: put it into the name of the file only')
    is_path, is_table = STREAM in path, STREAM in table
    is_bad = (
        not (stream.strip(" .") and stream.isprintable())
        or (is_table and "." in stream)
        or (is_path and ("/" in stream or stream[0] == "~" or len(os.fsencode(Path(update["path"]).name)) > _LONGEST))
    )
    if is_bad and (is_path or is_table):
        raise ConfigError(
            f"output: the stream {_shown(stream)} has a name that no file or table can have: write an output "
            f'without "{STREAM}"'
        )
    return options.model_copy(update=update)
