"""The CSV, TSV or Parquet that a run writes: rows come in any order, and DuckDB writes them in theirs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import duckdb
import orjson

from connector.base.records import GROUP, JSON, Record, Schema
from connector.stores import DEAD_LETTER, Source
from connector.stores._columns import Structure, identifier, literal, settle, structure
from connector.stores._database import Database, Statement
from connector.stores._formats import File, Output
from connector.stores._formula import safe_cell, safe_name
from connector.stores._scans import lines
from connector.stores._snapshot import Snapshot
from connector.stores.staging.publish import publish, writing
from connector.stores.staging.shapes import Shape, check_names
from connector.stores.staging.spool import Spool

GROUPS: Final = (GROUP, DEAD_LETTER)
"""The columns that become several in CSV: `_llm_status`, `_llm_model`, and so on."""

_GROUP_ROWS: Final = 20_480
_FEWEST_ROWS: Final = 2_048

_LEFT_OUT: Final = b"null\n"
_FLAT: Final = ("csv", "tsv")
_DATES: Final = {"timestamp_without_timezone": "TIMESTAMP", "timestamp_with_timezone": "TIMESTAMP WITH TIME ZONE"}


class Table:
    """A `Sink` for one file.

    Beside a `Snapshot` only the added columns wait here; at the end they are put beside its rows, position by position,
    so no join and no sort has to hold them. From any other source the rows come whole.
    """

    def __init__(self, output: Output, added: Mapping[str, Schema], source: Source | None) -> None:
        self._target, self._directory, self._place, csv_safe = output
        self._csv_safe = csv_safe and self._target.format in _FLAT
        self._added = added
        self._snapshot = source if isinstance(source, Snapshot) else None
        self._inputs = dict(source.columns) if source else {}
        check_names([*self._inputs, *(name for name in added if name not in self._inputs)], str(self._place))
        self._known = self._snapshot is not None or bool(self._inputs)
        self._shape = Shape.of_table() if self._target.format == "parquet" or not self._known else None
        self._spool = Spool(
            self._directory / "rows.jsonl",
            self._shape,
            columns_of=None if self._known else self._place,
            gap=_LEFT_OUT if self._snapshot else b"",
        )
        self._stack = ExitStack()
        self._stack.callback(self._spool.close)
        self._database = (
            self._snapshot.database if self._snapshot else self._stack.enter_context(Database(self._directory))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """As `Sink.write` says."""
        row = added if added is None or self._snapshot else {**record.data, **added}
        self._spool.write(record.index, row)

    def flush(self) -> None:
        """Nothing to hand on: a file is there as a whole or not at all."""

    def commit(self) -> None:
        """As `Sink.commit` says."""
        rows, output = self._spool.finish(), self._directory / "output"
        with writing(self._place, duckdb.Error):
            try:
                self._database.run(self._copy(rows, output, dates=True))
            except duckdb.ConversionException:
                # What a database calls a timestamp need not be one.
                self._database.run(self._copy(rows, output, dates=False))
            publish(output, self._target.path)

    def _copy(self, rows: Path, output: Path, *, dates: bool) -> Statement:
        """The statement that writes the file."""
        kinds = self._kinds()
        v = f"from_json(line, {literal(orjson.dumps(kinds).decode())})" if kinds else "NULL"
        columns = self._cells(kinds, dates=dates) or {"nothing": "NULL"}
        if self._csv_safe:
            columns = {safe_name(name): safe_cell(sql) for name, sql in columns.items()}
        cells = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
        beside = "input POSITIONAL JOIN " if self._snapshot else ""
        waiting = f"({lines(rows, self._spool.longest)} SELECT line, {v} AS v)"
        return lambda level: (
            f"COPY (FROM {beside}{waiting} SELECT {cells} WHERE line <> 'null') "
            f"TO {literal(str(output))} ({_options(self._target, level)})"
        )

    def _kinds(self) -> dict[str, Structure]:
        """How to read the columns that have been waiting: with types for Parquet, else as the JSON that they are."""
        names = list(self._added if self._snapshot else {**self._inputs, **self._added})
        if not self._known and self._shape:
            names = [*(name for name in self._spool.names() if name not in self._added), *self._added]
        if self._target.format == "parquet":
            declared = {**self._inputs, **self._added}
            learned = self._shape.columns if self._shape else {}
            return {name: settle(structure(declared.get(name, {})), structure(learned.get(name, {}))) for name in names}
        parts = {name: dict.fromkeys(self._added.get(name, {}).get("properties", {}), "VARCHAR") for name in GROUPS}
        return {name: parts.get(name) or "VARCHAR" for name in names}

    def _cells(self, kinds: Mapping[str, Structure], *, dates: bool) -> dict[str, str]:
        """The columns of the file and the SQL that gives their values."""
        cells: dict[str, str] = {}
        for field in self._snapshot.fields if self._snapshot else ():
            cells[field.name] = field.exact if self._target.format == "parquet" else field.text
        for name, kind in kinds.items():
            cell = f"struct_extract(v, {literal(name)})"
            if isinstance(kind, dict) and self._target.format in _FLAT:
                cells |= {f"{name}_{part}": f"struct_extract({cell}, {literal(part)})" for part in kind}
            elif (
                dates and kind == "VARCHAR" and name not in self._added and (date := _date(self._inputs.get(name, {})))
            ):
                cells[name] = f"CAST({cell} AS {date})"
            else:
                cells[name] = cell
        return cells


def _date(schema: Schema) -> str | None:
    if schema.get("format") == "date":
        return "DATE"
    return _DATES.get(schema.get("airbyte_type", ""))


def _options(target: File, level: int) -> str:
    if target.format == "parquet":
        # A row group is held in memory: the wider the rows turn out to be, the fewer it gets.
        rows = max(_FEWEST_ROWS, _GROUP_ROWS >> level)
        return f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows}"
    separator = literal("\t" if target.format == "tsv" else ",")
    return f"FORMAT csv, HEADER, DELIMITER {separator}, QUOTE '\"', ESCAPE '\"', COMPRESSION {target.compression}"
