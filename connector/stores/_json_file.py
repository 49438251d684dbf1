"""The JSON lines that a run writes, or an array of objects (`.json`): rows come in any order, and are put in theirs."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import orjson

from connector.base.records import JSON, Record, Schema
from connector.stores import Source, part
from connector.stores._formats import Output
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.publish import publish, writing
from connector.stores.staging.shapes import Shape, check_names
from connector.stores.staging.spool import UINT64, Spool, encode

_LEVEL: Final = 6  # gzip's own default: Python's takes three times as long for one part in a hundred


class JsonFile:
    """A `Sink` for one file, without DuckDB but for what only it can compress."""

    def __init__(self, output: Output, added: Mapping[str, Schema], source: Source | None) -> None:
        self._output = output
        self._added = list(added)
        columns = list(source.columns) if source else []
        self._names = [*columns, *(name for name in added if name not in columns)] if columns else []
        check_names(self._names or added, str(output.place))
        shape = None if self._names else Shape.of_table()
        self._spool = Spool(output.directory / "rows.jsonl", shape, columns_of=output.place, below=UINT64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """As `Sink.write` says."""
        row = None if added is None else {**record.data, **added}
        names = self._names
        if row and names and list(row) != names:
            row = {name: row.get(name) for name in names}
        self._spool.write(record.index, row)

    def flush(self) -> None:
        """Nothing to hand on: a file is there as a whole or not at all."""

    def commit(self) -> None:
        """As `Sink.commit` says."""
        lines = self._spool.finish()
        with writing(self._output.place):
            if not self._names:
                lines = self._written("filled", self._filled(lines))
            if ".json" in self._output.file.path.suffixes:
                lines = self._written("array", _array(lines))
            publish(self._compressed(lines), self._output.file.path)

    def _filled(self, path: Path) -> Iterator[bytes]:
        """Rows whose columns only all of them tell: what one of them lacks is null."""
        names = [*(name for name in self._spool.names() if name not in self._added), *self._added]
        with path.open("rb") as lines:
            for row in map(orjson.loads, lines):
                yield encode({name: row.get(name) for name in names}, UINT64)[0]

    def _written(self, name: str, lines: Iterable[bytes]) -> Path:
        path = self._output.directory / name
        with path.open("wb", buffering=BUFFER) as file:
            file.writelines(lines)
        return path

    def _compressed(self, path: Path) -> Path:
        output = self._output.directory / "compressed"
        match self._output.file.compression:
            case "gzip":
                with path.open("rb") as plain, gzip.open(output, "wb", compresslevel=_LEVEL) as file:
                    shutil.copyfileobj(plain, file, BUFFER)
            case "zstd":
                part("_zstd").compress(path, output)
            case _:
                return path
        return output


def _array(path: Path) -> Iterator[bytes]:
    """The array that the lines of a file are the items of."""
    before = b"[\n"
    with path.open("rb") as lines:
        for line in lines:
            yield before + line.rstrip(b"\n")
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
