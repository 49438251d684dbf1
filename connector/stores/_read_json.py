"""JSON into the snapshot: an object a line (`.jsonl`, `.ndjson`), or an array of objects.

Texts stay texts, also those that look like dates. Objects and lists are kept as the JSON that they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final

import orjson

from connector.base.records import Schema
from connector.stores._columns import Column, literal, scalar, settle, structure
from connector.stores._database import Database
from connector.stores._formats import File
from connector.stores._json_lines import Copy, copied, is_lines, objects
from connector.stores._scans import lines, path_list
from connector.stores.staging.spool import decode

_LONGEST: Final = 1 << 24
"""Bytes of an item of an array, or of a line in a .zst file, at the most."""


def load(database: Database, files: Sequence[File], limit: int | None) -> list[Column]:
    """Read files into the table `input`; a key that only some objects have is null in the others.

    Raises:
        ConfigError: a line is not a JSON object, or keys cannot be columns; it says which and where.
    """
    rows = chain.from_iterable(_objects(database, file) for file in files)
    copy = copied(islice(rows, limit), database.directory / "input.jsonl", files)
    database.run(_create(copy))
    copy.path.unlink()
    return [_column(name, f"c{number}", schema) for number, (name, schema) in enumerate(copy.columns.items())]


def _objects(database: Database, file: File) -> Iterator[dict[str, Any]]:
    """The objects in a file, one by one; DuckDB takes apart what Python would have to hold as a whole."""
    if is_lines(file):
        yield from objects(file)
        return
    what = "line" if file.compression == "zstd" and _first(database, file)[:1] != "[" else "item"
    texts = _lines(database, file) if what == "line" else _items(database, file)
    for number, text in enumerate(map(str.strip, texts), 1):
        if text:
            yield decode(text, f"{file.path}, {what}", number)


def _first(database: Database, file: File) -> str:
    """The first line with anything in it."""
    return next(filter(None, map(str.strip, _lines(database, file))), "")


def _lines(database: Database, file: File) -> Iterator[str]:
    batches = database.stream(lambda start: f"{lines(file.path, _LONGEST, file.compression)} OFFSET {start}")
    yield from (line or "" for (line,) in chain.from_iterable(batches))


def _items(database: Database, file: File) -> Iterator[str]:
    """The items of an array."""
    rows = database.stream(
        lambda start: (
            f"FROM read_json_objects({path_list([file.path])}, format = 'array', "
            f"compression = '{file.compression}', maximum_object_size = {_LONGEST}) OFFSET {start}"
        )
    )
    yield from (text for (text,) in chain.from_iterable(rows))


def _create(copy: Copy) -> str:
    """The statement that makes the table: scalars typed, the rest as JSON."""
    kinds = {name: _kind(schema) for name, schema in copy.columns.items()}
    cells = ", ".join(f"struct_extract(v, {literal(name)}) AS c{number}" for number, name in enumerate(kinds))
    v = f"from_json(line, {literal(orjson.dumps(kinds).decode())})" if kinds else "line"
    rows = f"{lines(copy.path, copy.longest)} SELECT {v} AS v"
    return f"CREATE TABLE input AS FROM ({rows}) SELECT {cells or 'v AS nothing'}"


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
