"""The JSON lines that a run writes, or an array of objects (`.json`): rows come in any order, and are put in theirs."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import orjson

from connector.records import JSON, Record, Schema
from connector.stores import Source, part
from connector.stores._formats import File
from connector.stores._publish import publish, writing
from connector.stores._shapes import Shape, check_names
from connector.stores._spool import BUFFER, UINT64, Spool, encode

_LEVEL: Final = 6  # gzip's own default: Python's takes three times as long for one part in a hundred


class JsonFile:
    """A `Sink` for one file, without DuckDB but for what only it can compress.

    `place` is where the rows are going to be, if that is not in `target`: errors name it.
    """

    def __init__(
        self,
        target: File,
        directory: Path,
        added: Mapping[str, Schema],
        source: Source | None,
        *,
        place: Path | None = None,
    ) -> None:
        self._target = target
        self._place = place or target.path
        self._directory = directory
        self._added = list(added)
        columns = list(source.columns) if source else []
        self._names = [*columns, *(name for name in added if name not in columns)] if columns else []
        check_names(self._names or added, str(self._place))
        self._shape = None if columns else Shape.of_table()
        self._spool = Spool(directory / "rows.jsonl", self._shape, self._place, UINT64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """As `Sink.write` says."""
        if added is None:
            return
        row = {**record.data, **added}
        names = self._names
        if names and list(row) != names:
            row = {name: row.get(name) for name in names}
        self._spool.write(record.index, row)

    def flush(self) -> None:
        """Nothing to hand on: a file is there as a whole or not at all."""

    def commit(self) -> None:
        """As `Sink.commit` says."""
        output = self._directory / "output"
        lines = filter(None, self._spool.lines()) if self._shape is None else self._filled(self._shape)
        with writing(self._place):
            with self._opened(output) as file:
                file.writelines(_array(lines) if ".json" in self._target.path.suffixes else lines)
            if self._target.compression == "zstd":
                output = part("_zstd").compressed(output, self._spool.longest, self._directory)
            publish(output, self._target.path)

    def _filled(self, shape: Shape) -> Iterator[bytes]:
        """Rows whose columns only all of them tell: what one of them lacks is null."""
        names = [*(name for name in shape.fields if name not in self._added), *self._added]
        for line in filter(None, self._spool.lines()):
            row = orjson.loads(line)
            yield encode({name: row.get(name) for name in names}, UINT64)[0]

    def _opened(self, path: Path) -> Any:
        if self._target.compression != "gzip":
            return path.open("wb", buffering=BUFFER)
        return gzip.open(path, "wb", compresslevel=_LEVEL)


def _array(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The array that lines are the items of."""
    before = b"[\n"
    for line in lines:
        yield before + line.rstrip(b"\n")
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
