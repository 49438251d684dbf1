"""How each database is read: what a query's columns are without running it, and its rows once, in bounded memory.

One module is one database, and a new one is a new file here, nothing else: it is found by the name that
`connection.Database.kind` has for it. `generic` reads all others. What is asked for, and in which order, does not
belong here but in `connector.stores.databases.reading`.
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
_FIRST: Final = 16  # rows, of which nobody knows the size
_NESTED: Final = frozenset({list, tuple, dict})
_MORE: Final = 4  # times as many as before, at most

MEMBERS: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != _GENERIC))
"""The databases with a way of their own."""


class Column(NamedTuple):
    """A column of a query.

    Attributes:
        name: Its name.
        schema: The JSON Schema of its values in records.
        convert: Makes the value of a record of one that `Reader.batches` gives; `None` where they are the same.
        order: SQL of what rows are ordered by, in which `{0}` is the column; empty if its values have no order that a
            later read could go on in. A column of a key needs no more.
        is_cursor: Whether new values come last in that order, as far as its type tells: so it is no enumeration.
        value: SQL of a value of a state in the column's type, in which `{0}` is the place of the parameter.
        bind: Makes the parameter of the value of a record.
        holds: Whether a value, not null, is one of the column's, where the database itself does not see to that.
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
        """Makes a new connection one that gives values as `Column.convert` takes them, and that changes nothing."""
        ...

    def columns(self, connection: sa.Connection, query: str) -> list[Column]:
        """Returns the columns of a query, which is not run."""
        ...

    def key(self, connection: sa.Connection, table: str, schema: str | None) -> Sequence[str]:
        """Returns the columns of a table's primary key; none if it has none."""
        ...

    def batches(
        self, connection: sa.Connection, query: str, parameters: Sequence[Any], size: int
    ) -> Generator[list[tuple[Any, ...]], None, None]:
        """Yields the rows of a query, `size` at a time or fewer, as values that `marshal` writes.

        They come through `portions`, so that no batch takes much more memory than one row may.
        Without parameters it is run as it is written. What is left when the iterator is closed is not read.
        """
        ...


def load(kind: str, driver: str) -> Reader:
    """Returns what reads a kind of database; the generic reader where its own one needs another driver."""
    found = _member(kind if kind in MEMBERS else _GENERIC)
    return found if found.DRIVER in ("", driver) else _member(_GENERIC)


def _member(name: str) -> Reader:
    return cast("Reader", import_module(f"{__name__}.{name}"))


def weight(row: Collection[Any]) -> int:
    """Returns the bytes of memory that the values of a row take, about, with all that lists and objects hold."""
    own = sum(map(getsizeof, row))
    if _NESTED.isdisjoint(map(type, row)):
        return own
    return own + sum(weight(each.values() if type(each) is dict else each) for each in row if type(each) in _NESTED)


def portions(rows: Iterable[tuple[Any, ...]], size: int) -> Generator[list[tuple[Any, ...]], None, None]:
    """Yields rows, which come one by one, in batches of `size`, or of fewer where they are large.

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
    """Yields the rows that `fetch` gives, which takes how many: `size`, or fewer where they are large.

    How large they are is known from those before, of which a few are looked at.
    """
    count = min(_FIRST, size)
    while rows := fetch(count):
        some = rows[::_FIRST]
        count = max(1, min(size, _MORE * count, _AT_ONCE * len(some) // (sum(map(weight, some)) or 1)))
        yield from rows


def row_too_large() -> ConfigError:
    """Returns the error for a row that takes more memory than one may."""
    return ConfigError(f"the input has a row of more than {MOST:,} bytes: read a query without its large columns")


def known(value: float | None) -> float | None:
    """Returns a number; null for NaN. Infinity stays, as from files and from Python: JSON alone has none."""
    return None if value is None or math.isnan(value) else value


def number(digits: str | None) -> JSON:
    """Returns the number that a database writes so, with all its digits; null for NaN."""
    if digits is None:
        return None
    return numbers.written(digits) if digits[-1].isdigit() else known(float(digits))
