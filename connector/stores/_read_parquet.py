"""Parquet into the snapshot: the types are the file's."""

from __future__ import annotations

from collections.abc import Sequence

from connector.stores._columns import Column, DuckType, decimal, identifier, orderable, plain
from connector.stores._database import Database
from connector.stores._formats import File
from connector.stores._scans import path_list


def load(database: Database, files: Sequence[File], limit: int | None) -> list[Column]:
    """Read files into the table `input`, as one table: columns of one name are one column, absent ones null.

    Raises:
        duckdb.Error: a file is not Parquet.
    """
    table = _together(database, files)
    names = list(database.types(table))
    cells = ", ".join(f"{identifier(name)} AS c{number}" for number, name in enumerate(names))
    last = "" if limit is None else f" LIMIT {limit}"
    database.run(f"CREATE TABLE input AS FROM {table} SELECT {cells}{last}")
    kinds = database.types("input")
    return [_column(database, name, cell, kind) for name, (cell, kind) in zip(names, kinds.items(), strict=True)]


def _together(database: Database, files: Sequence[File]) -> str:
    """All files as one table. A column that is JSON in one of them is so in all: in the others its values become it."""
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


def _scan(files: Sequence[File]) -> str:
    return f"read_parquet({path_list([file.path for file in files])}, union_by_name = true, hive_partitioning = false)"


def _column(database: Database, name: str, cell: str, kind: DuckType) -> Column:
    if str(kind) == "JSON":
        return Column(name, {}, cell, cell, text=f"CAST({cell} AS VARCHAR)", parse=True)
    if kind.id == "decimal":
        sql, schema = _decimal(database, cell, **{part: int(size) for part, size in kind.children})
    else:
        sql, schema = plain(cell, kind)
    nested = kind.id in ("list", "array", "struct", "map")
    text = f"CAST({f'to_json({sql})' if nested else sql} AS VARCHAR)"
    return Column(name, schema, cell, sql, text, kind=orderable(kind))


def _decimal(database: Database, cell: str, *, precision: int, scale: int) -> tuple[str, dict[str, object]]:
    """A wide decimal, such as every number of some warehouses, is a number if all values in it fit one."""
    if scale == 0:
        fit = f"{cell} BETWEEN -9223372036854775808 AND 9223372036854775807"
    else:
        fit = f"TRY_CAST(CAST({cell} AS DOUBLE) AS DECIMAL({precision}, {scale})) IS NOT DISTINCT FROM {cell}"
    ((fits,),) = database.run(f"FROM input SELECT coalesce(bool_and({fit}), true)")
    return decimal(cell, precision=precision, scale=scale, fits=bool(fits))
