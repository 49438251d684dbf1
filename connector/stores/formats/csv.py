"""CSV and TSV (RFC 4180): a header, and cells in double quotes if they hold separators, quotes or line ends.

Reading takes every cell as the text that it is; a column has the first type that all of its texts fit. An empty cell is
null, `""` an empty text. The separator of a CSV file is a comma; if the header has none, a semicolon, tab or bar.

Writing gives input columns from CSV their very texts. With `csv_safe`, spreadsheets take no cell for a formula, as
OWASP advises ("CSV Injection", ASVS 1.2.10): a cell that begins like one gets a single quote in front. Spreadsheets
then show a text; every other reader gets the quote. Numbers keep their sign and get no quote.
"""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, cast

from connector.base.errors import ConfigError
from connector.base.records import GROUP, Schema
from connector.stores import DEAD_LETTER, Sink, Source, columnar
from connector.stores.columnar.columns import SnapshotColumn, SnapshotDatabase, Structure, literal, scalar
from connector.stores.columnar.scans import csv_options, path_list
from connector.stores.formats import File, FileInput, FileOutput, Format
from connector.stores.staging.compression import native
from connector.stores.staging.shapes import check_names

_CHUNK: Final = 1 << 20

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

_NOT_UTF8: Final = "is not UTF-8: save the file as UTF-8"
_REASONS: Final = {
    r"Expected Number of Columns: (\d+) Found: (\d+)": "has another number of cells ({1}) than the header ({0}): "
    "put a cell that holds the separator in double quotes",
    "unterminated quote": "has a quote that is not closed, or text after a closing one: double the quotes in a cell",
    "[Ii]nvalid unicode|not utf-8": _NOT_UTF8,
    "invalid state": "is not CSV (RFC 4180): use one kind of line end, and quote the cells that hold others",
}

_GROUPS: Final = (GROUP, DEAD_LETTER)
"""The added columns that become several, one for each property: `_llm_status`, `_llm_model`, and so on."""

_FULL_WIDTH: Final = "\uff1d\uff0b\uff0d\uff20"  # = + - @, which East Asian spreadsheets take, too
_FORMULA: Final = rf"[=+\-@\t\r\n\x00{_FULL_WIDTH}]"
_NUMBER: Final = r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)"


@dataclass(frozen=True)
class Csv:
    """A `Format`. The separator is the first of `separators` that the header has; the first of all is written."""

    name: str
    extensions: tuple[str, ...]
    separators: str
    is_compressible: bool = True

    @property
    def reads_as(self) -> str:
        """See `Format.reads_as`."""
        return self.name

    def source(self, given: FileInput) -> AbstractContextManager[Source]:
        """See `Format.source`."""
        return cast("AbstractContextManager[Source]", columnar.load("snapshot").opened(given))

    def load(self, database: SnapshotDatabase, files: Sequence[File], limit: int | None) -> list[SnapshotColumn]:
        """See `Format.load`."""
        sheets = [_sheet(file, self.separators) for file in files]
        names = list(dict.fromkeys(chain.from_iterable(sheet.names for sheet in sheets)))
        cells = {name: f"c{number}" for number, name in enumerate(names)}
        database.run(f"CREATE TABLE input ({', '.join(f'{cell} VARCHAR' for cell in cells.values()) or 'nothing INT'})")
        for sheet in sheets:
            left = None if limit is None else limit - database.count("input")
            if sheet.names and left != 0:
                _insert(database, sheet, [cells[name] for name in sheet.names], left)
        types = _infer(database, list(cells.values()))
        return [_column(name, cells[name], type_) for name, type_ in zip(names, types, strict=True)]

    def explain(self, text: str) -> str | None:
        """See `Format.explain`."""
        row = re.search(r"CSV Error on Line: (\d+)", text)
        where = f"row {row[1]} (the header is row 1)" if row else "a row"
        for pattern, reason in _REASONS.items():
            if found := re.search(pattern, text):
                return f"{where} {reason.format(*found.groups())}"
        return f"{where} is not CSV (RFC 4180): check it" if row else None

    def sink(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None
    ) -> AbstractContextManager[Sink]:
        """See `Format.sink`."""
        layout = _Layout(self.separators[0], added, is_safe=output.csv_safe)
        writer = columnar.load("writer").ColumnarWriter(output, added, source, layout)
        return cast("AbstractContextManager[Sink]", writer)


FORMATS: Final[tuple[Format, ...]] = (Csv("csv", (".csv",), ",;\t|"), Csv("tsv", (".tsv",), "\t"))


@dataclass(frozen=True)
class _Layout:
    """A `Layout`: every cell is a text."""

    separator: str
    added: Mapping[str, Schema]
    is_safe: bool
    is_typed: bool = False

    def structure(self, name: str, declared: Schema, learned: Schema) -> Structure:  # noqa: ARG002 - texts need no types
        """See `Layout.structure`."""
        parts = declared.get("properties", {}) if name in _GROUPS and name in self.added else {}
        return dict.fromkeys(parts, "VARCHAR") or "VARCHAR"

    def input_cell(self, column: SnapshotColumn) -> str:
        """See `Layout.input_cell`."""
        return column.text

    def cells(self, name: str, structure: Structure, sql: str) -> dict[str, str]:
        """See `Layout.cells`."""
        cells = {name: sql}
        if isinstance(structure, dict):
            cells = {f"{name}_{part}": f"struct_extract({sql}, {literal(part)})" for part in structure}
        return {safe_name(each): _safe_cell(cell) for each, cell in cells.items()} if self.is_safe else cells

    def options(self, compression: str, level: int) -> str:  # noqa: ARG002 - rows are written one by one
        """See `Layout.options`."""
        delimiter = literal(self.separator)
        return f"FORMAT csv, HEADER, DELIMITER {delimiter}, QUOTE '\"', ESCAPE '\"', COMPRESSION {compression}"


def safe_name(name: str) -> str:
    """Returns a column's name with a quote in front if it begins like a formula: the header is a row of cells, too."""
    return f"'{name}" if re.match(_FORMULA, name) and not re.fullmatch(_NUMBER, name) else name


def _safe_cell(sql: str) -> str:
    """Returns the SQL of a cell with a quote in front if it begins like a formula."""
    cell = f"CAST({sql} AS VARCHAR)"
    starts, number = literal(f"^{_FORMULA}"), literal(_NUMBER)
    is_formula = f"regexp_matches({cell}, {starts}) AND NOT regexp_full_match({cell}, {number})"
    return f"CASE WHEN {is_formula} THEN '''' || {cell} ELSE {cell} END"


class _Sheet(NamedTuple):
    """A file, the separator of its cells, the names of its columns, and the bytes of its longest row at most."""

    file: File
    separator: str
    names: list[str]
    longest: int


def _sheet(file: File, separators: str) -> _Sheet:
    head = _head(file)
    headers = {separator: _header(file, head, separator) for separator in separators}
    separator = max(headers, key=lambda mark: (len(headers[mark]) > 1, -separators.index(mark)))
    return _Sheet(file, separator, headers[separator], _survey(file, separator, len(headers[separator])))


def _chunks(file: File) -> Iterator[bytes]:
    """Yields the decompressed bytes of a file in chunks of 1 MiB."""
    with file.compression.open(file.path) as stream:
        yield stream.read(_CHUNK).removeprefix(BOM_UTF8)
        while chunk := stream.read(_CHUNK):
            yield chunk


def _head(file: File) -> str:
    """Returns the beginning of a file, which holds its header."""
    head = next(_chunks(file), b"")
    try:
        return getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        line = 1 + head.count(b"\n", 0, error.start)
        raise ConfigError(f"{file.path}: line {line} {_NOT_UTF8}", detail=error.reason) from error


def _header(file: File, head: str, separator: str) -> list[str]:
    """Returns the names of the columns; there are none if the file is empty."""
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
    try:
        header = next(rows, [])
        if not header and any(rows):
            raise ConfigError(f"{file.path}: the first line is empty: write the names of the columns there")
    except csv.Error as error:
        raise ConfigError(
            f"{file.path}: the first line is not the header of a CSV file: write the names of the columns there",
            detail=str(error),
        ) from error
    names = [name.strip() or f"column{number}" for number, name in enumerate(header)]
    check_names(names, str(file.path))
    return names


def _survey(file: File, separator: str, columns: int) -> int:
    """Returns how many bytes the longest row has at most; DuckDB has to know, or it leaves rows out silently.

    A quote opens a cell where the cell begins, and a quote right after a closing one is part of the text.

    Raises:
        ConfigError: The file ends within a row. DuckDB may leave such a row out, too.
    """
    mark = separator.encode()
    longest = start = place = separators = 0
    quoted, opens = False, True
    for chunk in _chunks(file):
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
        raise ConfigError(f"{file.path}: line {_line(file, start)} {_REASONS['unterminated quote']}")
    if start < place and separators + 1 < columns:
        reason = f"ends after {separators + 1} of {columns} cells: the end of the file is missing: copy it again"
        raise ConfigError(f"{file.path}: line {_line(file, start)} {reason}")
    return max(longest, place - start, _CHUNK)  # a row that lies within one chunk has not been measured


def _line(file: File, place: int) -> int:
    """Returns the number of the line, from 1, in which a byte stands."""
    number = 1
    for chunk in _chunks(file):
        if place <= 0:
            break
        number += chunk[:place].count(b"\n") or chunk[:place].count(b"\r")
        place -= len(chunk)
    return number


def _insert(database: SnapshotDatabase, sheet: _Sheet, cells: Sequence[str], limit: int | None) -> None:
    path, compression = native(sheet.file.path, sheet.file.compression, database.directory)
    columns = ", ".join(f"{cell}: 'VARCHAR'" for cell in cells)
    database.run(
        f"INSERT INTO input ({', '.join(cells)}) FROM read_csv({path_list([path])}, header = true, "
        f"columns = {{{columns}}}, delim = {literal(sheet.separator)}, quote = '\"', escape = '\"', "
        f"allow_quoted_nulls = false, {csv_options(sheet.longest, compression)})"
        + ("" if limit is None else f" LIMIT {limit}")
    )


def _infer(database: SnapshotDatabase, cells: Sequence[str]) -> list[str]:
    """Returns the type of each column: the first thousand rows rule most types out, all rows decide."""
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


def _column(name: str, cell: str, type_: str) -> SnapshotColumn:
    exact = cell if type_ == "VARCHAR" else f"CAST({cell} AS {type_})"
    json, schema = scalar(exact, type_.lower())
    return SnapshotColumn(name, schema, exact, json, text=cell, cursor_type=type_)
