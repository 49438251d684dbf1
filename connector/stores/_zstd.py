"""Zstandard, which DuckDB writes: Python 3.11 does not."""

from __future__ import annotations

from pathlib import Path

import duckdb

from connector.stores._columns import literal
from connector.stores._database import Database
from connector.stores._scans import lines

_PLAIN = "FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE ''"
"""Each line is its one cell, and goes out as it is."""


def compress(path: Path, output: Path) -> None:
    """Compresses a file of lines.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("rb") as file:
        longest = max(map(len, file), default=0)
    with Database(output.parent) as database:
        try:
            database.run(f"COPY ({lines(path, longest)}) TO {literal(str(output))} ({_PLAIN}, COMPRESSION zstd)")
        except duckdb.Error as error:
            raise OSError(str(error)) from error
