"""Zstandard, which DuckDB reads and writes line by line; Python 3.11 cannot."""

from __future__ import annotations

import re
from collections.abc import Generator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

import duckdb

from connector.stores.columnar.columns import literal
from connector.stores.columnar.database import Database
from connector.stores.columnar.scans import line_scan
from connector.stores.staging.compression import BrokenCompressionError, UnreadableTextError
from connector.stores.staging.encodings import Chunks
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.private_directory import private_directory

_LONGEST: Final = 1 << 25
"""Most bytes of a line: DuckDB must know before it reads, and nothing else can look into the file."""

_AS_LINES: Final = "FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE ''"
"""The whole line is one cell, and is written as it is."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
_RUN_LENGTH: Final = 1


def opened(path: Path) -> BinaryIO:
    """Opens a compressed text file to read its bytes, with a line feed at the end of each line.

    Raises:
        BrokenCompressionError: It is not a zstd file, or its end is missing.
        OSError: It cannot be opened, or read later.
    """
    _check(path)
    return BufferedReader(Chunks(_chunks(path)), BUFFER)


def compress(path: Path, output: Path) -> None:
    """Compresses a file of lines.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("rb") as file:
        longest = max(map(len, file), default=0)
    with Database(output.parent) as database:
        try:
            database.run(f"COPY ({line_scan(path, longest)}) TO {literal(str(output))} ({_AS_LINES}, COMPRESSION zstd)")
        except duckdb.Error as error:
            raise OSError(str(error)) from error


def _chunks(path: Path) -> Generator[bytes, None, None]:
    with private_directory() as directory, Database(directory) as database:
        try:
            for batch in database.stream(lambda start: f"{line_scan(path, _LONGEST, 'zstd')} OFFSET {start}"):
                yield "".join(f"{line or ''}\n" for (line,) in batch).encode()
        except duckdb.Error as error:
            raise _plainly(error) from error


def _plainly(error: duckdb.Error) -> OSError:
    text = str(error)
    number = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"line {number[1]}" if number else "a line"
    if "Maximum line size" in text:
        return UnreadableTextError(f"{where} is too long for a .zst file (32 MB at most): decompress it first")
    if "unicode" in text or "utf-8" in text:
        return UnreadableTextError(f"{where} is not UTF-8: decompress the file, and save it as UTF-8")
    return OSError(text)


def _check(path: Path) -> None:
    """Walks the frames and blocks of a file to its end (RFC 8878, 3.1), since DuckDB ignores a missing end."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:

        def number(count: int) -> int:
            nonlocal place
            data = file.read(count)
            place += count
            if len(data) < count:
                raise BrokenCompressionError("the end of the file is missing")
            return int.from_bytes(data, "little")

        while place < size:
            magic = number(4).to_bytes(4, "little")
            if magic[1:] == _SKIPPABLE and magic[0] >> 4 == 5:  # noqa: PLR2004 - 0x184D2A5?
                content = number(4)
                place += content
            elif magic == _MAGIC:
                descriptor = number(1)
                is_single = descriptor >> 5 & 1
                sized = (is_single, 2, 4, 8)[descriptor >> 6]
                number((0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3] + sized)
                is_last = 0
                while not is_last:
                    block = number(3)
                    is_last = block & 1
                    place += 1 if block >> 1 & 3 == _RUN_LENGTH else block >> 3
                    file.seek(place)
                place += 4 * (descriptor >> 2 & 1)
            else:
                raise BrokenCompressionError("this is not zstd")
            file.seek(place)
    if place > size:
        raise BrokenCompressionError("the end of the file is missing")
