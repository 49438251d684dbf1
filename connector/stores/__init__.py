"""Where records come from and where outcome rows go. One module is one kind: its options, its reading and its writing.

A kind is a plain module with `Options`, `source` and `sink` as in `Store`. A new one is a new file here, nothing else:
`KINDS` lists the modules of this package, and `load` imports a kind (and with it DuckDB or SQLAlchemy) where it is
chosen.

Tables that Python code hands over belong in `tables`.
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
"""The column where a dead-letter file says why a row failed. Reading leaves it out: the file is an input as it is."""


class Source(Protocol):
    """An input that is open for reading."""

    @property
    def name(self) -> str:
        """The stream's name."""
        ...

    @property
    def columns(self) -> Mapping[str, Schema]:
        """The columns in table order and what `Record.data` holds in them. Empty where only reading can tell."""
        ...

    @property
    def rows(self) -> int | None:
        """How many records there are in all, `None` where only reading can tell."""
        ...

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """The records after `state`, in a stable order, with checkpoints in band: every 1,000 and one at the very end.

        `Record.index` counts from 0 in the whole order, also when reading starts in its middle. `state` is what a
        `Checkpoint` held; nothing (`None`, `{}`, `[]`) is the start.

        Raises:
            ConfigError: `state` is not one of this input, or the input is broken; it says where.
        """
        ...


class Sink(Protocol):
    """An output that is open for writing."""

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """Take one record's row: its own columns, and those `added` to it or put in their place.

        Called once for every record, in any order; `None` leaves the record out of the output.

        Raises:
            StorageError: it cannot be written.
        """
        ...

    def flush(self) -> None:
        """Hold nothing back that can be handed on already: the input is idle."""
        ...

    def commit(self) -> None:
        """Make the rows visible: all of them, or on an error none. A sink that is left without it discards them.

        Raises:
            StorageError: they cannot be written.
        """
        ...


class Store(Protocol):
    """What a module of this package has to offer."""

    @property
    def Options(self) -> type[Any]:  # noqa: N802 - a class, as the modules have it
        """The part of the config that describes one input or output of this kind: a frozen pydantic model."""
        ...

    def source(
        self, options: Any, *, limit: int | None = None, cursor_field: str | None = None
    ) -> AbstractContextManager[Source]:
        """Open an input: its first `limit` records, ordered by `cursor_field` where there is one (nulls first).

        Raises:
            ConfigError: it cannot be read; it says what, where and what to do.
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
        """Open an output for the records of `source` with the columns `added`; `{}` is a column of any type.

        `target` says what becomes of the rows that the output has: without it, a file is overwritten, and a table is
        appended to.

        Raises:
            ConfigError: it cannot be written, which is found out before anything is paid for.
        """
        ...


def is_dead_letter(column: str) -> bool:
    """Whether a column is `DEAD_LETTER`, or one of those that it becomes in CSV."""
    return column == DEAD_LETTER or column.startswith(f"{DEAD_LETTER}_")


def load(kind: str) -> Store:
    """The store of that kind.

    Raises:
        ConfigError: there is none, or the library that it needs is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no {kind!r} store. Choose one of: {', '.join(KINDS)}.")
    try:
        return cast("Store", importlib.import_module(f"{__name__}.{kind}"))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The {kind} store needs {error.name}: pip install 'openai-compatible-connector[{kind}]'.",
            detail=str(error),
        ) from error


def part(name: str) -> Any:
    """A module of this package that needs DuckDB, imported where it is used: loading that is half of a small run."""
    return importlib.import_module(f"{__name__}.{name}")
