"""SQL with which DuckDB reads text files without guessing their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Final

from connector.stores.columnar.columns import Structure, literal, sql_type

LINES: Final = 1 << 24
"""Bytes of memory that a scan of lines takes, however few there are."""

OBJECTS: Final = 48 << 20
"""The same for a scan of objects."""

_SHORTEST: Final = 1 << 21
"""Bytes of the buffer for a file with short lines."""


def path_list(paths: Sequence[Path]) -> str:
    """Returns files as an SQL list, in which a name that looks like a glob still means that one file."""
    return f"[{', '.join(literal(escape(str(path))) for path in paths)}]"


def csv_options(longest: int, compression: str = "uncompressed") -> str:
    """Returns the options of `read_csv` that keep DuckDB from guessing.

    The buffer must hold the `longest` row (in bytes), or DuckDB silently loses or truncates it. The parallel reader
    must be off, even with one thread: it takes line breaks inside quotes for the ends of rows.
    """
    size = max(longest + 2, _SHORTEST)
    return (
        f"auto_detect = false, parallel = false, compression = '{compression}', "
        f"max_line_size = {size}, buffer_size = {size}"
    )


def json_scan(path: Path, longest: int, columns: Mapping[str, Structure]) -> str:
    """Returns a query for these columns of JSON lines; the longest has `longest` bytes.

    It holds few rows at a time if they are large, and takes `OBJECTS` if they are small. A value of another type is
    null.
    """
    types = ", ".join(f"{literal(name)}: {literal(sql_type(structure))}" for name, structure in columns.items())
    return (
        f"FROM read_json({path_list([path])}, format = 'newline_delimited', columns = {{{types}}}, "
        f"maximum_object_size = {longest + 2}, compression = 'uncompressed', ignore_errors = true)"
    )


def line_scan(path: Path, longest: int, compression: str = "uncompressed") -> str:
    """Returns a query for the lines of a text file, with `line` as its only column; the longest has `longest` bytes."""
    return (
        # Without separator and quote, the whole line is one cell.
        f"FROM read_csv({path_list([path])}, columns = {{line: 'VARCHAR'}}, header = false, delim = '\x01', "
        f"quote = '', escape = '', strict_mode = false, {csv_options(longest, compression)})"
    )
