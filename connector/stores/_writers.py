"""What writes a file of a format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from connector.records import Schema
from connector.stores import Sink, Source, part
from connector.stores._formats import File
from connector.stores._json_file import JsonFile


def writer(
    target: File,
    directory: Path,
    added: Mapping[str, Schema],
    source: Source | None,
    *,
    csv_safe: bool = False,
    place: Path | None = None,
) -> AbstractContextManager[Sink]:
    """Opens `target` for the records of `source`; what waits is kept in `directory`. As `Store.sink` says.

    `place` is where the rows are going to be, if that is not in `target`: errors name it.
    """
    if target.format == "jsonl":
        return JsonFile(target, directory, added, source, place=place)
    table: AbstractContextManager[Sink] = part("_table").Table(
        target, directory, added, source, csv_safe=csv_safe, place=place
    )
    return table
