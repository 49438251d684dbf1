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
    paths = path_list([file.path for file in files])
    table = f"read_parquet({paths}, union_by_name = true, hive_partitioning = false)"
    names = list(database.types(table))
    cells = ", ".join(f"{identifier(name)} AS c{number}" for number, name in enumerate(names))
    last = "" if limit is None else f" LIMIT {limit}"
    database.run(f"CREATE TABLE input AS FROM {table} SELECT {cells}{last}")
    kinds = database.types("input")
    return [_column(database, name, cell, kind) for name, (cell, kind) in zip(names, kinds.items(), strict=True)]


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
