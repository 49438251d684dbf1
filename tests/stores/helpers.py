"""What the tests of the stores share."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from connector.base.records import Checkpoint, Record
from connector.stores import Source, files


def opened(path: Path | str, **more: Any) -> Any:
    """A files source: `format`, `name` and `delimiter` are options, the rest is `source`'s own."""
    options = {name: more.pop(name) for name in ("format", "name", "delimiter") if name in more}
    return files.source(files.Options(path=str(path), **options), **more)


def rows_of(source: Source, state: Any = None) -> list[dict[str, Any]]:
    return [item.data for item in source.read(state) if isinstance(item, Record)]


def states_of(source: Source, state: Any = None) -> list[Any]:
    return [item.state for item in source.read(state) if isinstance(item, Checkpoint)]


def table(path: Path | str, **more: Any) -> list[dict[str, Any]]:
    """The rows that a file is read as."""
    with opened(path, **more) as source:
        return rows_of(source)


def types(path: Path) -> dict[str, str]:
    """The columns of a Parquet file and their types."""
    return {name: str(kind) for name, kind, *_ in duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall()}


def parquet(path: Path, sql: str) -> Path:
    """A Parquet file with the result of a query."""
    duckdb.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


def text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(path).split("\n") if line]


def enrich(
    given: Path | str, output: Path | str, added: Mapping[str, Any], *values: Mapping[str, Any] | None, **more: Any
) -> None:
    """Write the rows of a file with these values, the last of them for all rows that are left; later rows first."""
    with opened(given, **more) as source, files.sink(files.Options(path=str(output)), added, source=source) as sink:
        records = [item for item in source.read() if isinstance(item, Record)]
        for record in reversed(records):
            sink.write(record, values[min(record.index, len(values) - 1)])
        sink.commit()
