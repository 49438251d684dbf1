"""Converts what `enrich` yields, record batches or dicts, into tables of other libraries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from itertools import chain
from typing import Any, Final

from connector.base.decoding import joined
from connector.base.errors import ConfigError
from connector.base.values import is_null, key_text, text

_LOG: Final = logging.getLogger(__name__)

_Rows = list[dict[Any, Any]]


def to_arrow(pieces: Iterator[Any]) -> Any:
    """Returns a record batch reader, which takes batches as they are needed; dicts are all read first."""
    pa: Any = import_module("pyarrow")
    first = next(pieces, None)
    if isinstance(first, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(first.schema, chain([first], pieces))

    def made(rows: _Rows) -> Any:
        return pa.Table.from_pylist([dict.fromkeys(_names(rows)) | rows[0], *rows[1:]])  # the first has its columns

    return pa.table({}).to_reader() if first is None else _fitting([first, *pieces], made).to_reader()


def to_pandas(pieces: Iterator[Any]) -> Any:
    """Returns a data frame, with the index of the data frame that was passed in."""
    pd: Any = import_module("pandas")
    first = next(pieces, None)
    if isinstance(first, dict):
        return _fitting([first, *pieces], pd.DataFrame)
    return pd.DataFrame() if first is None else _taken(chain([first], pieces), lambda table: table.to_pandas())


def to_polars(pieces: Iterator[Any]) -> Any:
    """Returns a data frame."""
    pl: Any = import_module("polars")
    first = next(pieces, None)

    def made(values: Any) -> Any:
        try:
            return pl.DataFrame(values, infer_schema_length=None)
        except pl.exceptions.PanicException as error:  # which is not an `Exception`
            raise NotImplementedError from error

    if isinstance(first, dict):
        return _fitting([first, *pieces], made)
    return pl.DataFrame() if first is None else _taken(chain([first], pieces), made)


def to_duckdb(pieces: Iterator[Any]) -> Any:
    """Returns a relation over all rows. DuckDB reads in its own threads, so all rows are made before.

    Raises:
        ConfigError: There are no rows, and they were to be dicts: no column is known, and a DuckDB table needs one.
    """
    duckdb: Any = import_module("duckdb")

    def made(table: Any) -> Any:
        if not table.num_columns:
            raise ConfigError(
                'into="duckdb": there are no rows, so their columns are not known: pass a table of Arrow instead'
            )
        return duckdb.from_arrow(table)

    return _taken(pieces, made)


def _taken(pieces: Iterator[Any], made: Callable[[Any], Any]) -> Any:
    """Returns what `made` makes of record batches or dicts; a column of a type that the library lacks becomes text."""
    table = to_arrow(pieces).read_all()
    try:
        return made(table)
    except Exception:  # noqa: BLE001 - each library has errors of its own for what it cannot hold
        refused = [at for at in range(table.num_columns) if not _is_made(made, table.select([at]))]
    pa: Any = import_module("pyarrow")
    values: Any = import_module("connector.tables._arrow_values")
    for at in refused:
        chunks = [[*map(_text, values.values_of(chunk))] for chunk in table.column(at).chunks]
        table = table.set_column(at, table.column_names[at], pa.chunked_array(chunks, pa.string()))
    _warn([table.column_names[at] for at in refused])
    return made(table)


def _fitting(rows: _Rows, made: Callable[[_Rows], Any]) -> Any:
    """Returns what `made` makes of dicts; a column whose values the library refuses becomes text.

    Python's lists hold what no column does: a number in one row, a list in the next.
    """
    try:
        return made(rows)
    except Exception:  # noqa: BLE001 - each library has errors of its own for what it cannot hold
        refused = [name for name in _names(rows) if not _is_made(made, [{_name(name): row.get(name)} for row in rows])]
    _warn([*map(_name, refused)])
    return made([{_name(key): _text(row[key]) if key in refused else row[key] for key in row} for row in rows])


def _is_made(made: Callable[[Any], Any], column: Any) -> bool:
    try:
        made(column)
    except Exception:  # noqa: BLE001 - each library has errors of its own for what it cannot hold
        return False
    return True


def _warn(names: list[str]) -> None:
    if names:
        told = ", ".join(map(repr, names))
        _LOG.warning("columns that become text, since the library cannot hold their values as they are: %s", told)


def _names(rows: _Rows) -> dict[Any, None]:
    """Returns the columns of all rows, in the order in which they first occur."""
    return dict.fromkeys(chain.from_iterable(rows))


def _name(key: Any) -> str:
    return joined([key_text(key)])


def _text(value: Any) -> str | None:
    if is_null(value):
        return None
    with suppress(TypeError):  # it has none, or half of a character within
        return joined([text(value)])
    return joined([str(value)])


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
