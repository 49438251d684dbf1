"""File formats. One module per format, for reading and writing; its `FORMATS` are of the protocol `Format`.

A new format is a new file here, nothing else: `formats()` finds it, and from there it reaches the choices of the option
`format`, the extensions in messages and the spec. Modules here are light: what needs DuckDB is in `columnar`, and is
loaded when a file is opened.

Which files a path matches belongs in `files`; how files are compressed is a table in `staging.compression`.
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
"""Most characters kept of a library's message: DuckDB quotes rows, which can be long."""


class Format(Protocol):
    """A file format."""

    @property
    def name(self) -> str:
        """The format's name, as in the option `format`."""
        ...

    @property
    def extensions(self) -> Sequence[str]:
        """The extensions of its files, in lower case, with the dot."""
        ...

    @property
    def reads_as(self) -> str:
        """The format that it is read as: a glob may match files of several formats that are read as the same one."""
        ...

    @property
    def is_compressible(self) -> bool:
        """Whether its files may be compressed as a whole: then by every compression in the table."""
        ...

    def source(self, given: FileInput) -> AbstractContextManager[Source]:
        """Opens files for reading, see `Store.source`."""
        ...

    def load(self, database: SnapshotDatabase, files: Sequence[File], limit: int | None) -> list[SnapshotColumn]:
        """Reads files into the table `input` of a database, `limit` rows at most; its row n is record n.

        Columns with the same name become one; files that lack it have nulls there.

        Raises:
            ConfigError: A file cannot be read; the message names the file and the place in it.
            duckdb.Error: DuckDB cannot read a file; see `explain`.
        """
        ...

    def explain(self, text: str) -> str | None:
        """Returns DuckDB's message about a file in plain words; `None` if it is plain enough."""
        ...

    def sink(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None
    ) -> AbstractContextManager[Sink]:
        """Opens a file for writing, see `Store.sink`."""
        ...


class File(NamedTuple):
    """A file, its format and its compression.

    `delimiter` separates the cells of a CSV file, if given. `on_bad_input` says what a broken line of JSON does.
    """

    path: Path
    format: Format
    compression: Compression
    delimiter: str = ""
    on_bad_input: OnBadInput = "fail"


class FileInput(NamedTuple):
    """Files to read as one table. `directory` is a private one for the copy of their content.

    `read_as` returns the name of a column in the records; `None` leaves it out.
    """

    name: str
    files: Sequence[File]
    directory: Path
    limit: int | None = None
    cursor_field: str | None = None
    read_as: Callable[[str], str | None] = str


class FileOutput(NamedTuple):
    """A file to write. Its rows wait in `directory` until it is complete; errors name `place`; `mode` is for chmod."""

    file: File
    directory: Path
    place: Path
    csv_safe: bool = False
    mode: int = 0o600


class FromFiles:
    """The base class of sources that read files."""

    files: Sequence[File]
    parts: Sequence[Part] = ()
    """Which rows come from which file, if there are several and they are read one after the other."""

    primary_key: tuple[str, ...] = ()

    texts: Mapping[str, int] = {}
    """The columns that are known to hold a text in every row, each with the most characters that one may have."""


def texts_of(source: Source) -> Mapping[str, int]:
    """Returns the columns that are known to hold a text in every row, each with the most characters of one."""
    return source.texts if isinstance(source, FromFiles) else {}


def parts_of(source: Source) -> Sequence[Part]:
    """Returns which rows of a source come from which file; empty unless it reads several files."""
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
    """Notes on an error which file it is about; `unreadable` reads that."""
    try:
        yield
    except ConnectorError:  # names the file itself
        raise
    except Exception as error:
        error.add_note(str(file.path))
        raise


def unreadable(files: Sequence[File], error: Exception, why: str | None = None) -> ConfigError:
    """Returns the error for files one of which is broken: with `why` in plain words, or with what `error` says."""
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
