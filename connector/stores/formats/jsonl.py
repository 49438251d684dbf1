"""JSON lines: one object per line. Read and written in Python: loading DuckDB would take half of a small run.

A file that holds an array of objects, in spite of its name, is read as one. DuckDB is used only to sort rows, and to
add rows to a file. Texts stay texts, even those that look like dates.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self, cast

import orjson

from connector.base import numbers
from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError
from connector.base.lines import MOST
from connector.base.records import BAD_INPUT, JSON, Checkpoint, Part, Record, Schema, merged, remaining
from connector.stores import Sink, Source, columnar
from connector.stores.columnar.columns import (
    ROW,
    SnapshotColumn,
    SnapshotDatabase,
    literal,
    scalar,
    settle,
    structure,
)
from connector.stores.columnar.scans import line_scan
from connector.stores.formats import File, FileInput, FileOutput, Format, FromFiles, unreadable
from connector.stores.staging.compression import BROKEN, compressed
from connector.stores.staging.json_array import items
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.position import INTERVAL, Position, numbered, state_mismatch
from connector.stores.staging.publish import publish, writing
from connector.stores.staging.shapes import DECIMAL, Shape, check_names
from connector.stores.staging.spool import Spool, decode, encode

_AT_ONCE: Final = 1 << 24  # bytes of lines held in memory
_TEXT: Final[Schema] = {"type": ["null", "string"]}


Framing = Callable[[Path], Iterable[bytes] | None]
"""Returns the content of an output, given a file with one line per row; `None` means that file as it is."""


def _as_lines(lines: Path) -> Iterable[bytes] | None:  # noqa: ARG001 - a `Framing`
    """A `Framing` that leaves the lines as they are."""
    return None


class JsonObjects(NamedTuple):
    """A `Format` of objects. Reads lines or an array, whichever a file holds; writes what `framing` returns."""

    name: str
    extensions: tuple[str, ...]
    framing: Framing
    reads_as: str = "jsonl"
    is_compressible: bool = True

    def source(self, given: FileInput) -> AbstractContextManager[Source]:
        """See `Format.source`."""
        if given.cursor_field is None:
            return nullcontext(JsonLines.opened(given))
        return cast("AbstractContextManager[Source]", columnar.load("snapshot").opened(given))

    def load(self, database: SnapshotDatabase, files: Sequence[File], limit: int | None) -> list[SnapshotColumn]:
        """See `Format.load`. Records are read from the row's JSON text; its typed cells are for sorting."""
        some = _limited(chain.from_iterable(map(_read, files)), limit)
        copy = _copied(some, database.directory / "input.jsonl", files, is_typed=True)
        database.run(_create(copy))
        copy.path.unlink()
        return [_column(name, f"c{number}", schema) for number, (name, schema) in enumerate(copy.columns.items())]

    def explain(self, text: str) -> str | None:  # noqa: ARG002 - DuckDB's words about JSON are plain enough
        """See `Format.explain`."""
        return None

    def sink(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None
    ) -> AbstractContextManager[Sink]:
        """See `Format.sink`."""
        return JsonWriter(output, added, source, self.framing)


FORMATS: Final[tuple[Format, ...]] = (JsonObjects("jsonl", (".jsonl", ".ndjson"), _as_lines),)


class _Some(NamedTuple):
    """Rows that are read together; and the line of each, with its line end, if that is all that it holds."""

    rows: Sequence[dict[str, Any]]
    lines: Sequence[bytes] = ()


class _Copy(NamedTuple):
    """Objects in a private file.

    `longest` is the size of the longest line in bytes, `columns` has the schema of each column, and `texts` those that
    hold a text in every row.
    """

    path: Path
    rows: int
    longest: int
    columns: dict[str, Schema]
    texts: Collection[str]


class JsonLines(FromFiles):
    """A `Source` of a private copy, which cannot change while it is read. A row has null for a key that it lacks."""

    def __init__(self, given: FileInput, copy: _Copy, parts: Sequence[Part] = ()) -> None:
        self.name = given.name
        self.files = given.files
        self.parts = parts
        self.rows = copy.rows
        self._has_bad = BAD_INPUT in copy.columns
        read = [(name, column) for column in copy.columns if (name := given.read_as(column)) is not None]
        check_names((name for name, _ in read), ", ".join(str(file.path) for file in given.files), keeps_case=True)
        self._names = dict(read)
        self.columns = {name: copy.columns[column] for name, column in self._names.items() if column != BAD_INPUT}
        self.texts = {name: copy.longest for name, column in self._names.items() if column in copy.texts}
        self._path = copy.path
        self._is_wide = copy.longest * INTERVAL > _AT_ONCE

    @classmethod
    def opened(cls, given: FileInput) -> Self:
        """Reads all files once, and keeps a copy of what they hold now.

        Raises:
            ConfigError: A file cannot be read; the message names the file and the place in it.
            StorageError: There is no room for the copy.
        """
        parts: list[Part] = []
        some = _noted(given.files, parts) if len(given.files) > 1 else _read(given.files[0])
        return cls(given, _copied(_limited(some, given.limit), given.directory / "input.jsonl", given.files), parts)

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint]:
        """See `Source.read`."""
        position = Position.of(state, None)
        if position.rows > self.rows:
            raise state_mismatch(state, None)
        return numbered(self._batches(position.rows), position, self.name, has_bad=self._has_bad)

    def _batches(self, start: int) -> Iterator[list[dict[str, Any]]]:
        columns = list(self._names.values())
        names = list(self._names.items())
        is_same = columns == list(self._names)
        with self._path.open("rb") as lines:
            deque(islice(lines, start), maxlen=0)
            while batch := _decoded(list(_some(lines) if self._is_wide else islice(lines, INTERVAL))):
                rows = [
                    row if is_same and list(row) == columns else {name: row.get(key) for name, key in names}
                    for row in batch
                ]
                yield rows


def _read(file: File) -> Iterator[_Some]:
    """Yields the rows of a file. Raises as `_objects` and `_items`."""
    return _objects(file) if _is_lines(file) else _items(file)


def _noted(files: Sequence[File], parts: list[Part]) -> Iterator[_Some]:
    """Yields the rows of several files; notes in `parts` where each file begins and which keys it has."""
    count = 0
    for file in files:
        names: set[str] = set()
        parts.append(Part(str(file.path), count, names))
        for some in _read(file):
            names.update(*some.rows)
            count += len(some.rows)
            yield some


def _limited(each: Iterator[_Some], limit: int | None) -> Iterator[_Some]:
    """Yields the first `limit` rows; all of them if it is `None`."""
    if limit is None:
        yield from each
        return
    while limit > 0 and (some := next(each, None)) is not None:
        yield _Some(some.rows[:limit], some.lines[:limit])
        limit -= len(some.rows)


class JsonWriter:
    """A `Sink` for one file, written without DuckDB."""

    def __init__(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None, framing: Framing
    ) -> None:
        self._output = output
        self._added = list(added)
        self._framing = framing
        columns = list(remaining(source.columns, added)) if source else []
        self._names = [*columns, *(name for name in added if name not in columns)] if columns else []
        check_names(self._names or added, str(output.place), keeps_case=True)
        shape = None if self._names else Shape.of_table()
        self._spool = Spool(output.directory / "rows.jsonl", shape, columns_of=str(output.place), keeps_case=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        row = None if added is None else merged(record.data, added)
        names = self._names
        if row and names and list(row) != names:
            row = {name: row.get(name) for name in names}
        self._spool.write(record.index, row)

    def flush(self) -> None:
        """Does nothing: the file appears as a whole, at `commit`."""

    def commit(self) -> None:
        """See `Sink.commit`."""
        lines, directory = self._spool.finish(), self._output.directory
        with writing(self._output.place):
            if not self._names:
                lines = _written(directory / "filled", self._filled(lines))
            if (framed := self._framing(lines)) is not None:
                lines = _written(directory / "framed", framed)
            whole = compressed(lines, self._output.file.compression, directory)
            publish(whole, self._output.file.path, self._output.mode)

    def _filled(self, path: Path) -> Iterator[bytes]:
        """Yields the rows with all columns, known only now that all rows have come; null where one lacks a column."""
        names = [*(name for name in self._spool.names() if name not in self._added), *self._added]
        with path.open("rb") as lines:
            for row in map(numbers.loads, lines):
                yield encode({name: row.get(name) for name in names})[0]


def _written(path: Path, lines: Iterable[bytes]) -> Path:
    with path.open("wb", buffering=BUFFER) as file:
        file.writelines(lines)
    return path


def _some(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the next lines: at most `INTERVAL`, fewer where they are long."""
    size = 0
    for line in islice(lines, INTERVAL):
        size += len(line)
        yield line
        if size > _AT_ONCE:
            return


def _decoded(lines: Sequence[bytes]) -> list[Any]:
    """Returns the values of lines of JSON, every number exact. Raises `ValueError` if one is not JSON."""
    loads = numbers.loads if numbers.may_be_long(b"".join(lines)) else orjson.loads
    return list(map(loads, lines))


def _is_lines(file: File) -> bool:
    """Returns whether a file holds one object per line, not an array.

    Raises:
        ConfigError: As `_objects`.
    """
    with _opened(file) as stream:
        texts = (chunk.removeprefix(BOM_UTF8).strip() for chunk in iter(partial(stream.read, BUFFER), b""))
        return not next(filter(None, texts), b"").startswith(b"[")


def _objects(file: File) -> Iterator[_Some]:
    """Yields the objects in a file of lines.

    Raises:
        ConfigError: A line is not an object, or cannot be decompressed; the message names the line.
    """
    place, number = f"{file.path}, line", 0
    broken: list[ConfigError] = []
    with _opened(file) as stream:
        for lines in _batches(stream, place):
            if number == 0:
                lines[0] = lines[0].removeprefix(BOM_UTF8)
            rows = _parsed(lines)
            if rows is None:
                texts = ((at, line.strip()) for at, line in enumerate(lines, number + 1))
                for at, text in texts:
                    try:
                        row = decode(text, place, at, file.on_bad_input) if text else None
                    except ConfigError as error:
                        broken.append(error)
                    if not broken and row is not None:
                        yield _Some([row])
            elif not broken:
                yield _Some(rows, lines)
            number += len(lines)
    if broken:
        count = f"; lines that are broken: {len(broken):,}" if len(broken) > 1 else ""
        raise ConfigError(f'{broken[0].message}, or let it fail alone with on_bad_input "record"{count}')


def _batches(stream: BinaryIO, place: str) -> Iterator[list[bytes]]:
    """Yields the lines of a stream in batches, each line with its end.

    Raises:
        ConfigError: A line is longer than `MOST` bytes.
    """
    number = 0
    while chunk := stream.read(BUFFER):
        if not chunk.endswith(b"\n"):
            chunk += stream.readline(MOST)
        lines = BytesIO(chunk).readlines()
        number += len(lines)
        if len(lines[-1]) > MOST:
            raise ConfigError(f"{place} {number}: it has more than {MOST >> 20} MiB: write smaller rows")
        if not lines[-1].endswith(b"\n"):  # the last one of the file
            lines[-1] += b"\n"
        yield lines


def _parsed(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """Returns the objects in lines, parsed together; `None` where the lines must be parsed one by one."""
    try:
        rows = _decoded(lines)
    except ValueError:
        return None
    usual = all(type(row) is dict and not is_too_deep(row, line) for row, line in zip(rows, lines, strict=True))
    return rows if usual else None


def _items(file: File) -> Iterator[_Some]:
    """Yields the objects in a file that holds an array.

    Raises:
        ConfigError: It is not an array, or an item is not an object; the message names the item.
    """
    with _opened(file) as stream:
        try:
            for number, text in enumerate(items(stream), 1):
                yield _Some([decode(text, f"{file.path}, item", number, file.on_bad_input)])
        except ValueError as error:
            raise unreadable([file], error) from error


@contextmanager
def _opened(file: File) -> Iterator[BinaryIO]:
    try:
        with file.compression.open(file.path) as stream:
            yield stream
    except BROKEN as error:
        raise unreadable([file], error) from error


def _copied(each: Iterable[_Some], path: Path, files: Sequence[File], *, is_typed: bool = False) -> _Copy:
    """Writes rows read from `files` to `path`, a file in a private directory.

    Raises:
        ConfigError: The keys cannot be columns.
        StorageError: The disk is full.
    """
    shape, where = Shape.of_table(), ", ".join(str(file.path) for file in files)
    keys: dict[str, str] = {}  # to DuckDB, names that differ only in case are the same
    with Spool(path, shape, columns_of=where, keeps_case=True, is_typed=is_typed) as spool:
        for rows, lines in each:
            if lines and not is_typed:
                spool.write_lines(rows, lines)
                continue
            for row in rows:
                keyed: Mapping[str, Any] = row
                if is_typed:
                    keyed = {keys.setdefault(name, f"c{len(keys)}"): value for name, value in row.items()}
                    keyed[ROW] = encode(row)[0].decode().rstrip("\n")
                spool.write(len(spool), keyed)
        spool.finish()
    names = {key: name for name, key in keys.items()}
    columns = {
        names.get(key, key): _TEXT if schema == {"type": "null"} else schema
        for key, schema in shape.columns.items()
        if key in names or not is_typed
    }
    return _Copy(path, len(spool), spool.longest, columns, frozenset(shape.texts))


def _create(copy: _Copy) -> str:
    """Returns the statement that creates the table: scalars typed, the rest as JSON, and each row as it is."""
    types = {f"c{number}": _type(schema) for number, schema in enumerate(copy.columns.values())} | {ROW: "VARCHAR"}
    cells = ", ".join(f"struct_extract(v, {literal(name)}) AS {name}" for name in types)
    rows = f"{line_scan(copy.path, copy.longest)} SELECT from_json(line, {literal(orjson.dumps(types).decode())}) AS v"
    return f"CREATE TABLE input AS FROM ({rows}) SELECT {cells}"


def _type(schema: Schema) -> str:
    """Returns the type of a cell. Numbers are kept as text, so that an integer among decimals stays an integer."""
    type_ = settle(structure(schema), None)
    return "JSON" if not isinstance(type_, str) else "VARCHAR" if type_ == "DOUBLE" else type_


def _column(name: str, cell: str, schema: Schema) -> SnapshotColumn:
    plain, type_ = _undecided(schema), _type(schema)
    if structure(schema) == "DOUBLE":
        exact = f"CAST({cell} AS DOUBLE)"
        return SnapshotColumn(name, plain, exact, cell, text=cell, cursor_type="DOUBLE", key=name)
    if type_ == "JSON" or schema.get("format") == DECIMAL:
        return SnapshotColumn(name, plain, cell, cell, text=cell, key=name)
    json, _ = scalar(cell, type_.lower())
    return SnapshotColumn(name, plain, cell, json, text=cell, cursor_type=type_, key=name)


def _undecided(schema: Schema) -> Schema:
    """Returns the schema without the format `DECIMAL`, which says that numbers have many digits."""
    result = {name: each for name, each in schema.items() if name != "format" or each != DECIMAL}
    if "items" in result:
        result["items"] = _undecided(result["items"])
    if "properties" in result:
        result["properties"] = {name: _undecided(each) for name, each in result["properties"].items()}
    return result
