"""File formats. One module is one format, reading and writing together; it has `FORMATS`, each a `Format`.

A new format is a new file here, nothing else: `formats()` finds it, and with it the choices of the option `format`, the
extensions in messages and the spec. Modules here are light: what needs DuckDB is in `columnar`, and is loaded when a
file is opened.

Which files a path stands for does not belong here but in `files`; how files are compressed is a table in
`staging.compression`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from connector.base.errors import ConfigError, ConnectorError
from connector.base.records import OnBadInput, Part, Schema
from connector.stores import Sink, Source
from connector.stores.columnar.columns import SnapshotColumn, SnapshotDatabase
from connector.stores.staging.compression import Compression, UnreadableTextError, is_broken

_DETAIL: Final = 1_000
"""Characters that are kept of a library's message: DuckDB quotes rows, which can be long."""


class Format(Protocol):
    """A file format."""

    @property
    def name(self) -> str:
        """The format's name, as the option `format` has it."""
        ...

    @property
    def extensions(self) -> Sequence[str]:
        """The extensions of its files, in lower case, with their dot."""
        ...

    @property
    def reads_as(self) -> str:
        """The format that it is read as: a glob may match files of several formats that are read alike."""
        ...

    @property
    def is_compressible(self) -> bool:
        """Whether its files may be compressed as a whole. If so, every compression in the table will do."""
        ...

    def source(self, given: FileInput) -> AbstractContextManager[Source]:
        """Opens files for reading, as `Store.source` says."""
        ...

    def load(self, database: SnapshotDatabase, files: Sequence[File], limit: int | None) -> list[SnapshotColumn]:
        """Reads files into the table `input` of a database; row n of it is record n. Reads `limit` rows at most.

        Columns of one name are one column; files that lack it have nulls there.

        Raises:
            ConfigError: A file cannot be read; it names the file and the place.
            duckdb.Error: DuckDB cannot read a file; `explain` puts it in plain words.
        """
        ...

    def explain(self, text: str) -> str | None:
        """Puts a message of DuckDB's about a file in plain words, `None` where there are no plainer ones."""
        ...

    def sink(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None
    ) -> AbstractContextManager[Sink]:
        """Opens a file for writing, as `Store.sink` says."""
        ...


class File(NamedTuple):
    """A file, its format and its compression; `delimiter` separates the cells of a CSV file where it is told.

    `on_bad_input` says what a broken line of JSON does.
    """

    path: Path
    format: Format
    compression: Compression
    delimiter: str = ""
    on_bad_input: OnBadInput = "fail"


class FileInput(NamedTuple):
    """Files to read as one table. `directory` is a private one for the copy of what they say.

    `read_as` says what a column is called in the records; one that is `None` is not read.
    """

    name: str
    files: Sequence[File]
    directory: Path
    limit: int | None = None
    cursor_field: str | None = None
    read_as: Callable[[str], str | None] = str


class FileOutput(NamedTuple):
    """A file to write. Its rows wait in `directory` until it is whole; errors call it `place`; `mode` is for chmod."""

    file: File
    directory: Path
    place: Path
    csv_safe: bool = False
    mode: int = 0o600


class FromFiles:
    """The base of sources that are read from files."""

    files: Sequence[File]
    parts: Sequence[Part] = ()
    """Which rows are of which file, where there are several and they are read one after the other."""

    primary_key: tuple[str, ...] = ()


def parts_of(source: Source) -> Sequence[Part]:
    """Returns which rows of a source are of which file; nothing where it is not several files."""
    return source.parts if isinstance(source, FromFiles) else ()


def is_read_by(path: Path, source: Source | None) -> bool:
    """Returns whether a file is among those that a source reads."""
    files: Sequence[File] = source.files if isinstance(source, FromFiles) else ()
    return path.exists() and any(file.path.samefile(path) for file in files)


@cache
def formats() -> Mapping[str, Format]:
    """Returns all formats by their names."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    found: Iterable[Format] = (
        each for name in modules for each in importlib.import_module(f"{__name__}.{name}").FORMATS
    )
    return {each.name: each for each in found}


@contextmanager
def about(file: File) -> Iterator[None]:
    """Notes on an error which file it is about, for `unreadable`."""
    try:
        yield
    except ConnectorError:  # names it by itself
        raise
    except Exception as error:
        error.add_note(str(file.path))
        raise


def unreadable(files: Sequence[File], error: Exception, why: str | None = None) -> ConfigError:
    """Returns the error for files of which one is broken: `why` in plain words, or what `error` says."""
    text = str(error) or repr(error)
    names = [str(file.path) for file in files]
    known = getattr(error, "__notes__", [])
    named = next((name for name in names if name in known or name in text), ", ".join(names))
    if isinstance(error, UnreadableTextError):
        why = text
    elif is_broken(error):
        why = "its compression is broken, or its end is missing: decompress it to see, or copy it again"
    if why is None:
        what = (text.splitlines()[0].partition("Error: ")[2] or text.splitlines()[0]).strip().removesuffix(".")
        why = f"it cannot be read as {files[0].format.reads_as}: {what}: check that it is whole"
    return ConfigError(f"{named}: {why}", detail=text[:_DETAIL])
