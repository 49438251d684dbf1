"""CSV and TSV into the snapshot: every cell as the text that it is, and for each column the type that all texts fit.

RFC 4180: a header, cells in double quotes where they hold separators, quotes or line ends. An empty cell is null, `""`
an empty text. The separator of a CSV file is a comma; if the header has none, a semicolon, tab or bar that it has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import chain
from typing import Final

from connector.errors import ConfigError
from connector.stores._columns import Column, literal, scalar
from connector.stores._database import Database, path_list
from connector.stores._formats import File
from connector.stores._shapes import check_names

_DAY: Final = "[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}"
_MINUTE: Final = "[ T][0-9]{{2}}:[0-9]{{2}}"
_SECOND: Final = ":[0-9]{{2}}([.][0-9]{{1,6}})?"
_ZONE: Final = "(Z|[+-][0-9]{{2}}(:[0-9]{{2}})?)"

_TYPES: Final = {
    # A type is taken only if it gives every text back: an identifier like 007 is no number, a long number stays whole.
    "BIGINT": "regexp_full_match({0}, '0|-?[1-9][0-9]{{0,17}}')",
    "DOUBLE": "CASE WHEN length({0}) <= 15 AND regexp_full_match({0}, '-?(0|[1-9][0-9]*)([.][0-9]+)?') THEN true"
    " ELSE coalesce(isfinite(TRY_CAST({0} AS DOUBLE)) AND CAST(TRY_CAST({0} AS DOUBLE) AS VARCHAR) = {0}, false) END",
    "BOOLEAN": "lower({0}) IN ('true', 'false')",
    "DATE": f"regexp_full_match({{0}}, '{_DAY}') AND TRY_CAST({{0}} AS DATE) IS NOT NULL",
    "TIMESTAMP": f"regexp_full_match({{0}}, '{_DAY}{_MINUTE}({_SECOND})?')"
    " AND TRY_CAST({0} AS TIMESTAMP) IS NOT NULL",
    "TIMESTAMP WITH TIME ZONE": f"regexp_full_match({{0}}, '{_DAY}{_MINUTE}{_SECOND}{_ZONE}')"
    " AND TRY_CAST({0} AS TIMESTAMP WITH TIME ZONE) IS NOT NULL",
}
"""What a text must be to have a type. The first type that all texts of a column have is the column's."""

_REASONS: Final = {
    r"Expected Number of Columns: (\d+) Found: (\d+)": "has {1} cells where the header has {0}. "
    "Put a cell that holds the separator in double quotes.",
    "unterminated quote": "has a quote that is not closed, or text behind a closing one. Double the quotes in a cell.",
    "[Ii]nvalid unicode|not utf-8": "is not UTF-8. Save the file as UTF-8.",
    "Maximum line size": "is too long (256 MB at most). Check that its quotes are closed.",
    "invalid state": "is not CSV (RFC 4180). Use one kind of line end, and quote the cells that hold others.",
}


def load(database: Database, files: Sequence[File], limit: int | None) -> list[Column]:
    """Read files into the table `input`, as one table: columns of one name are one column, absent ones null.

    Raises:
        ConfigError: two columns of a file have one name, or a file has no rows that can be told apart.
        duckdb.Error: a file is not CSV; `explain` tells how.
    """
    headers = [(file, *_header(database, file)) for file in files]
    names = list(dict.fromkeys(chain.from_iterable(header for *_, header in headers)))
    cells = {name: f"c{number}" for number, name in enumerate(names)}
    database.run(f"CREATE TABLE input ({', '.join(f'{cell} VARCHAR' for cell in cells.values()) or 'nothing INT'})")
    for file, separator, header in headers:
        left = None if limit is None else limit - database.count("input")
        if header and left != 0:
            _insert(database, file, separator, [cells[name] for name in header], left)
    return [
        _column(name, cells[name], kind)
        for name, kind in zip(names, _infer(database, list(cells.values())), strict=True)
    ]


def explain(text: str) -> str | None:
    """What DuckDB says about a CSV file, in words for its owner; `None` if it is about something else."""
    row = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"row {row[1]} (the header is row 1)" if row else "a row"
    for pattern, reason in _REASONS.items():
        if found := re.search(pattern, text):
            return f"{where} {reason.format(*found.groups())}"
    return f"{where} is not CSV (RFC 4180)." if row else None


def _header(database: Database, file: File) -> tuple[str, list[str]]:
    """The separator and the columns of a file; no columns if there is nothing in it."""
    if file.format == "tsv":
        return "\t", _first_row(database, file, "\t")
    candidates = {separator: _first_row(database, file, separator) for separator in ",;\t|"}
    separator = "," if len(candidates[","]) > 1 else max(candidates, key=lambda mark: len(candidates[mark]))
    return separator, candidates[separator]


def _first_row(database: Database, file: File, separator: str) -> list[str]:
    texts = (text or "" for (text,) in database.lines(file.path, file.compression))
    rows = csv.reader((text + "\n" for text in texts), delimiter=separator)
    try:
        header = next(rows, [])
        if not header and any(rows):
            raise ConfigError(
                f"{file.path}: the first line is empty. It has to be the header, with the columns' names."
            )
    except csv.Error as error:
        raise ConfigError(f"{file.path}: the first line is no header of a CSV file.", detail=str(error)) from error
    names = [name.strip() or f"column{number}" for number, name in enumerate(header)]
    check_names(names, str(file.path))
    return names


def _insert(database: Database, file: File, separator: str, cells: Sequence[str], limit: int | None) -> None:
    columns = ", ".join(f"{cell}: 'VARCHAR'" for cell in cells)
    database.run(
        lambda size: (
            f"INSERT INTO input ({', '.join(cells)}) FROM read_csv({path_list([file.path])}, header = true, "
            f"auto_detect = false, columns = {{{columns}}}, delim = {literal(separator)}, quote = '\"', escape = '\"', "
            f"allow_quoted_nulls = false, compression = '{file.compression}', "
            f"max_line_size = {size}, buffer_size = {size})" + ("" if limit is None else f" LIMIT {limit}")
        )
    )


def _infer(database: Database, cells: Sequence[str]) -> list[str]:
    """The type of each column: the first thousand rows rule most out, all rows decide."""
    candidates = {cell: list(_TYPES) for cell in cells}
    for rows, unseen in (("(FROM input LIMIT 1000)", "true"), ("input", "false")):
        tests = [(cell, kind) for cell, kinds in candidates.items() for kind in kinds]
        if not tests:
            break
        fits = ", ".join(
            f"coalesce(bool_and({_TYPES[kind].format(cell)}) FILTER (WHERE {cell} IS NOT NULL), {unseen})"
            for cell, kind in tests
        )
        (verdicts,) = database.run(f"FROM {rows} SELECT {fits}")
        candidates = {cell: [] for cell in cells}
        for (cell, kind), fit in zip(tests, verdicts, strict=True):
            if fit:
                candidates[cell].append(kind)
    return [next(iter(candidates[cell]), "VARCHAR") for cell in cells]


def _column(name: str, cell: str, kind: str) -> Column:
    exact = cell if kind == "VARCHAR" else f"CAST({cell} AS {kind})"
    plain, schema = scalar(exact, kind.lower())
    return Column(name, schema, exact, plain, text=cell, kind=kind)
