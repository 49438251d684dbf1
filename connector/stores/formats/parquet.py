"""Parquet: reading keeps the file's types; input columns are written with theirs, added ones with their schema's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Final, NamedTuple, cast

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import Part, Schema
from connector.stores import Sink, Source, columnar
from connector.stores.columnar.columns import (
    NESTED,
    DuckType,
    SnapshotColumn,
    SnapshotDatabase,
    Structure,
    has_decimals,
    identifier,
    json_value,
    orderable,
    settle,
    structure,
    with_numbers,
)
from connector.stores.columnar.scans import path_list
from connector.stores.formats import File, FileInput, FileOutput, Format
from connector.stores.staging.shapes import check_names

_WIDEST: Final = 38  # digits of a decimal
_GROUP_ROWS: Final = 20_480
_FEWEST_ROWS: Final = 2_048
_GROUP_BYTES: Final = 1 << 24


class Parquet(NamedTuple):
    """A `Format`."""

    name: str = "parquet"
    extensions: tuple[str, ...] = (".parquet",)
    reads_as: str = "parquet"
    is_compressible: bool = False  # its columns are compressed inside

    def source(self, given: FileInput) -> AbstractContextManager[Source]:
        """See `Format.source`."""
        return cast("AbstractContextManager[Source]", columnar.load("snapshot").opened(given))

    def load(self, database: SnapshotDatabase, files: Sequence[File], limit: int | None) -> list[SnapshotColumn]:
        """See `Format.load`."""
        known = _check(database, files)
        database.expect(len(known), ", ".join(str(file.path) for file in files))
        table = _together(database, files)
        names = list(database.types(table))  # DuckDB has renamed those that differ only in case
        cells = ", ".join(f"{identifier(name)} AS c{number}" for number, name in enumerate(names))
        last = "" if limit is None else f" LIMIT {limit}"
        database.run(f"CREATE TABLE input AS FROM {table} SELECT {cells}{last}")
        if len(files) > 1:
            database.parts.extend(_parts(database, files))
        types = database.types("input")
        real = known if len(files) == 1 else names
        return [_column(name, cell, type_) for name, (cell, type_) in zip(real, types.items(), strict=True)]

    def explain(self, text: str) -> str | None:  # noqa: ARG002 - DuckDB's words about Parquet are plain enough
        """See `Format.explain`."""
        return None

    def sink(
        self, output: FileOutput, added: Mapping[str, Schema], source: Source | None
    ) -> AbstractContextManager[Sink]:
        """See `Format.sink`."""
        writer = columnar.load("writer").ColumnarWriter(output, added, source, _Layout())
        return cast("AbstractContextManager[Sink]", writer)


FORMATS: Final[tuple[Format, ...]] = (Parquet(),)


class _Layout:
    """A `Layout` in which every column has a type: the declared one if the values fit it."""

    is_typed = True
    keeps_case = False

    def structure(self, name: str, declared: Schema, learned: Schema) -> Structure:  # noqa: ARG002 - the contract's
        """See `Layout.structure`."""
        return settle(structure(declared), structure(learned))

    def input_cell(self, column: SnapshotColumn) -> str:
        """See `Layout.input_cell`."""
        return column.exact

    def cells(self, name: str, structure: Structure, sql: str) -> dict[str, str]:  # noqa: ARG002 - the contract's
        """See `Layout.cells`."""
        return {name: sql}

    def options(self, compression: str, level: int, size: int, *, is_headed: bool) -> str:  # noqa: ARG002 - columns have names
        """See `Layout.options`."""
        # A row group is held in memory: the larger the rows are, the fewer go into one.
        rows = min(max(_FEWEST_ROWS, _GROUP_ROWS >> level), max(1, _GROUP_BYTES // max(1, size)))
        return f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows}"


def _together(database: SnapshotDatabase, files: Sequence[File]) -> str:
    """Returns SQL for all files as one table. A column that is JSON in one file becomes JSON in all."""
    table = _scan(files)
    nested = [name for name, kind in database.types(table).items() if str(kind) == "JSON"]
    if len(files) == 1 or not nested:
        return table
    parts = []
    for file in files:
        kinds = database.types(_scan([file]))
        others = [identifier(name) for name in nested if name in kinds and str(kinds[name]) != "JSON"]
        replaced = f" REPLACE ({', '.join(f'to_json({name}) AS {name}' for name in others)})" if others else ""
        parts.append(f"FROM {_scan([file])} SELECT *{replaced}")
    return f"({' UNION ALL BY NAME '.join(parts)})"


def _parts(database: SnapshotDatabase, files: Sequence[File]) -> Iterator[Part]:
    """Yields which rows come from which file. The number of rows is read from each file's footer."""
    first = 0
    for file in files:
        yield Part(str(file.path), first, set(database.types(_scan([file]))))
        first += database.count(_scan([file]))


def _scan(files: Sequence[File]) -> str:
    return f"read_parquet({path_list([file.path for file in files])}, union_by_name = true, hive_partitioning = false)"


def _column(name: str, cell: str, type_: DuckType) -> SnapshotColumn:
    if str(type_) == "JSON":
        return SnapshotColumn(name, {}, cell, cell, text=f"CAST({cell} AS VARCHAR)", parse=numbers.loads)
    json, schema = json_value(cell, type_)
    text = f"CAST({f'to_json({json})' if type_.id in NESTED else json} AS VARCHAR)"
    parse = with_numbers if has_decimals(type_) else None
    return SnapshotColumn(name, schema, cell, json, text, cursor_type=orderable(type_), parse=parse)


def _check(database: SnapshotDatabase, files: Sequence[File]) -> list[str]:
    """Returns the names of all columns, and refuses what DuckDB would silently change.

    It renames columns that differ only in case, and truncates wide decimals. Top-level columns of a single file may
    differ only in case: they are told apart by position.

    Raises:
        ConfigError: A file has such a column.
    """
    columns: dict[str, None] = {}
    for file in files:
        rows = iter(
            database.run(
                f"FROM parquet_schema({path_list([file.path])}) "
                "SELECT name, coalesce(num_children, 0), CAST(coalesce(precision, 0) AS INT)"
            )
        )
        names = _checked(rows, str(file.path), next(rows, ("", 0, 0))[1], keeps_case=True)
        columns |= dict.fromkeys(names)
    check_names(columns, ", ".join(str(file.path) for file in files), keeps_case=len(files) == 1)
    return list(columns)


def _checked(rows: Iterator[tuple[Any, ...]], where: str, children: int, *, keeps_case: bool = False) -> list[str]:
    """Returns the names of a group's fields, `children` in number, after checking all that is nested in them."""
    names: list[str] = []
    for name, inner, precision in islice(rows, children):
        if precision > _WIDEST:
            raise ConfigError(
                f'{where}: the column "{name}" holds decimals of {precision} digits, more than the {_WIDEST} that can '
                "be read: write them as texts"
            )
        names.append(name)
        _checked(rows, f'{where}: the column "{name}"', inner)
    check_names(names, where, keeps_case=keeps_case)
    return names
