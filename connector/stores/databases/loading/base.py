"""What is common to all databases that rows are written to: the contract, and the steps that most of them share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Final, NamedTuple, Self, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from connector.base.errors import StorageError
from connector.base.streams import Mode
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Rules, shortened
from connector.stores.databases.syntax import quoted

PATIENCE: Final = 600
"""Seconds that a sync waits for another one that writes into the same table."""
LOCK_WAIT: Final = PATIENCE // 5
"""Seconds that a statement waits for a lock of another program: a commit is tried five times."""

_KEY: Final = "_connector_key"
_OURS: Final = re.compile(rf"{_KEY}\d*$")
_MARK: Final = "connector_mark"
_PART: Final = "connector_part"
_REASON: Final = 300  # characters
_SEPARATOR: Final = "\x1f"  # which few texts hold

Batch = Sequence[Sequence[Any]]
"""Rows as columns: the values of each column in the form of `kinds.converter`, or `None`."""

Refuse = Callable[[str, Sequence[Any]], None]
"""Takes why a row is left out, and its values, in the order of the plan's columns."""


def texts(values: Sequence[Any], write: Callable[[Any], str], null: str) -> list[str]:
    """Returns the values of a column as texts, nulls as `null`."""
    if None in values:
        return [null if value is None else write(value) for value in values]
    return list(map(write, values))


def literals(values: Sequence[Any], null: str) -> list[str]:
    """Returns the values of a column of numbers or booleans as JSON writes them, nulls as `null`: all of them at once.

    A float is written with as few digits as tell it from all others, in an eighth of the time that `repr` takes.
    """
    found = orjson.dumps(values).decode()[1:-1].split(",")
    return [null if each == "null" else each for each in found] if None in values else found


def escaped(values: Sequence[str | None], escapes: Mapping[str, str], null: str, mark: str = "") -> Sequence[str]:
    """Returns texts with some characters escaped, between two marks. A column is looked through, and escaped, at once.

    The first of `escapes` is that of the character which the others begin with.
    """
    some = [value for value in values if value is not None] if None in values else values
    whole = _SEPARATOR.join(cast("Sequence[str]", some))
    if any(each in whole for each in escapes):
        if whole.count(_SEPARATOR) == len(some) - 1:
            for each, escape in escapes.items():
                whole = whole.replace(each, escape)
            some = whole.split(_SEPARATOR)
        else:
            table = str.maketrans(dict(escapes))
            some = [value.translate(table) for value in cast("Sequence[str]", some)]
    if len(some) < len(values):
        rest = iter(some)
        return [null if value is None else f"{mark}{next(rest)}{mark}" for value in values]
    return [f"{mark}{value}{mark}" for value in some] if mark else cast("Sequence[str]", some)


class Column(NamedTuple):
    """A column of a table. `is_required`: it takes no null, and has no default."""

    name: str
    kind: Kind
    is_required: bool = False


class Table(NamedTuple):
    """What is known of an existing table: its columns by name, and the names of those that the database generates."""

    columns: Mapping[str, Column]
    generated: frozenset[str] = frozenset()


def table_of(columns: Iterable[Column], generated: Iterable[str]) -> Table | None:
    """Returns the table that has these columns; `None` for none at all."""
    found = Table({column.name: column for column in columns}, frozenset(generated))
    return found if found.columns or found.generated else None


class Plan(NamedTuple):
    """What to do to a table: its columns as they are to be, and which of them are made, or get another kind.

    `key` are the columns that decide which row replaces which; without them rows are appended.
    """

    mode: Mode
    columns: Sequence[Column]
    added: Sequence[Column] = ()
    changed: Sequence[tuple[Column, Kind]] = ()
    key: Sequence[str] = ()

    @property
    def others(self) -> list[str]:
        """The columns that are not part of the key."""
        return [column.name for column in self.columns if column.name not in self.key]

    @property
    def order(self) -> str:
        """The name, which needs no quotes, of the column that numbers waiting rows: none of the user's has it."""
        taken = {column.name.casefold() for column in self.columns}
        return next(name for n in count() if (name := f"connector_row{n or ''}") not in taken)


class RowError(Exception):
    """A row that the database would not take, found before it is sent. Its text says why."""


class Writer(ABC):
    """One table of one database, over one connection. Made for one commit: `began`, then `table`, `write`, `end`.

    Attributes:
        DRIVERS: Drivers that the writer needs, as SQLAlchemy calls them; empty for any.
        has_nul: Whether texts may hold the character NUL.
        YEARS: Those of its dates and timestamps, if not only 1 to 9999: then they can be infinite, too. `None`
            where the database itself refuses all others.
        OVERRIDING: What lets an INSERT write a column whose values the database would give, as SQL.
        IN_TRANSACTIONS: What makes a new table one that transactions are about, as SQL.
    """

    RULES: ClassVar[Rules] = Rules()
    OVERRIDING: ClassVar[str] = ""
    DRIVERS: ClassVar[Sequence[str]] = ()
    has_nul: ClassVar[bool] = True
    YEARS: ClassVar[range | None] = range(0)
    IN_TRANSACTIONS: ClassVar[str] = ""

    def __init__(self, connection: sa.Connection, name: str) -> None:
        self.connection = connection
        schema, _, table = name.rpartition(".")
        self.schema = schema
        self.name = shortened(table, self.RULES)
        self.place = f"{self.quote(schema)}.{self.quote(self.name)}" if schema else self.quote(self.name)

    def quote(self, name: str) -> str:
        """Returns a name as SQL."""
        return quoted(name, self.connection.dialect)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement as it is written, and returns its rows."""
        result = self.connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []

    def ask(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Runs a query of a catalogue with `:name` for values, and returns its rows."""
        return [tuple(row) for row in self.connection.execute(sa.text(statement), values)]

    def list_of(self, names: Iterable[str], before: str = "") -> str:
        """Returns names as SQL, with commas."""
        return ", ".join(before + self.quote(name) for name in names)

    def table_beside(self, ending: str) -> str:
        """Returns the name of another table in the same schema, as SQL."""
        name = self.quote(shortened(self.name + ending, self.RULES))
        return f"{self.quote(self.schema)}.{name}" if self.schema else name

    def beside(self, ending: str) -> Self:
        """Returns what writes to that table, over the same connection."""
        return type(self)(self.connection, f"{self.schema}.{shortened(self.name + ending, self.RULES)}")

    def try_run(self, *statements: str) -> bool:
        """Runs what is wanted, but not needed, all or nothing; returns whether it was done."""
        try:
            with self.connection.begin_nested():
                for statement in statements:
                    self.run(statement)
        except SQLAlchemyError:
            return False
        return True

    def begin(self, waiting: Callable[[], None]) -> None:
        """Begins a transaction, alone: another sync of the same table is waited for, which `waiting` is told.

        Raises:
            StorageError: It did not end.
        """
        if not self.attempt():
            waiting()
            if not self.wait():
                raise StorageError(
                    f"{self.name}: another sync has been writing there for {PATIENCE} s: run it again when it has ended"
                )

    @abstractmethod
    def attempt(self) -> bool:
        """Begins at once, and returns whether no other sync writes into the table."""

    def wait(self) -> bool:
        """Waits at most `PATIENCE` for another sync; returns whether it has ended."""
        return False

    def ticket(self) -> Any:
        """Returns what `was_done` tells this transaction by, when all is written; `None` if nothing could."""
        return None

    def was_done(self, ticket: Any) -> bool:  # noqa: ARG002 - for members that can tell
        """Returns whether an earlier transaction was done, though the connection was lost before it said so."""
        return False

    def end(self) -> None:
        """Makes all that was done visible."""
        self.connection.commit()

    def undo(self) -> None:
        """Undoes all that was done since it began."""
        self.connection.rollback()

    @abstractmethod
    def table(self) -> Table | None:
        """Returns the table as it is now; `None` if there is none."""

    def has_rows(self) -> bool:
        """Returns whether the table is there, and has any row."""
        return self.table() is not None and bool(self.run(f"SELECT 1 FROM {self.place} LIMIT 1"))

    @abstractmethod
    def native(self, kind: Kind) -> str:
        """Returns the type of a column, as SQL."""

    def supported(self, kind: Kind) -> Kind:
        """Returns the kind that stands for one which the database lacks; others as they are."""
        return kind

    def in_key(self, kind: Kind) -> Kind:
        """Returns the kind for a column of a key."""
        return kind

    def create(self, plan: Plan) -> None:
        """Makes the table."""
        self.run(f"CREATE TABLE {self.place} ({', '.join(self.definition(column, plan) for column in plan.columns)})")

    def definition(self, column: Column, plan: Plan) -> str:  # noqa: ARG002 - for members whose keys need more
        """Returns the definition of a column, as SQL."""
        return f"{self.quote(column.name)} {self.native(column.kind)}"

    def add(self, column: Column, plan: Plan) -> None:
        """Adds a column."""
        self.run(f"ALTER TABLE {self.place} ADD COLUMN {self.definition(column, plan)}")

    @abstractmethod
    def change(self, column: Column, kind: Kind, plan: Plan) -> None:
        """Gives a column another kind, its values unchanged."""

    def reachable(self, column: Column, kind: Kind) -> Kind:  # noqa: ARG002 - for members that can tell
        """Returns the widest kind up to this one that a column can get, in place of its own."""
        return kind

    def obstacle(self, column: Column, kind: Kind) -> str:  # noqa: ARG002 - for members that can tell
        """Returns why a column cannot get another kind, as far as that can be told beforehand; else an empty text."""
        return ""

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """As `change`; returns why it is not possible, else an empty text, and leaves everything as it was then."""
        if reason := self.obstacle(column, kind):
            return reason
        try:
            with self.connection.begin_nested():
                self.change(column, kind, plan)
        except SQLAlchemyError as error:
            return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return ""

    @abstractmethod
    def is_unique(self, key: Sequence[str]) -> bool:
        """Returns whether the table has a unique index over just these columns, compared as bytes."""

    @abstractmethod
    def make_unique(self, key: Sequence[str]) -> None:
        """Makes such an index."""

    def new_index(self) -> str:
        """Returns a name for the index that we make for a key: none that another table's index has."""
        names = (shortened(self.name, self.RULES, ending=f"{_KEY}{n or ''}") for n in count())
        return next(name for name in names if not self.is_taken(name))

    def is_taken(self, index: str) -> bool:  # noqa: ARG002 - for members whose indexes have one name in all tables
        """Returns whether an index of another table has this name."""
        return False

    @staticmethod
    def is_ours(index: str) -> bool:
        """Returns whether an index is one that we have made for a key, whatever name its table had then."""
        return _OURS.search(index) is not None

    @abstractmethod
    def drop_key(self) -> None:
        """Drops the index that an upsert has made, if there is one: rows are now added whatever their key."""

    def require_key(self, plan: Plan) -> None:
        """Makes the key unique, if it is not.

        Raises:
            StorageError: The table has rows with the same key.
        """
        if not self.is_unique(plan.key):
            self.check_key(plan.key)
            self.make_unique(plan.key)

    def check_key(self, key: Sequence[str]) -> None:
        """Refuses a key that several rows of the table have.

        Raises:
            StorageError: They are there.
        """
        if found := self.duplicate(key):
            raise StorageError(
                f"{self.name}: the table has several rows with {found}, so {', '.join(key)} cannot be its key: "
                "remove all but one of them, or choose another key"
            )

    def duplicate(self, key: Sequence[str]) -> str:
        """Returns a key that several rows of the table have, as text; an empty text if there is none."""
        whole = " AND ".join(f"{self.quote(name)} IS NOT NULL" for name in key)
        names = ", ".join(map(self.as_bytes, key))
        found = self.run(f"SELECT {names} FROM {self.place} WHERE {whole} GROUP BY {names} HAVING COUNT(*) > 1 LIMIT 1")
        return ", ".join(f"{name} = {value}" for name, value in zip(key, found[0], strict=True)) if found else ""

    def as_bytes(self, name: str) -> str:
        """Returns a column of a key, as SQL, so that texts are compared as bytes."""
        return self.quote(name)

    @abstractmethod
    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """Brings rows into the table: appended, in place of all rows (`overwrite`), or of those with the same key.

        With a key, the last of several rows that have the same one counts. Rows whose key has a null are appended.
        """

    def mark(self, plan: Plan) -> bool:  # noqa: ARG002 - for members that cannot undo every plan
        """Marks a point that `load` can go back to; returns whether there is one. Without one, a bad row ends all."""
        return False

    def load(self, plan: Plan, batches: Callable[[], Iterator[Batch]], refuse: Refuse) -> None:
        """Brings rows into the table: all at once, or, where the database refuses one, without those that it refuses.

        Args:
            batches: Returns the rows from the first one on.
            refuse: Is told why each row is left out, and its values.
        """
        is_marked = self.mark(plan)
        try:
            self.write(plan, batches())
            self.settle()
        except self.errors as error:
            if not is_marked or not self.reason(error):
                raise
        else:
            return
        self._dialect.do_rollback_to_savepoint(self.connection, _MARK)
        if plan.mode == "overwrite":
            self.write(plan, iter(()))
        entering = plan._replace(mode="append" if plan.mode == "overwrite" else plan.mode, changed=())
        for batch in batches():
            self._load_by_halves(entering, batch, refuse)

    def _load_by_halves(self, plan: Plan, batch: Batch, refuse: Refuse) -> None:
        parts = [batch]
        while parts:
            part = parts.pop()
            reason, middle = self._refusal(plan, part), len(part[0]) // 2
            if reason and middle:
                parts += [[values[middle:] for values in part], [values[:middle] for values in part]]
            elif reason:
                refuse(reason, [values[0] for values in part])

    def _refusal(self, plan: Plan, batch: Batch) -> str:
        """Brings rows into the table, or returns why that is refused, and leaves everything as it was then."""
        self._dialect.do_savepoint(self.connection, _PART)
        reason = ""
        try:
            self.write(plan, iter([batch]))
            self.settle()
        except self.errors as error:
            reason = self.reason(error)
            if not reason:
                raise
            self._dialect.do_rollback_to_savepoint(self.connection, _PART)
        self._dialect.do_release_savepoint(self.connection, _PART)
        return reason

    def settle(self) -> None:  # noqa: B027 - most check everything at once
        """Checks what the database would check at the end only."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a statement may raise."""
        return SQLAlchemyError, self._driver.Error, RowError

    @property
    def _driver(self) -> Any:
        return self.connection.dialect.loaded_dbapi

    def reason(self, error: Exception) -> str:
        """Returns why a row is refused, if an error is about a row; else an empty text."""
        said: Any = getattr(error, "orig", None) or error
        is_about_row = isinstance(said, (self._driver.IntegrityError, self._driver.DataError, RowError))
        return self.said(said) if is_about_row or self.is_about_row(said) else ""

    def is_about_row(self, error: Any) -> bool:  # noqa: ARG002 - for members whose drivers tell no classes of errors
        """Returns whether an error of the driver, of no class that says so, is about a row."""
        return False

    def said(self, error: Any) -> str:
        """Returns what an error of the driver says, on one line."""
        return " ".join(str(error).split())[:_REASON]

    def save(self) -> bool:
        """Makes the mark, in databases that have savepoints."""
        self._dialect.do_savepoint(self.connection, _MARK)
        return True

    @property
    def _dialect(self) -> sa.Dialect:
        return self.connection.dialect

    @property
    def undoes_tables(self) -> bool:
        """Whether a table that was made, or a column that was added, can be undone."""
        return True

    def rehearse(self, plan: Plan, *, exists: bool) -> None:
        """Does what a commit would do, without rows, and undoes it: what is forbidden is found before any call.

        What cannot be undone is tried on a table beside, which is then dropped.
        """
        if not self.undoes_tables:
            if not exists:
                beside = self.beside("__check")
                self.run(f"DROP TABLE IF EXISTS {beside.place}")
                beside.create(plan)
                self.run(f"DROP TABLE {beside.place}")
                return
            plan = plan._replace(columns=[each for each in plan.columns if each not in plan.added], added=())
        try:
            if not self.attempt():
                return  # another sync is allowed to do it all
            if not exists:
                self.create(plan)
            for column in plan.added if exists else ():
                self.add(column, plan)
            self.probe(plan)
        finally:
            self.undo()

    def probe(self, plan: Plan) -> None:
        """Runs the statements of a commit for no row at all."""
        names = self.list_of(column.name for column in plan.columns)
        if not names:
            return
        self.run(f"INSERT INTO {self.place} ({names}) {self.OVERRIDING} SELECT {names} FROM {self.place} WHERE 1 = 0")
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place} WHERE 1 = 0")
        if plan.key and (others := plan.others):
            name = self.quote(others[0])
            self.run(f"UPDATE {self.place} SET {name} = {name} WHERE 1 = 0")
