"""How Python code hands rows over and gets them back, enriched. One module is one form of rows.

Arrow's form needs pyarrow, which is no dependency of this package: its module is imported only where Arrow comes in.

Files and databases belong in `stores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from typing import Any, Final, Protocol, cast

from connector.base.errors import ConfigError
from connector.base.records import Record, Schema
from connector.run.pipeline import Result

Kept = Callable[[Iterator[Result]], Iterator[Result]]
"""Does about failed rows what the config says."""

_STREAM: Final = "__arrow_c_stream__"
_ARRAY: Final = "__arrow_c_array__"


class ArrowStream(Protocol):
    """A table that can be taken as a stream of record batches, by Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Hands the stream over."""


class ArrowArray(Protocol):
    """A record batch, by the same interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Hands schema and columns over."""


class Rows(Protocol):
    """Rows that are open for reading."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of their columns; `None` where only reading can tell."""
        ...

    def records(self) -> Iterator[Record]:
        """The rows, taken as they are needed, counted from 0."""
        ...

    def enriched(self, results: Iterator[Result], added: Mapping[str, Schema], kept: Kept) -> Iterator[Any]:
        """What came of the records, in their order, in the form that they came in; `added` are the new columns."""
        ...

    def close(self) -> None:
        """Lets go of the rows."""
        ...


def opened(rows: ArrowStream | ArrowArray | Iterable[Any]) -> Rows:
    """Opens rows in the form that they have, for which the first of them is looked at.

    Raises:
        ConfigError: They are Arrow's and pyarrow is not installed, or they are no table.
    """
    if hasattr(rows, _STREAM) or hasattr(rows, _ARRAY):
        return _load("arrow").opened(rows)
    items = iter(rows)
    first = list(islice(items, 1))
    is_arrow = any(hasattr(item, _STREAM) or hasattr(item, _ARRAY) for item in first)
    return _load("arrow" if is_arrow else "dicts").opened(chain(first, items))


class Form(Protocol):
    """What a module of this package consists of."""

    def opened(self, rows: Any) -> Rows:
        """Opens rows of this form."""
        ...


def _load(name: str) -> Form:
    try:
        return cast("Form", import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise ConfigError(f"Rows of Arrow need {error.name}: pip install {error.name}", detail=str(error)) from error
