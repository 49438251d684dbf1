"""How each database is read: the columns of a query without running it, and its rows once, in bounded memory.

One module per database; a new one is a new file here, nothing else: it is found by its name in
`connection.Database.kind`. `generic` reads all others. What is read, and in which order, belongs in
`connector.stores.databases.reading`.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from importlib import import_module
from sys import getsizeof
from typing import Any, Final, NamedTuple, Protocol, cast

import sqlalchemy as sa

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.lines import MOST
from connector.base.records import JSON, Schema

_GENERIC: Final = "generic"
_AT_ONCE: Final = 8 << 20
_FIRST: Final = 16  # rows to fetch while their size is unknown
_NESTED: Final = frozenset({list, tuple, dict})
_MORE: Final = 4  # most times as many rows as in the fetch before

MEMBERS: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != _GENERIC))
"""The databases with a module of their own."""


class Column(NamedTuple):
    """A column of a query.

    Attributes:
        name: Its name.
        schema: The JSON Schema of its values in records.
        convert: Converts a value of `Reader.batches` into that of a record; `None` where they are the same.
        order: SQL to order rows by, with `{0}` for the column; empty if its values have no order that a later read
            could resume in. A key column needs nothing else.
        is_cursor: Whether new values come last in that order, as far as the type tells: not in an enumeration.
        value: SQL for a value of a state in the column's type, with `{0}` for the placeholder.
        bind: Converts the value of a record into that of a parameter.
        holds: Whether a value, not null, is of the column's type, where the database itself does not ensure that.
    """

    name: str
    schema: Schema
    convert: Callable[[Any], JSON] | None = None
    order: str = ""
    value: str = "{0}"
    bind: Callable[[Any], Any] | None = None
    holds: Callable[[Any], bool] | None = None
    is_cursor: bool = True


class Reader(Protocol):
    """What a module of this package offers for its database.

    Attributes:
        DRIVER: The driver that it reads with, as SQLAlchemy calls it; empty for any.
    """

    DRIVER: str

    def prepare(self, connection: sa.Connection) -> None:
        """Sets a new connection up to return values as `Column.convert` takes them, read-only where possible."""
        ...

    def columns(self, connection: sa.Connection, query: str) -> list[Column]:
        """Returns the columns of a query, without running it."""
        ...

    def key(self, connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
        """Returns the columns of a table's primary key; empty if it has none."""
        ...

    def batches(
        self, connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
    ) -> Generator[list[tuple[Any, ...]], None, None]:
        """Yields the rows of a query, at most `size` at a time, as values that `marshal` can write.

        They pass through `portions`, so that no batch takes much more memory than one row may.
        Without parameters the query is run as it is written. Closing the iterator leaves the rest unread.
        """
        ...


def load(kind: str, driver: str) -> Reader:
    """Returns the reader for a kind of database; the generic one where the kind's own needs another driver."""
    found = _member(kind if kind in MEMBERS else _GENERIC)
    return found if found.DRIVER in ("", driver) else _member(_GENERIC)


def _member(name: str) -> Reader:
    return cast("Reader", import_module(f"{__name__}.{name}"))


def weight(row: Collection[Any]) -> int:
    """Returns roughly how many bytes of memory a row takes, with the contents of its lists and objects."""
    own = sum(map(getsizeof, row))
    if _NESTED.isdisjoint(map(type, row)):
        return own
    return own + sum(weight(each.values() if type(each) is dict else each) for each in row if type(each) in _NESTED)


def portions(rows: Iterable[tuple[Any, ...]], size: int) -> Generator[list[tuple[Any, ...]], None, None]:
    """Yields rows in batches of `size`, or fewer where they are large.

    Raises `ConfigError` for a row of more than 64 MiB.
    """
    batch: list[tuple[Any, ...]] = []
    taken = 0
    for row in rows:
        taken += (added := weight(row))
        if added > MOST:
            raise row_too_large()
        batch.append(row)
        if len(batch) >= size or taken > _AT_ONCE:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


def fetched(fetch: Callable[[int], list[tuple[Any, ...]]], size: int) -> Generator[tuple[Any, ...], None, None]:
    """Yields the rows that `fetch` returns for a number of rows: at most `size` each time, fewer where they are large.

    How large they are is estimated from a sample of those before.
    """
    count = min(_FIRST, size)
    while rows := fetch(count):
        some = rows[::_FIRST]
        count = max(1, min(size, _MORE * count, _AT_ONCE * len(some) // (sum(map(weight, some)) or 1)))
        yield from rows


def row_too_large() -> ConfigError:
    """Returns the error for a row that takes more memory than allowed."""
    return ConfigError(f"the input has a row of more than {MOST:,} bytes: read a query without its large columns")


def known(value: float | None) -> float | None:
    """Returns a number; null for NaN. Infinity stays, as it does from files and Python: only JSON lacks it."""
    return None if value is None or math.isnan(value) else value


def number(digits: str | None) -> JSON:
    """Returns the number that a database writes as `digits`, with all of them; null for NaN."""
    if digits is None:
        return None
    return numbers.written(digits) if digits[-1].isdigit() else known(float(digits))
