"""Converts what `enrich` yields, record batches or dicts, into tables of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from typing import Any, Final

from connector.base.errors import ConfigError


def to_arrow(pieces: Iterator[Any]) -> Any:
    """Returns a record batch reader, which takes batches as they are needed; dicts are all read first."""
    pa: Any = import_module("pyarrow")
    first = next(pieces, None)
    if isinstance(first, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(first.schema, chain([first], pieces))
    return pa.Table.from_pylist([] if first is None else [first, *pieces]).to_reader()


def to_pandas(pieces: Iterator[Any]) -> Any:
    """Returns a data frame, with the index of the data frame that was passed in."""
    pd: Any = import_module("pandas")
    first = next(pieces, None)
    if isinstance(first, dict):
        return pd.DataFrame([first, *pieces])
    return pd.DataFrame() if first is None else to_arrow(chain([first], pieces)).read_pandas()


def to_polars(pieces: Iterator[Any]) -> Any:
    """Returns a data frame."""
    pl: Any = import_module("polars")
    first = next(pieces, None)
    if isinstance(first, dict):
        return pl.DataFrame([first, *pieces], infer_schema_length=None)
    return pl.DataFrame() if first is None else pl.from_arrow(to_arrow(chain([first], pieces)).read_all())


def to_duckdb(pieces: Iterator[Any]) -> Any:
    """Returns a relation over all rows. DuckDB reads in its own threads, so all rows are made before.

    Raises:
        ConfigError: There are no rows, and they were to be dicts: no column is known, and a DuckDB table needs one.
    """
    duckdb: Any = import_module("duckdb")
    table = to_arrow(pieces).read_all()
    if not table.num_columns:
        raise ConfigError(
            'into="duckdb": there are no rows, so their columns are not known: pass a table of Arrow instead'
        )
    return duckdb.from_arrow(table)


LIBRARIES: Final[Mapping[str, Callable[[Iterator[Any]], Any]]] = {
    "arrow": to_arrow,
    "duckdb": to_duckdb,
    "pandas": to_pandas,
    "polars": to_polars,
}
"""The function that makes a table of each library."""

_MODULES: Final = {"pyarrow": "arrow", "duckdb": "duckdb", "_duckdb": "duckdb", "pandas": "pandas", "polars": "polars"}


def library_of(rows: object) -> str:
    """Returns the name of the library that a table belongs to.

    Raises:
        ConfigError: It is not one of `LIBRARIES`.
    """
    module = type(rows).__module__.partition(".")[0]
    if module not in _MODULES:
        raise ConfigError(
            f'into: "same" needs a table of {_NAMES}, and this is a {type(rows).__name__}: name one of them'
        )
    return _MODULES[module]


def converter(name: str) -> Callable[[Iterator[Any]], Any]:
    """Returns the function that makes a table of a library.

    Raises:
        ConfigError: The library is not one of `LIBRARIES`, or is not installed.
    """
    if name not in LIBRARIES:
        raise ConfigError(f'into: there is no "{name}": use one of {_NAMES}, "same"')
    for needed in _NEEDED.get(name, (name,)):
        try:
            import_module(needed)
        except ModuleNotFoundError as error:
            raise ConfigError(f'into="{name}" needs {needed}: run pip install {needed}', detail=str(error)) from error
    return LIBRARIES[name]


_NEEDED: Final = {"arrow": ("pyarrow",), "duckdb": ("duckdb", "pyarrow")}
_NAMES: Final = ", ".join(f'"{name}"' for name in LIBRARIES)
