"""Where records come from and where outcome rows go. One module per kind: its options, its reading and its writing.

A kind is a plain module with `Options`, `source` and `sink` as in `Store`. A new one is a new file here, nothing else:
`KINDS` lists the modules of this package, and `load` imports a kind (and with it SQLAlchemy) only where it is chosen.

File formats belong in `formats`, what kinds share in `staging`, what needs DuckDB in `columnar`, the parts of the kind
`sql` in `databases`. Tables that Python code passes in belong in `connector.tables`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast

from connector.base.errors import ConfigError
from connector.base.records import JSON, Checkpoint, Idle, Record, Schema
from connector.base.streams import Target

KINDS = tuple(
    sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not (module.ispkg or module.name.startswith("_"))
    )
)
"""The names that `input.type` can take."""

DEAD_LETTER: Final = "_dead_letter"
"""The column in which a dead-letter file says why a row failed. Reading leaves it out, so the file can be an input."""


class Source(Protocol):
    """An input that is open for reading."""

    @property
    def name(self) -> str:
        """The stream's name."""
        ...

    @property
    def columns(self) -> Mapping[str, Schema]:
        """The columns in table order, with the schemas of their values. Empty if not known before reading."""
        ...

    @property
    def rows(self) -> int | None:
        """How many records there are in all; `None` if not known before reading."""
        ...

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the table's primary key; empty if it has none, or rows are not read in its order."""
        ...

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """Yields the records after `state` in a stable order, with a checkpoint after every 1,000 and one at the end.

        `Record.index` counts from 0 at the first record of all, even when reading resumes later. `state` comes from a
        `Checkpoint`; an empty one (`None`, `{}`, `[]`) is the start.

        Raises:
            StateMismatchError: `state` belongs to another input, or to one read in another order.
            ConfigError: The input is broken; the message says where.
        """
        ...


class Sink(Protocol):
    """An output that is open for writing."""

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """Takes one record's row: its own columns, and those `added`, which replace any of the same name.

        Called once for every record, in any order; `None` leaves the record out of the output.

        Raises:
            StorageError: The row cannot be written.
        """
        ...

    def flush(self) -> None:
        """Passes on all rows that can be passed on already. Called when the input is idle."""
        ...

    def commit(self) -> None:
        """Makes the rows visible: all of them, or on an error none. A sink closed without a commit discards them.

        Raises:
            StorageError: The rows cannot be written.
        """
        ...


class Store(Protocol):
    """What a module of this package offers."""

    @property
    def Options(self) -> type[Any]:  # noqa: N802 - a class, as the modules have it
        """The part of the config that describes one input or output of this kind: a frozen pydantic model."""
        ...

    def source(
        self, options: Any, *, limit: int | None = None, cursor_field: str | None = None
    ) -> AbstractContextManager[Source]:
        """Opens an input for its first `limit` records, ordered by `cursor_field` if that is given (nulls first).

        Raises:
            ConfigError: The input cannot be read.
        """
        ...

    def sink(
        self,
        options: Any,
        added: Mapping[str, Schema],
        *,
        source: Source | None = None,
        target: Target | None = None,
    ) -> AbstractContextManager[Sink]:
        """Opens an output for the records of `source` with the columns `added`; the schema `{}` is any type.

        `target` says what happens to the rows that the output has: without it, a file is overwritten, and a table is
        appended to.

        Raises:
            ConfigError: The output cannot be written; this is found out before anything is paid for.
        """
        ...


def is_dead_letter(column: str) -> bool:
    """Returns whether a column is `DEAD_LETTER`, or one of the columns that it becomes in CSV."""
    return column == DEAD_LETTER or column.startswith(f"{DEAD_LETTER}_")


def load(kind: str) -> Store:
    """Returns the store of a kind.

    Raises:
        ConfigError: There is no such kind, or the library that it needs is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f'type: there is no store "{kind}": choose one of {", ".join(KINDS)}')
    try:
        return cast("Store", importlib.import_module(f"{__name__}.{kind}"))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"type: the {kind} store needs {error.name}: pip install 'openai-compatible-connector[{kind}]'",
            detail=str(error),
        ) from error
