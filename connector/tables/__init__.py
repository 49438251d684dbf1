"""Tables that Python code hands over and gets back enriched. One module is one format: dicts, Arrow.

Arrow needs pyarrow, which this package does not depend on: `arrow` is imported only for tables of Arrow.

Files and databases belong in `stores`, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from typing import Any, Final, Protocol, cast

from connector.base.errors import ConfigError
from connector.base.records import Record, Schema
from connector.run.pipeline import Result

OnError = Callable[[Iterator[Result]], Iterator[Result]]
"""Does what the config's `on_error` says about failed rows: keeps them, leaves them out, or raises at the end."""

_STREAM: Final = "__arrow_c_stream__"
_ARRAY: Final = "__arrow_c_array__"


class ArrowStream(Protocol):
    """A table that is exported as a stream of record batches by Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Exports the stream."""


class ArrowArray(Protocol):
    """A record batch that is exported by the same interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Exports schema and columns."""


class OpenTable(Protocol):
    """A table that is open for reading."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of its columns; `None` if only reading can tell."""
        ...

    def records(self) -> Iterator[Record]:
        """Yields the rows as they are needed, numbered from 0."""
        ...

    def enriched(self, results: Iterator[Result], added: Mapping[str, Schema], on_error: OnError) -> Iterator[Any]:
        """Yields the results in the format of the input, in input order; `added` has the schemas of the new columns."""
        ...

    def close(self) -> None:
        """Releases the rows."""
        ...


def open_table(rows: ArrowStream | ArrowArray | Iterable[Any]) -> OpenTable:
    """Opens rows in whichever format they have, judged by the first of them.

    Raises:
        ConfigError: They are Arrow's and pyarrow is not installed, or they are not a table.
    """
    if hasattr(rows, _STREAM) or hasattr(rows, _ARRAY):
        return _load_format("arrow").open_table(rows)
    items = iter(rows)
    first = list(islice(items, 1))
    is_arrow = any(hasattr(item, _STREAM) or hasattr(item, _ARRAY) for item in first)
    return _load_format("arrow" if is_arrow else "dicts").open_table(chain(first, items))


class TableFormat(Protocol):
    """What each module of this folder offers."""

    def open_table(self, rows: Any) -> OpenTable:
        """Opens rows of this format."""
        ...


def _load_format(name: str) -> TableFormat:
    try:
        return cast("TableFormat", import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tables of Arrow need {error.name}: run pip install {error.name}", detail=str(error)
        ) from error
