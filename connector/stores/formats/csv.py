"""CSV and TSV (RFC 4180): a header, and cells in double quotes if they hold separators, quotes or line ends.

Every cell is read as text, and text it stays, byte for byte; a column has the first type that all of its texts fit. An
empty cell is null, `""` an empty text. The separator is the one with which all rows have as many cells as the header,
or that of a first line like `sep=;`, which spreadsheets write and read.

Columns from a CSV input are written with their original text. With `csv_safe`, spreadsheets take no cell for a formula,
as OWASP advises ("CSV Injection", ASVS 1.2.10): a cell that begins like one gets a single quote in front. Spreadsheets
then show it as text; every other reader gets the quote. Numbers keep their sign and get no quote.
"""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import Final, NamedTuple, cast

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.lines import MOST
from connector.base.numbers import Truth
from connector.base.records import GROUP, JSON, Part, Schema
from connector.base.regex import regex
from connector.stores import DEAD_LETTER, Sink, Source, columnar
from connector.stores.columnar.columns import SnapshotColumn, SnapshotDatabase, Structure, literal, scalar
from connector.stores.columnar.scans import csv_options, path_list
from connector.stores.formats import File, FileInput, FileOutput, Format, about
from connector.stores.staging.compression import native
from connector.stores.staging.encodings import ADVICE
from connector.stores.staging.shapes import check_names

_CHUNK: Final = 1 << 20

_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MINUTE: Final = "[0-9]{2}:[0-9]{2}"
_SECOND: Final = f"{_MINUTE}:[0-9]{{2}}([.][0-9]{{1,6}})?"
_INTEGER: Final = "0|-?[1-9][0-9]*"
_DECIMAL: Final = "-?(0|[1-9][0-9]*)[.]"


class _Kind(NamedTuple):
    """A type that a column can have: DuckDB's `name` for it, and what all of the column's texts must be.

    Each text must fully match `pattern`, a regular expression for both Python and DuckDB; `test` is SQL that aggregates
    over all texts `v`. `parse` converts a text into the value of a record; without it, integers are DuckDB's, and all
    else stays text. `is_iso`: the texts are valid ISO 8601, so that the schema may say so.
    """

    name: str
    pattern: re.Pattern[str]
    test: str = "true"
    parse: Callable[[str], JSON] | None = None
    is_iso: bool = True


def _truth(text: str) -> JSON:
    return True if text == "true" else False if text == "false" else Truth(text)


def _all(pattern: str) -> str:
    return f"bool_and(regexp_full_match(v, {literal(pattern)}))"


def _is(name: str) -> str:
    return f"bool_and(TRY_CAST(v AS {name}) IS NOT NULL)"


_SHORT: Final = "bool_and(length(v) <= 16 OR coalesce(CAST(TRY_CAST(v AS DOUBLE) AS VARCHAR) = v, false))"
_SCALE: Final = "length(v) - instr(v, '.')"
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_KINDS: Final = (
    # A type is chosen only if every text can be restored from it: 007 is not a number, and 1.1 is not 1.10. So decimals
    # have no trailing zeros, or only the .0 of a whole number, or all the same number of digits.
    _Kind("BIGINT", regex("0|-?[1-9][0-9]{0,18}"), _is("BIGINT")),
    _Kind("DOUBLE", regex(f"{_INTEGER}|{_DECIMAL}[0-9]*[1-9]"), _SHORT, numbers.written),
    _Kind("DOUBLE", regex(f"{_DECIMAL}([0-9]*[1-9]|0)"), _SHORT, numbers.written),
    _Kind("DOUBLE", regex(f"{_DECIMAL}[0-9]+"), f"{_SHORT} AND min({_SCALE}) = max({_SCALE})", numbers.written),
    _Kind("BOOLEAN", regex("(?i)true|false"), parse=_truth),
    _Kind("DATE", regex(_DAY), _is("DATE")),
    _Kind("TIMESTAMP", regex(f"{_DAY}T{_SECOND}"), _is("TIMESTAMP")),
    _Kind("TIMESTAMP", regex(f"{_DAY}[ T]({_MINUTE}|{_SECOND})"), _is("TIMESTAMP"), is_iso=False),
    _Kind(_ZONED, regex(f"{_DAY}T{_SECOND}(Z|[+-]{_MINUTE})"), _is(_ZONED)),
    _Kind(_ZONED, regex(f"{_DAY}[ T]{_SECOND}(Z|[+-][0-9]{{2}}(:[0-9]{{2}})?)"), _is(_ZONED), is_iso=False),
)
"""A column has the first of these that all of its texts fit. Each costs a pass over the texts, so each is cheap."""

_SAMPLE: Final = 20_000
"""Cells of a first sample, which rules most types out."""

_TYPED: Final = 100  # characters: no longer text has a type

_LINE_ENDS: Final = "use one kind of line end, and quote the cells that hold others"
_ESCAPED: Final = {"\r": "\\r", "\n": "\\n"}
_NOT_UTF8: Final = f"is not UTF-8: {ADVICE}"
_REASONS: Final = {
    r"Expected Number of Columns: (\d+) Found: (\d+)": "has {1} cells, and the header has {0}: put a cell that holds "
    "the separator in double quotes",
    "unterminated quote": "has a quote that is not closed, or text after a closing one: double the quotes in a cell",
    "[Ii]nvalid unicode|not utf-8": _NOT_UTF8,
    "invalid state": f"is not CSV (RFC 4180): {_LINE_ENDS}",
}

_HINT: Final = regex(r'"?sep=([^"\r\n]) *"?(?:\r\n|\n|\r|\Z)', re.IGNORECASE)
"""The line with which spreadsheets declare the separator."""

_LINE_END: Final = regex(r"\r\n|\n|\r")
_FIRST_ROW: Final = regex(r'(?:[^"\r\n]++|"[^"]*+")*+(\r\n|\n|\r)')

_SHOWN: Final = {"\t": "tab"}

_GROUPS: Final = (GROUP, DEAD_LETTER)
"""The added columns that become several, one per property: `_llm_status`, `_llm_model`, and so on."""

_FULL_WIDTH: Final = "\uff1d\uff0b\uff0d\uff20"  # = + - @, which East Asian spreadsheets accept, too
_FORMULA: Final = rf"[=+\-@\t\r\n\x00{_FULL_WIDTH}]"
_NUMBER: Final = r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)"


class Csv(NamedTuple):
    """A `Format`. A file may have any of the `separators`; the first is used for writing."""

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
        database.expect(len(names), ", ".join(str(file.path) for file in files))
        database.run(f"CREATE TABLE input ({', '.join(f'{cell} VARCHAR' for cell in cells.values()) or 'nothing INT'})")
        for sheet in sheets:
            left = None if limit is None else limit - database.count("input")
            if len(sheets) > 1:
                database.parts.append(Part(str(sheet.file.path), database.count("input"), set(sheet.names)))
            if sheet.names and left != 0:
                _insert(database, sheet, [cells[name] for name in sheet.names], left)
        return list(_typed(database, cells))

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
        layout = _Layout(output.file.delimiter or self.separators[0], added, is_safe=output.csv_safe)
        writer = columnar.load("writer").ColumnarWriter(output, added, source, layout)
        return cast("AbstractContextManager[Sink]", writer)


FORMATS: Final[tuple[Format, ...]] = (Csv("csv", (".csv",), ",;\t|"), Csv("tsv", (".tsv",), "\t"))


class _Layout(NamedTuple):
    """A `Layout` in which every cell is text."""

    separator: str
    added: Mapping[str, Schema]
    is_safe: bool
    is_typed: bool = False
    keeps_case: bool = True

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

    def options(self, compression: str, level: int, size: int, *, is_headed: bool) -> str:  # noqa: ARG002 - no groups
        """See `Layout.options`."""
        delimiter, head = literal(self.separator), str(not is_headed)
        return f"FORMAT csv, HEADER {head}, DELIMITER {delimiter}, QUOTE '\"', ESCAPE '\"', COMPRESSION {compression}"


def safe_name(name: str) -> str:
    """Returns a column's name, with a quote in front if it begins like a formula: the header is a row of cells, too."""
    return f"'{name}" if re.match(_FORMULA, name) and not re.fullmatch(_NUMBER, name) else name


def _safe_cell(sql: str) -> str:
    """Returns SQL for a cell, with a quote in front if it begins like a formula."""
    cell = f"CAST({sql} AS VARCHAR)"
    starts, number = literal(f"^{_FORMULA}"), literal(_NUMBER)
    is_formula = f"regexp_matches({cell}, {starts}) AND NOT regexp_full_match({cell}, {number})"
    return f"CASE WHEN {is_formula} THEN '''' || {cell} ELSE {cell} END"


class _Sheet(NamedTuple):
    """A file, its separator, its columns, an upper bound of its longest row in bytes, and the lines before its header.

    `line_end` is empty unless DuckDB would mistake one inside the header for it; `has_rows`: something follows the
    header.
    """

    file: File
    separator: str
    names: list[str]
    longest: int
    skipped: int
    line_end: str
    has_rows: bool


def _sheet(file: File, separators: str) -> _Sheet:
    with about(file):
        head, is_whole = _head(file)
        hint = _HINT.match(head)
        head = head[hint.end() :] if hint else head
        separator = file.delimiter or (hint[1] if hint else _separator(file, head, separators, is_whole=is_whole))
        names = _header(file, head, separator)
        longest = _survey(file, separator, len(names))
    first = _FIRST_ROW.match(head)
    ended, line_end, has_rows = (first[0], first[1], bool(head[first.end() :].strip())) if first else (head, "", False)
    odd = _LINE_END.search(ended)
    return _Sheet(
        file,
        separator,
        names,
        longest,
        skipped=1 if hint else 0,
        line_end="" if odd is None or odd[0] == line_end else line_end,
        has_rows=has_rows,
    )


def _separator(file: File, head: str, separators: str, *, is_whole: bool) -> str:
    """Returns the separator with which all rows have as many cells as the header, and more than one.

    Raises:
        ConfigError: Several separators do that, or several split the header and none of them does that.
    """
    several = [each for each in separators if _cells(head, each) > 1]
    if len(several) < 2:  # noqa: PLR2004 - one is not a choice
        return (several or [separators[0]])[0]
    found = [each for each in several if _agree(head, each, is_whole=is_whole)]
    if len(found) == 1:
        return found[0]
    choice = ", ".join(f'"{_SHOWN.get(each, each)}"' for each in found or several)
    why = "all rows agree with each of them" if found else "the rows agree with none of them"
    raise ConfigError(
        f"{file.path}: its cells may be separated by {choice}, and {why}: choose one, with --csv-delimiter or "
        "`delimiter` in the input"
    )


def _cells(head: str, separator: str) -> int:
    """Returns how many cells the header has; 0 if it is not one."""
    try:
        return len(next(csv.reader(io.StringIO(head, newline=""), delimiter=separator), []))
    except csv.Error:
        return 0


def _agree(head: str, separator: str, *, is_whole: bool) -> bool:
    """Returns whether all rows have as many cells as the header."""
    try:
        sizes = [len(row) for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row]
    except csv.Error:
        return False
    return len(set(sizes if is_whole else sizes[:-1])) <= 1


def _chunks(file: File) -> Iterator[bytes]:
    """Yields the decompressed bytes of a file in chunks of 1 MiB."""
    with file.compression.open(file.path) as stream:
        yield stream.read(_CHUNK).removeprefix(BOM_UTF8)
        while chunk := stream.read(_CHUNK):
            yield chunk


def _head(file: File) -> tuple[str, bool]:
    """Returns the first MiB of a file, which holds its header, and whether that is the whole file."""
    head, *rest = (*islice(_chunks(file), 2), b"")
    try:
        return getincrementaldecoder("utf-8")().decode(head), not any(rest)
    except UnicodeDecodeError as error:
        line = 1 + head.count(b"\n", 0, error.start)
        raise ConfigError(f"{file.path}: line {line} {_NOT_UTF8}", detail=error.reason) from error


def _header(file: File, head: str, separator: str) -> list[str]:
    """Returns the names of the columns; empty if the file is."""
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
    check_names(names, str(file.path), keeps_case=True)
    return names


def _survey(file: File, separator: str, columns: int) -> int:
    """Returns an upper bound of the longest row in bytes; without it, DuckDB leaves rows out silently.

    A quote opens a cell only at its beginning, and a quote right after a closing one is part of the text.

    Raises:
        ConfigError: The file ends inside a row, which DuckDB may leave out, or a row is longer than `MOST` bytes.
    """
    mark = separator.encode()
    longest = start = place = separators = 0
    quoted, opens, ends = False, True, (mark, b"\n")
    for chunk in _chunks(file):
        begins = place
        for number, part in enumerate(chunk.replace(b"\r", b"\n").split(b'"')):
            if number:
                place += 1
                quoted, opens = opens and not quoted, quoted or opens
            if part and not quoted:
                end = part.rfind(b"\n") + 1
                if end:
                    if start < begins:
                        longest = max(longest, place + part.find(b"\n") - start)
                    start, separators = place + end, 0
                separators += part.count(mark, end)
                opens = part.endswith(ends) or (
                    part.endswith(b" ") and part.rstrip(b" ")[-1:] in (*ends, b"" if opens else mark)
                )
            place += len(part)
    if quoted:
        raise ConfigError(f"{file.path}: line {_line(file, start)} {_REASONS['unterminated quote']}")
    if start < place and separators + 1 < columns:
        reason = f"ends after {separators + 1} of {columns} cells: the end of the file is missing: copy it again"
        raise ConfigError(f"{file.path}: line {_line(file, start)} {reason}")
    if max(longest, place - start) > MOST:
        raise ConfigError(f"{file.path}: a row has more than {MOST >> 20} MiB: write smaller rows, or close its quotes")
    return max(longest, place - start, _CHUNK)  # a row inside a single chunk has not been measured


def _line(file: File, place: int) -> int:
    """Returns the number of the line, from 1, that a byte is in."""
    number = 1
    for chunk in _chunks(file):
        if place <= 0:
            break
        number += chunk[:place].count(b"\n") or chunk[:place].count(b"\r")
        place -= len(chunk)
    return number


def _insert(database: SnapshotDatabase, sheet: _Sheet, cells: Sequence[str], limit: int | None) -> None:
    with about(sheet.file):
        path, compression = native(sheet.file.path, sheet.file.compression, database.directory)
        columns = ", ".join(f"{cell}: 'VARCHAR'" for cell in cells)
        ends = "".join(_ESCAPED[each] for each in sheet.line_end)
        before = database.count("input")
        database.run(
            f"INSERT INTO input ({', '.join(cells)}) FROM read_csv({path_list([path])}, header = true, "
            f"columns = {{{columns}}}, delim = {literal(sheet.separator)}, quote = '\"', escape = '\"', "
            f"allow_quoted_nulls = false, skip = {sheet.skipped}, "
            + (f"new_line = '{ends}', " if ends else "")
            + f"{csv_options(sheet.longest, compression)})"
            + ("" if limit is None else f" LIMIT {limit}")
        )
    if sheet.has_rows and limit != 0 and database.count("input") == before:
        raise ConfigError(f"{sheet.file.path}: it is unclear where its rows end: {_LINE_ENDS}")


def _typed(database: SnapshotDatabase, cells: Mapping[str, str]) -> Iterator[SnapshotColumn]:
    """Yields the columns of `cells` (the cell of each column by its name), typed by all of their texts."""
    columns, kinds = list(cells.values()), dict[str, _Kind]()
    starts = ", ".join(f"left({cell}, {_TYPED})" for cell in columns)  # the rest of a longer text is tested below
    rows = database.run(f"FROM input SELECT {starts or 1} LIMIT {_SAMPLE // max(len(columns), 1) + 1}")
    samples = {cell: set(texts) - {None} for cell, texts in zip(columns, zip(*rows, strict=True), strict=False)}
    for kind in _KINDS:
        open_ = [cell for cell in columns if cell not in kinds]
        likely = [cell for cell in open_ if all(map(kind.pattern.fullmatch, samples.get(cell, ())))]
        fitting = _fitting(database, likely, f"{_all(kind.pattern.pattern)} AND {kind.test}")
        kinds |= dict.fromkeys(fitting, kind)
    for name, cell in cells.items():
        yield _column(name, cell, kinds.get(cell))


def _fitting(database: SnapshotDatabase, cells: Sequence[str], test: str) -> list[str]:
    """Returns the cells that have texts, all of which pass a test. One query for all, however many there are."""
    if not cells:
        return []
    places = ", ".join(map(str, range(len(cells))))
    texts = f"FROM input SELECT unnest([{', '.join(cells)}]) AS v, unnest([{places}]) AS place"
    verdicts = database.run(f"FROM ({texts}) SELECT place WHERE v IS NOT NULL GROUP BY place HAVING {test}")
    return [cells[place] for (place,) in verdicts]


def _column(name: str, cell: str, kind: _Kind | None) -> SnapshotColumn:
    if kind is None:
        return SnapshotColumn(name, {"type": ["null", "string"]}, cell, cell, text=cell, cursor_type="VARCHAR")
    exact = f"CAST({cell} AS {kind.name})"
    _, schema = scalar(exact, kind.name.lower())
    if not kind.is_iso:
        schema = {"type": schema["type"]}
    json = exact if kind.name == "BIGINT" else cell
    return SnapshotColumn(name, schema, exact, json, text=cell, cursor_type=kind.name, parse=kind.parse)
