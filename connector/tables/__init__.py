"""Tables that Python code passes in and gets back enriched. One module per format: dicts, Arrow, Spark.

Arrow needs pyarrow, which this package does not depend on: `arrow` is imported only for Arrow tables, and `spark`,
which needs pyspark, only for Spark data frames. The libraries for optional results (`_into`: a data frame; `progress`:
a bar) are imported only when these are asked for.

Files and databases belong in `stores`, not here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from typing import Any, Final, Literal, Protocol, cast

from connector.base.errors import ConfigError
from connector.base.records import Idle, Outcome, Record, Result, Schema

Library = Literal["arrow", "duckdb", "pandas", "polars", "same"]
"""The libraries whose tables `enrich` can return; `same` is that of the table passed in."""

_STREAM: Final = "__arrow_c_stream__"
_ARRAY: Final = "__arrow_c_array__"


class ArrowStream(Protocol):
    """A table that exports a stream of record batches through Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Exports the stream."""


class ArrowArray(Protocol):
    """A record batch that exports itself through the same interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Exports schema and columns."""


class SparkFrame(Protocol):
    """A Spark data frame, known by the method that only these have."""

    def mapInArrow(self, func: Any, schema: Any, barrier: bool = False) -> Any:  # noqa: N802 - Spark's
        """Maps the partitions."""


class OpenTable(Protocol):
    """A table that is open for reading."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of its columns; `None` if not known before reading."""
        ...

    def records(self) -> Iterator[Record | Idle]:
        """Yields the rows as they are needed, numbered from 0; and `IDLE` for each pause, if the table can pause."""
        ...

    def fitting(self, added: Mapping[str, Schema]) -> Callable[[Outcome], Outcome]:
        """Returns a function that makes an outcome fit the table's columns; `added` has the schemas of the new ones."""
        ...

    def enriched(self, results: Iterator[Result], added: Mapping[str, Schema]) -> Iterator[Any]:
        """Yields the fitted results, which come in input order, in the format of the input."""
        ...

    def close(self) -> None:
        """Releases the rows."""
        ...


def open_table(rows: ArrowStream | ArrowArray | Iterable[Any], keep_as: str = "") -> OpenTable:
    """Opens rows in whatever format they have, judged by the first of them; see `kept_as` for `keep_as`.

    Rows with a method `open_table(keep_as)` open themselves.

    Raises:
        ConfigError: They are Arrow's and pyarrow is not installed, or they are not a table.
    """
    if hasattr(rows, "open_table"):
        opened: OpenTable = rows.open_table(keep_as)
        return opened
    if hasattr(rows, _STREAM) or hasattr(rows, _ARRAY):
        return _load_format("arrow").open_table(rows, keep_as)
    items = iter(rows)
    first = list(islice(items, 1))
    is_arrow = any(hasattr(item, _STREAM) or hasattr(item, _ARRAY) for item in first)
    return _load_format("arrow" if is_arrow else "dicts").open_table(chain(first, items), keep_as)


_WANTED: Final = 'pass a list of dicts, such as [{"review": "…"}], a data frame, or an Arrow table'


def require_rows(rows: object) -> None:
    """Refuses what looks like a table but is not one.

    Raises:
        ConfigError: It is a single row, a path or another text, or something without rows.
    """
    if isinstance(rows, Mapping):
        raise ConfigError(f"rows: a dict is one row, or columns without rows: {_WANTED}")
    if isinstance(rows, str | bytes | os.PathLike):
        raise ConfigError(f"rows: this is {_kind(rows)}, not a table: read the file first, then {_WANTED}")
    if hasattr(rows, "collect") and hasattr(rows, "lazy"):
        raise ConfigError(f"rows: a {type(rows).__name__} has no rows yet: pass what its collect() returns")
    if not (isinstance(rows, Iterable) or any(hasattr(rows, name) for name in (_STREAM, _ARRAY, "open_table"))):
        raise ConfigError(f"rows: this is {_kind(rows)}, not a table: {_WANTED}")


def length(rows: Any) -> int | None:
    """Returns how many rows there are; `None` if that is costly to find out."""
    if isinstance(known := getattr(rows, "num_rows", None), int):
        return known
    if isinstance(rows, list | tuple):
        parts = [length(each) if hasattr(each, _STREAM) or hasattr(each, _ARRAY) else 1 for each in rows]
        return None if None in parts else sum(cast("list[int]", parts))
    is_frame = type(rows).__module__.partition(".")[0] in ("pandas", "polars")
    return len(rows) if is_frame else None  # DuckDB would run the query


def into(library: Library, pieces: Iterator[Any], rows: object) -> Any:
    """Returns the `pieces` that `enrich` yields for `rows` as a table of a library.

    Raises:
        ConfigError: There is no such library, or it is not installed.
    """
    made: Any = import_module(f"{__name__}._into")
    return made.converter(made.library_of(rows) if library == "same" else library)(pieces)


def is_spark(rows: object) -> bool:
    """Returns whether rows are a Spark data frame."""
    return hasattr(rows, "mapInArrow")


def load_spark() -> Any:
    """Returns the module for Spark data frames.

    Raises:
        ConfigError: A library that it needs is not installed.
    """
    try:
        return import_module(f"{__name__}.spark")
    except ImportError as error:
        wanted = "run pip install 'openai-compatible-connector[spark]'"
        raise ConfigError(f"Spark data frames need {error.name}: {wanted}", detail=str(error)) from error


class TableFormat(Protocol):
    """What each module of a format offers."""

    def open_table(self, rows: Any, keep_as: str) -> OpenTable:
        """Opens rows of this format; renames the provenance of an earlier run to `keep_as`, unless that is empty."""
        ...


def _load_format(name: str) -> TableFormat:
    try:
        return cast("TableFormat", import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise ConfigError(f"Arrow tables need {error.name}: run pip install {error.name}", detail=str(error)) from error


def _kind(rows: object) -> str:
    return "None" if rows is None else f"of type {type(rows).__name__}"
