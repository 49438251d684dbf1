"""Files: CSV, TSV, JSON lines and Parquet, read as one table and written as one.

An input is read once, into a private DuckDB that spills to disk, so types come from all of its rows and a file that
changes meanwhile cannot mix rows up. An output takes its rows in any order and has them in the order of the input.
Input columns go from the snapshot to the output without a detour, so they keep their types; from CSV to CSV their text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connector.errors import ConfigError
from connector.records import Schema
from connector.stores import Source
from connector.stores._database import Database, private_directory
from connector.stores._formats import File, find, recognise, stem
from connector.stores._snapshot import Snapshot, load
from connector.stores._table import Table


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


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Snapshot]:
    """Open files for reading, as `Store.source` says. With a `limit` the types come from these rows only."""
    files = find(options.path, options.format)
    with private_directory() as directory, Database(Path(directory)) as database:
        yield load(options.name or stem(options.path), files, database, limit=limit, cursor_field=cursor_field)


@contextmanager
def sink(options: Options, added: Mapping[str, Schema], *, source: Source | None = None) -> Iterator[Table]:
    """Open a file for writing, as `Store.sink` says. It appears in its place, for this user alone, with `commit`."""
    snapshot = source if isinstance(source, Snapshot) else None
    target = _target(options, snapshot)
    with private_directory(target.path.parent) as name:
        directory = Path(name)
        opened = nullcontext(snapshot.database) if snapshot else Database(directory)
        with opened as database, Table(target, directory, database, added, source) as table:
            yield table


def _target(options: Options, snapshot: Snapshot | None) -> File:
    """The file to write, and that it can be written."""
    target = recognise(Path(os.path.realpath(Path(options.path).expanduser())), options.format)
    if target.path.exists() and not target.path.is_file():
        raise ConfigError(f"{options.path}: this is not a file. Name the file to write.")
    if not target.path.parent.is_dir():
        raise ConfigError(f"{options.path}: the folder {target.path.parent} does not exist. Create it first.")
    if snapshot and target.path.exists() and any(file.path.samefile(target.path) for file in snapshot.files):
        raise ConfigError(f"{options.path}: this file is among the inputs. Write to another one.")
    return target
