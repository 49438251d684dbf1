"""Files: CSV, TSV, JSON lines and Parquet, read as one table and written as one.

An input is read once, into a private copy on disk, so types come from all of its rows and a file that changes meanwhile
cannot mix rows up. An output takes its rows in any order and has them in the order of the input. What is in columns is
a DuckDB's: input columns go from there to an output in columns without a detour, so they keep their types, and from CSV
to CSV their text. JSON lines need none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from connector.base.errors import ConfigError
from connector.base.records import Schema
from connector.base.streams import Target
from connector.stores import Sink, Source, _json_lines, is_dead_letter, part
from connector.stores._formats import File, FromFiles, Output, find, recognise, stem
from connector.stores._json_lines import is_lines
from connector.stores._writers import writer
from connector.stores.staging.private_directory import private_directory


class Options(BaseModel):
    """Files of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Files")

    type: Literal["files"] = Field(default="files", title="Type")
    path: str = Field(
        min_length=1,
        title="Path",
        description="A file, or a glob like reviews/*.parquet: the files are one table, in the order of their names.",
        examples=["reviews.csv", "reviews/*.parquet"],
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = Field(
        default="auto",
        title="Format",
        description="The format of the files. `auto` goes by their extensions: .csv, .tsv, .jsonl, .ndjson, .json or "
        ".parquet, with .gz or .zst behind.",
    )
    name: str = Field(
        default="", title="Stream name", description="The name of the stream. Default: the name of the file."
    )
    csv_safe: SkipJsonSchema[bool] = Field(  # of outputs alone, so it is in no form for an input
        default=False,
        title="Safe CSV",
        description="Put a single quote before each cell of a CSV or TSV file that a spreadsheet would take for a "
        "formula. It is part of the text for everyone else who reads the file.",
    )


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Source]:
    """Open files for reading, as `Store.source` says. With a `limit` the types come from these rows only."""
    files = find(options.path, options.format)
    name = options.name or stem(options.path)
    with private_directory() as directory:
        if cursor_field is None and files[0].format == "jsonl" and all(map(is_lines, files)):
            yield _json_lines.opened(name, files, directory, limit=limit, leaves_out=is_dead_letter)
            return
        opened = part("_snapshot").opened
        with opened(
            name, files, directory, limit=limit, cursor_field=cursor_field, leaves_out=is_dead_letter
        ) as snapshot:
            yield snapshot


@contextmanager
def sink(
    options: Options, added: Mapping[str, Schema], *, source: Source | None = None, target: Target | None = None
) -> Iterator[Sink]:
    """Open a file for writing, as `Store.sink` says. It appears in its place, for this user alone, with `commit`."""
    place = _place(options, source)
    with private_directory(place.path.parent) as directory:
        adds = target is not None and target.mode != "overwrite"
        file = place._replace(path=directory / place.path.name) if adds else place
        with writer(Output(file, directory, place.path, options.csv_safe), added, source) as rows:
            yield part("_merge").Addition(rows, file, place, target.primary_key) if target and adds else rows


def _place(options: Options, source: Source | None) -> File:
    """The file to write, and that it can be written."""
    place = recognise(Path(os.path.realpath(Path(options.path).expanduser())), options.format)
    if place.path.exists() and not place.path.is_file():
        raise ConfigError(f"{options.path}: this is not a file. Name the file to write.")
    if not place.path.parent.is_dir():
        raise ConfigError(f"{options.path}: the folder {place.path.parent} does not exist. Create it first.")
    inputs: Sequence[File] = source.files if isinstance(source, FromFiles) else ()
    if place.path.exists() and any(file.path.samefile(place.path) for file in inputs):
        raise ConfigError(f"{options.path}: this file is among the inputs. Write to another one.")
    return place
