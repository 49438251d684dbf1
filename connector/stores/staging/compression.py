"""The table of compressions. A new one is a new row of `COMPRESSIONS`; every compressible format can use it."""

from __future__ import annotations

import gzip
import importlib
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from connector.stores.staging.ordered import BUFFER

_LEVEL: Final = 6  # gzip's own default: Python's takes three times as long for one part in a hundred


class BrokenCompressionError(Exception):
    """A file that is not compressed as its name says, or whose end is missing."""


class UnreadableTextError(OSError):
    """A text in a compressed file that cannot be read. The message says in plain words why, and what to do."""


_BROKEN: Final = (gzip.BadGzipFile, EOFError, zlib.error, BrokenCompressionError)
BROKEN: Final = (OSError, *_BROKEN)
"""The errors that reading a file, compressed or not, may raise."""


class Compression(NamedTuple):
    """A compression of whole files.

    Each file begins with `magic`. `open` opens a file to read its decompressed bytes, and raises `BROKEN` then or at a
    read; if `is_text`, these are lines of UTF-8, not the exact bytes. `compress` writes the compressed content of the
    first file to the second, and raises `OSError`. `is_native`: DuckDB reads and writes the compression itself, under
    the same `name`.
    """

    name: str
    suffix: str
    magic: bytes
    open: Callable[[Path], BinaryIO]
    compress: Callable[[Path, Path], None]
    is_native: bool = False
    is_text: bool = False


def is_broken(error: Exception) -> bool:
    """Returns whether an error is about a broken compression, or a missing end."""
    return isinstance(error, _BROKEN)


def compressed(path: Path, compression: Compression, directory: Path) -> Path:
    """Returns a file with the compressed content of another: a new one in `directory`, or the same if uncompressed.

    Raises:
        OSError: It cannot be written.
    """
    if compression is UNCOMPRESSED:
        return path
    output = directory / "compressed"
    compression.compress(path, output)
    return output


def native(path: Path, compression: Compression, directory: Path) -> tuple[Path, str]:
    """Returns a file that DuckDB can read, and DuckDB's name for its compression.

    A file in a compression that DuckDB does not know is decompressed into `directory`.

    Raises:
        OSError, EOFError, zlib.error, BrokenCompressionError: As `BROKEN`.
    """
    if compression.is_native:
        return path, compression.name
    output = directory / f"{path.name}.decompressed"
    with compression.open(path) as packed, output.open("wb") as file:
        shutil.copyfileobj(packed, file, BUFFER)
    return output, UNCOMPRESSED.name


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _copy(path: Path, output: Path) -> None:
    shutil.copyfile(path, output)


def _open_gzip(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path))


def _compress_gzip(path: Path, output: Path) -> None:
    with path.open("rb") as file, gzip.open(output, "wb", compresslevel=_LEVEL) as packed:
        shutil.copyfileobj(file, packed, BUFFER)


def _zstd() -> Any:
    """Returns the module for zstd, which needs DuckDB: before Python 3.14, the standard library has no zstd."""
    return importlib.import_module("connector.stores.columnar.zstd")


def _open_zstd(path: Path) -> BinaryIO:
    return cast("BinaryIO", _zstd().opened(path))


def _compress_zstd(path: Path, output: Path) -> None:
    _zstd().compress(path, output)


UNCOMPRESSED: Final = Compression("uncompressed", "", b"", _open, _copy, is_native=True)
COMPRESSIONS: Final = (
    Compression("gzip", ".gz", b"\x1f\x8b", _open_gzip, _compress_gzip, is_native=True),
    Compression(
        "zstd",
        ".zst",
        b"\x28\xb5\x2f\xfd",
        _open_zstd,
        _compress_zstd,
        is_native=True,
        is_text=True,
    ),
)
