"""JSON into the snapshot: an object a line (`.jsonl`, `.ndjson`), or an array of objects.

Texts stay texts, also those that look like dates. Objects and lists are kept as the JSON that they are.
"""

from __future__ import annotations

import gzip
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import orjson

from connector.records import Schema
from connector.stores._columns import Column, literal, scalar, settle, structure
from connector.stores._database import Database, lines, path_list
from connector.stores._formats import File
from connector.stores._shapes import Shape, check_names
from connector.stores._spool import Spool, decode

_LONGEST: Final = 1 << 24
"""Bytes of an item of an array, or of a line in a .zst file, at the most."""


def load(database: Database, files: Sequence[File], limit: int | None) -> list[Column]:
    """Read files into the table `input`; a key that only some objects have is null in the others.

    Raises:
        ConfigError: a line is not a JSON object, or keys cannot be columns; it says which and where.
    """
    shape = Shape.of_table()
    spooled = database.directory / "input.jsonl"
    with Spool(spooled, shape) as spool:
        for index, row in enumerate(islice(chain.from_iterable(objects(database, file) for file in files), limit)):
            spool.write(index, row)
        spool.flush()
    columns = shape.columns
    check_names(columns, ", ".join(str(file.path) for file in files))
    database.run(_create(spooled, spool.longest, columns))
    spooled.unlink()
    return [_column(name, f"c{number}", schema) for number, (name, schema) in enumerate(columns.items())]


def objects(database: Database, file: File) -> Iterator[dict[str, Any]]:
    """The objects in a file, one by one.

    Raises:
        ConfigError: something in it is none; it says where.
    """
    for where, text in _texts(database, file):
        yield decode(text, f"{file.path}, {where}")


def _texts(database: Database, file: File) -> Iterator[tuple[str, bytes | str]]:
    """The JSON texts of a file and where they stand."""
    empty = True
    for number, line in enumerate(_lines(database, file), 1):
        if not (text := line.strip()):
            continue
        if empty and text[:1] in (b"[", "["):
            yield from _items(database, file)
            return
        empty = False
        yield f"line {number}", text


def _lines(database: Database, file: File) -> Iterator[bytes | str]:
    if file.compression == "zstd":
        batches = database.stream(lambda start: f"{lines(file.path, _LONGEST, file.compression)} OFFSET {start}")
        yield from (line or "" for (line,) in chain.from_iterable(batches))
        return
    with gzip.open(file.path) if file.compression == "gzip" else file.path.open("rb") as stream:
        yield next(stream, b"").removeprefix(BOM_UTF8)
        yield from stream


def _items(database: Database, file: File) -> Iterator[tuple[str, str]]:
    """The items of an array, which DuckDB takes apart without holding all of it."""
    rows = database.stream(
        lambda start: (
            f"FROM read_json_objects({path_list([file.path])}, format = 'array', "
            f"compression = '{file.compression}', maximum_object_size = {_LONGEST}) OFFSET {start}"
        )
    )
    yield from ((f"item {number}", text) for number, (text,) in enumerate(chain.from_iterable(rows), 1))


def _create(spooled: Path, longest: int, columns: Mapping[str, Schema]) -> str:
    """The statement that makes the table: scalars typed, the rest as JSON."""
    kinds = {name: _kind(schema) for name, schema in columns.items()}
    cells = ", ".join(f"struct_extract(v, {literal(name)}) AS c{number}" for number, name in enumerate(columns))
    v = f"from_json(line, {literal(orjson.dumps(kinds).decode())})" if kinds else "line"
    return f"CREATE TABLE input AS FROM ({lines(spooled, longest)} SELECT {v} AS v) SELECT {cells or 'v AS nothing'}"


def _kind(schema: Schema) -> str:
    kind = settle(structure(schema), None)
    return kind if isinstance(kind, str) else "JSON"


def _column(name: str, cell: str, schema: Schema) -> Column:
    kind = _kind(schema)
    if kind != "JSON":
        plain, nullable = scalar(cell, kind.lower())
        return Column(name, nullable, cell, plain, text=f"CAST({plain} AS VARCHAR)", kind=kind)
    nested = structure(schema)
    exact = cell if nested == "JSON" else f"from_json({cell}, {literal(orjson.dumps(settle(nested, None)).decode())})"
    return Column(name, schema, exact, cell, text=f"{cell} ->> '$'", parse=True)
