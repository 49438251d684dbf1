"""Zstandard, which DuckDB writes: Python 3.11 does not."""

from __future__ import annotations

from pathlib import Path

import duckdb

from connector.stores._columns import literal
from connector.stores._database import Database
from connector.stores._scans import lines


def compressed(path: Path, longest: int, directory: Path) -> Path:
    """Compresses a file of lines, of which the longest has so many bytes, into another one in `directory`.

    Raises:
        OSError: It cannot be written.
    """
    output = directory / "output.zst"
    plain = "FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE ''"  # each line is its one cell, as it is
    with Database(directory) as database:
        try:
            database.run(f"COPY ({lines(path, longest)}) TO {literal(str(output))} ({plain}, COMPRESSION zstd)")
        except duckdb.Error as error:
            raise OSError(str(error)) from error
    return output
