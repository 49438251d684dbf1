"""What writes a file of a format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from connector.base.records import Schema
from connector.stores import Sink, Source, part
from connector.stores._formats import Output
from connector.stores._json_file import JsonFile


def writer(output: Output, added: Mapping[str, Schema], source: Source | None) -> AbstractContextManager[Sink]:
    """Opens a file for the records of `source`, as `Store.sink` says."""
    if output.file.format == "jsonl":
        return JsonFile(output, added, source)
    table: AbstractContextManager[Sink] = part("_table").Table(output, added, source)
    return table
