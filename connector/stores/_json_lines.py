"""JSON lines: an object a line, read from files into a private copy, and from there as often as it is needed.

Python alone does it, since for this DuckDB would take more time to load, and more memory, than all the rest.
"""

from __future__ import annotations

import gzip
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import orjson

from connector.base.decoding import is_too_deep
from connector.base.records import JSON, Checkpoint, Record, Schema
from connector.stores._formats import BROKEN, File, FromFiles, unreadable
from connector.stores._position import INTERVAL, Position, misfit, numbered
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.shapes import Shape, check_names
from connector.stores.staging.spool import Spool, decode

_AT_ONCE: Final = 1 << 24  # bytes of lines that are held at once
_NUMBER: Final = ["null", "number"]
_TEXT: Final[Schema] = {"type": ["null", "string"]}


class Copy(NamedTuple):
    """Objects in a file of our own: how many, the bytes of the longest line, and the schema of each column."""

    path: Path
    rows: int
    longest: int
    columns: dict[str, Schema]


class JsonLines(FromFiles):
    """A `Source` over a `Copy`, which nothing changes while it is read; a row has a null for each key that it lacks."""

    def __init__(self, name: str, files: Sequence[File], copy: Copy, leaves_out: Callable[[str], bool]) -> None:
        self.name = name
        self.files = files
        self.rows = copy.rows
        self.columns = {column: schema for column, schema in copy.columns.items() if not leaves_out(column)}
        self._path = copy.path
        self._is_wide = copy.longest * INTERVAL > _AT_ONCE
        self._numbers = [column for column, schema in self.columns.items() if schema["type"] == _NUMBER]

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """As `Source.read` says."""
        position = Position.of(state, None)
        if position.rows > self.rows:
            raise misfit(state, None)
        return numbered(self._batches(position.rows), position, self.name)

    def _batches(self, start: int) -> Iterator[list[dict[str, Any]]]:
        columns, loads = list(self.columns), orjson.loads
        with self._path.open("rb") as lines:
            deque(islice(lines, start), maxlen=0)
            while batch := [loads(line) for line in (_some(lines) if self._is_wide else islice(lines, INTERVAL))]:
                rows = [row if list(row) == columns else {name: row.get(name) for name in columns} for row in batch]
                for name in self._numbers:  # a whole number among others is written like them
                    for row in rows:
                        if type(row[name]) is int:
                            row[name] = float(row[name])
                yield rows


def _some(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The next lines, as many as are held at once."""
    size = 0
    for line in islice(lines, INTERVAL):
        size += len(line)
        yield line
        if size > _AT_ONCE:
            return


def opened(
    name: str,
    files: Sequence[File],
    directory: Path,
    *,
    limit: int | None = None,
    leaves_out: Callable[[str], bool] = lambda _: False,
) -> JsonLines:
    """Reads all files once, and holds what they say now, in `directory`; some columns may be left out.

    Raises:
        ConfigError: Something in them cannot be read; it says what and where.
        StorageError: There is no room for it.
    """
    rows = chain.from_iterable(map(objects, files))
    return JsonLines(name, files, copied(islice(rows, limit), directory / "input.jsonl", files), leaves_out)


def is_lines(file: File) -> bool:
    """Whether a file holds an object a line: not an array, and nothing that only DuckDB can decompress.

    Raises:
        ConfigError: As `objects`.
    """
    if file.compression == "zstd":
        return False
    with _opened(file) as stream:
        texts = (chunk.removeprefix(BOM_UTF8).strip() for chunk in iter(partial(stream.read, BUFFER), b""))
        return not next(filter(None, texts), b"").startswith(b"[")


def objects(file: File) -> Iterator[dict[str, Any]]:
    """The objects in a file, one by one.

    Raises:
        ConfigError: A line is none, or cannot be decompressed; it says which.
    """
    place, number = f"{file.path}, line", 0
    with _opened(file) as stream:
        while lines := stream.readlines(BUFFER):
            if number == 0:
                lines[0] = lines[0].removeprefix(BOM_UTF8)
            rows = _parsed(lines)
            if rows is None:
                texts = ((at, line.strip()) for at, line in enumerate(lines, number + 1))
                yield from (decode(text, place, at) for at, text in texts if text)
            else:
                yield from rows
            number += len(lines)


def _parsed(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The objects in lines, all at once; `None` where one of them has to be looked at for itself."""
    try:
        rows = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return None
    usual = all(type(row) is dict and not is_too_deep(row, line) for row, line in zip(rows, lines, strict=True))
    return rows if usual else None


def copied(rows: Iterable[dict[str, Any]], path: Path, files: Sequence[File]) -> Copy:
    """Writes what has been read from `files` to `path`, a file in a private directory.

    Raises:
        ConfigError: Keys cannot be columns.
        StorageError: The disk takes no more.
    """
    shape = Shape.of_table()
    with Spool(path, shape) as spool:
        for index, row in enumerate(rows):
            spool.write(index, row)
        spool.finish()
    columns = {name: _TEXT if schema == {"type": "null"} else schema for name, schema in shape.columns.items()}
    check_names(columns, ", ".join(str(file.path) for file in files))
    return Copy(path, len(spool), spool.longest, columns)


@contextmanager
def _opened(file: File) -> Iterator[BinaryIO]:
    try:
        with gzip.open(file.path) if file.compression == "gzip" else file.path.open("rb") as stream:
            yield cast("BinaryIO", stream)
    except BROKEN as error:
        raise unreadable([file], error) from error
