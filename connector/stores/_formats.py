"""File formats by their names: which they are, how they are compressed, and which files a path stands for."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

from connector.base.errors import ConfigError

_FORMATS: Final[Mapping[str, str]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_PLAIN: Final = "uncompressed"
_COMPRESSIONS: Final[Mapping[str, str]] = {".gz": "gzip", ".zst": "zstd"}
BROKEN: Final = (OSError, EOFError, zlib.error)
"""What reading a file raises, or decompressing it."""

_DETAIL: Final = 1_000
"""How much is kept of what a library says: DuckDB quotes rows, which can be long."""

_KNOWN: Final = ", ".join(_FORMATS) + ", each but Parquet also with .gz or .zst"


class File(NamedTuple):
    """A file, its format (`csv`, `tsv`, `jsonl`, `parquet`) and its compression (`uncompressed`, `gzip`, `zstd`)."""

    path: Path
    format: str
    compression: str


class Output(NamedTuple):
    """A file to write: `place` is what errors call it, and `directory` where its rows wait until it is whole."""

    file: File
    directory: Path
    place: Path
    csv_safe: bool = False


class FromFiles:
    """What was read from files, and knows which."""

    files: Sequence[File]


def recognise(path: Path, chosen: str = "auto") -> File:
    """The file's format, by its extensions unless it is `chosen`.

    Raises:
        ConfigError: the extension is none that is known.
    """
    *suffixes, last = ["", *(suffix.lower() for suffix in path.suffixes)]
    compression = _COMPRESSIONS.get(last, _PLAIN)
    if compression != _PLAIN and suffixes:
        last = suffixes[-1]
    kind = _FORMATS.get(last, "") if chosen == "auto" else chosen
    if not kind:
        raise ConfigError(
            f"{path}: the format cannot be told from the name. Known extensions: {_KNOWN}. Or set `format`."
        )
    if kind == "parquet" and compression != _PLAIN:
        raise ConfigError(f"{path}: Parquet is compressed inside. Leave out the {path.suffix}.")
    return File(path, kind, compression)


def find(path: str, chosen: str = "auto") -> list[File]:
    """The files that a path or a glob stands for, sorted, all of one format.

    Raises:
        ConfigError: there is none, or one that cannot be read.
    """
    wanted = os.path.expanduser(path)  # noqa: PTH111 - a glob is no path
    names = [wanted] if os.path.lexists(wanted) else sorted(glob.glob(wanted, recursive=True))  # noqa: PTH207 - as above
    files = [recognise(_readable(Path(name)), chosen) for name in names if name == wanted or not Path(name).is_dir()]
    if not files:
        what = "no file matches it" if glob.has_magic(wanted) else "there is no such file"
        raise ConfigError(f"{path}: {what}. Check the path; only files of this machine can be read.")
    if len(formats := sorted({file.format for file in files})) > 1:
        raise ConfigError(
            f"{path}: it matches files of several formats ({', '.join(formats)}). Narrow it to one of them."
        )
    return files


def unreadable(files: Sequence[File], error: Exception, why: str | None = None) -> ConfigError:
    """The error for files of which one is broken: `why` in plain words, or what `error` says."""
    text = str(error) or repr(error)
    names = [str(file.path) for file in files]
    named = next((name for name in names if name in text), ", ".join(names))
    what = text.splitlines()[0].partition("Error: ")[2] or text.splitlines()[0]
    if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
        why = "its compression is broken, or its end is missing."
    why = why or f"it cannot be read as {files[0].format}: {what.strip()}. Check that it is whole."
    return ConfigError(f"{named}: {why}", detail=text[:_DETAIL])


def stem(path: str) -> str:
    """A name for what is in these files: the file's without its extensions, or the folder's for a glob without one."""
    for part in reversed(Path(path).parts):
        name = "".join(letter for letter in part.split(".")[0] if letter not in "*?[]").strip("-_ ")
        if name and name != os.sep:
            return name
    return "records"


def _readable(path: Path) -> Path:
    try:
        if not S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: this is not a file. Name a file, or a glob such as {path / '*.csv'}.")
        with path.open("rb"):
            return path
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read ({error.strerror}).", detail=str(error)) from error
