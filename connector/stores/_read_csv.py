"""CSV and TSV into the snapshot: every cell as the text that it is, and for each column the type that all texts fit.

RFC 4180: a header, cells in double quotes where they hold separators, quotes or line ends. An empty cell is null, `""`
an empty text. The separator of a CSV file is a comma; if the header has none, a semicolon, tab or bar that it has.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from connector.base.errors import ConfigError
from connector.stores._columns import Column, literal, scalar
from connector.stores._database import Database
from connector.stores._formats import File
from connector.stores._scans import csv_options, lines, path_list
from connector.stores.staging.shapes import check_names

_CHUNK: Final = 1 << 20
_LONGEST_ZST: Final = 1 << 25
"""Nothing but DuckDB can look into these files before they are read."""

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

_NOT_UTF8: Final = "is not UTF-8. Save the file as UTF-8."
_REASONS: Final = {
    r"Expected Number of Columns: (\d+) Found: (\d+)": "has another number of cells ({1}) than the header ({0}). "
    "Put a cell that holds the separator in double quotes.",
    "unterminated quote": "has a quote that is not closed, or text behind a closing one. Double the quotes in a cell.",
    "[Ii]nvalid unicode|not utf-8": _NOT_UTF8,
    "Maximum line size": "is too long for a .zst file (32 MB at most). Decompress it first.",
    "invalid state": "is not CSV (RFC 4180). Use one kind of line end, and quote the cells that hold others.",
}


class _Sheet(NamedTuple):
    """A file, what separates its cells, the names of its columns, and the bytes of its longest row."""

    file: File
    separator: str
    names: list[str]
    longest: int


def load(database: Database, files: Sequence[File], limit: int | None) -> list[Column]:
    """Read files into the table `input`, as one table: columns of one name are one column, absent ones null.

    Raises:
        ConfigError: the columns of a file cannot be told apart.
        duckdb.Error: a file is not CSV; `explain` tells how.
    """
    sheets = [_sheet(database, file) for file in files]
    names = list(dict.fromkeys(chain.from_iterable(sheet.names for sheet in sheets)))
    cells = {name: f"c{number}" for number, name in enumerate(names)}
    database.run(f"CREATE TABLE input ({', '.join(f'{cell} VARCHAR' for cell in cells.values()) or 'nothing INT'})")
    for sheet in sheets:
        left = None if limit is None else limit - database.count("input")
        if sheet.names and left != 0:
            _insert(database, sheet, [cells[name] for name in sheet.names], left)
    kinds = _infer(database, list(cells.values()))
    return [_column(name, cells[name], kind) for name, kind in zip(names, kinds, strict=True)]


def explain(text: str) -> str | None:
    """What DuckDB says about a CSV file, in words for its owner; `None` if it is about something else."""
    row = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"row {row[1]} (the header is row 1)" if row else "a row"
    for pattern, reason in _REASONS.items():
        if found := re.search(pattern, text):
            return f"{where} {reason.format(*found.groups())}"
    return f"{where} is not CSV (RFC 4180)." if row else None


def _sheet(database: Database, file: File) -> _Sheet:
    head = _head(database, file)
    separators = "\t" if file.format == "tsv" else ",;\t|"
    headers = {separator: _header(file, head, separator) for separator in separators}
    separator = max(headers, key=lambda mark: (len(headers[mark]) > 1, -separators.index(mark)))
    return _Sheet(file, separator, headers[separator], _survey(database, file, separator, len(headers[separator])))


def _chunks(database: Database, file: File) -> Iterator[bytes]:
    """The bytes of a file, some at a time."""
    if file.compression == "zstd":
        for batch in database.stream(lambda start: f"{lines(file.path, _LONGEST_ZST, 'zstd')} OFFSET {start}"):
            yield from (f"{line or ''}\n".encode() for (line,) in batch)
        return
    with gzip.open(file.path) if file.compression == "gzip" else file.path.open("rb") as stream:
        yield stream.read(_CHUNK).removeprefix(BOM_UTF8)
        while chunk := stream.read(_CHUNK):
            yield chunk


def _head(database: Database, file: File) -> str:
    """The beginning of a file, far enough to hold its header."""
    head = bytearray()
    for chunk in _chunks(database, file):
        head += chunk
        if len(head) >= _CHUNK:
            break
    try:
        return getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        line = 1 + head.count(b"\n", 0, error.start)
        raise ConfigError(f"{file.path}: line {line} {_NOT_UTF8}", detail=error.reason) from error


def _header(file: File, head: str, separator: str) -> list[str]:
    """The names of the columns; none if there is nothing in the file."""
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
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


def _survey(database: Database, file: File, separator: str, columns: int) -> int:
    """How many bytes the longest row has, at the most; DuckDB has to know, or it leaves rows out without a word.

    A quote opens a cell where the cell begins, and a quote right behind one that closes is part of the text.

    Raises:
        ConfigError: the file ends within a row. DuckDB may leave such a row out as well.
    """
    mark = separator.encode()
    longest = start = place = separators = 0
    quoted, opens = False, True
    for chunk in _chunks(database, file):
        for number, part in enumerate(chunk.replace(b"\r", b"\n").split(b'"')):
            if number:
                place += 1
                quoted, opens = opens and not quoted, quoted or opens
            if part and not quoted:
                end = part.rfind(b"\n") + 1
                if end:
                    longest = max(longest, place + part.find(b"\n") - start)
                    start, separators = place + end, 0
                separators += part.count(mark, end)
                opens = part.rstrip(b" ")[-1:] in (mark, b"\n", b"" if opens else mark)
            place += len(part)
    if quoted:
        raise ConfigError(f"{file.path}: line {_line(database, file, start)} {_REASONS['unterminated quote']}")
    if start < place and separators + 1 < columns:
        reason = f"ends after {separators + 1} of {columns} cells. The end of the file is missing."
        raise ConfigError(f"{file.path}: line {_line(database, file, start)} {reason}")
    return max(longest, place - start, _CHUNK)  # a row that lies within one chunk has not been measured


def _line(database: Database, file: File, place: int) -> int:
    """The number of the line in which a byte stands, from 1."""
    number = 1
    for chunk in _chunks(database, file):
        if place <= 0:
            break
        number += chunk[:place].count(b"\n") or chunk[:place].count(b"\r")
        place -= len(chunk)
    return number


def _insert(database: Database, sheet: _Sheet, cells: Sequence[str], limit: int | None) -> None:
    columns = ", ".join(f"{cell}: 'VARCHAR'" for cell in cells)
    database.run(
        f"INSERT INTO input ({', '.join(cells)}) FROM read_csv({path_list([sheet.file.path])}, header = true, "
        f"columns = {{{columns}}}, delim = {literal(sheet.separator)}, quote = '\"', escape = '\"', "
        f"allow_quoted_nulls = false, {csv_options(sheet.longest, sheet.file.compression)})"
        + ("" if limit is None else f" LIMIT {limit}")
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
