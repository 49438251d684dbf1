"""What all databases share when rows are written: the contract `Writer`, and the steps that most of them do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Final, NamedTuple, Self, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from connector.base.errors import StorageError
from connector.base.regex import regex
from connector.base.streams import Mode
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Rules, shortened
from connector.stores.databases.syntax import quoted

PATIENCE: Final = 600
"""Seconds that a sync waits for another one that writes to the same table."""
LOCK_WAIT: Final = PATIENCE // 5
"""Seconds that a statement waits for another program's lock: five attempts at a commit come to `PATIENCE`."""

_KEY: Final = "_connector_key"
_OURS: Final = regex(rf"{_KEY}\d*$")
_SAVEPOINT: Final = "connector_savepoint"
_PART: Final = "connector_part"
_REASON: Final = 300  # characters
_SEPARATOR: Final = "\x1f"  # which few texts hold

Batch = Sequence[Sequence[Any]]
"""Rows, column by column: each value as `kinds.converter` makes it, or `None`."""

Refuse = Callable[[str, Sequence[Any]], None]
"""Takes the reason why a row is left out, and its values in the order of the plan's columns."""


def texts(values: Sequence[Any], write: Callable[[Any], str], null: str) -> list[str]:
    """Returns the values of a column as texts that `write` makes, nulls as `null`."""
    if None in values:
        return [null if value is None else write(value) for value in values]
    return list(map(write, values))


def literals(values: Sequence[Any], null: str) -> list[str]:
    """Returns the values of a column of numbers or booleans as JSON literals, nulls as `null`, in one call.

    A float gets the fewest digits that identify it, in an eighth of the time that `repr` takes.
    """
    found = orjson.dumps(values).decode()[1:-1].split(",")
    return [null if each == "null" else each for each in found] if None in values else found


def escaped(values: Sequence[str | None], escapes: Mapping[str, str], null: str, mark: str = "") -> Sequence[str]:
    """Returns texts with the characters of `escapes` escaped, each between two `mark`s, and nulls as `null`.

    The column is searched and escaped as one text, so the escape character itself must come first in `escapes`.
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
    """A column of a table. `is_required`: it is NOT NULL and has no default."""

    name: str
    kind: Kind
    is_required: bool = False


class Table(NamedTuple):
    """What is known of an existing table: its columns by name, and the names of its generated columns."""

    columns: Mapping[str, Column]
    generated: frozenset[str] = frozenset()


def table_of(columns: Iterable[Column], generated: Iterable[str]) -> Table | None:
    """Returns the table with these columns; `None` if there are none."""
    found = Table({column.name: column for column in columns}, frozenset(generated))
    return found if found.columns or found.generated else None


class Plan(NamedTuple):
    """What to do to a table: its columns as they will be, those to add, and those to change to another kind.

    `key`: the columns by which a row replaces an existing one; empty if none does.
    """

    mode: Mode
    columns: Sequence[Column]
    added: Sequence[Column] = ()
    changed: Sequence[tuple[Column, Kind]] = ()
    key: Sequence[str] = ()

    @property
    def others(self) -> list[str]:
        """The names of the columns outside the key."""
        return [column.name for column in self.columns if column.name not in self.key]

    @property
    def order(self) -> str:
        """The name of the column that numbers staged rows: unlike any of the user's, and valid without quotes."""
        taken = {column.name.casefold() for column in self.columns}
        return next(name for n in count() if (name := f"connector_row{n or ''}") not in taken)


class RowError(Exception):
    """A row that the database would refuse, found before it is sent. The text says why."""


class Writer(ABC):
    """One table of one database, over one connection, for one commit: `begin`, then `table`, `load`, `commit`.

    Attributes:
        DRIVERS: The drivers that the writer works with, as SQLAlchemy calls them; empty for any.
        has_nul: Whether texts may hold the character NUL.
        YEARS: The years that dates and timestamps may have besides 1 to 9999; unless empty, infinity is valid, too.
            `None` where the database itself refuses what it cannot hold.
        OVERRIDING: SQL that lets an INSERT write an identity column.
        IN_TRANSACTIONS: SQL that makes a new table a transactional one.
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
        """Returns a name as a quoted identifier."""
        return quoted(name, self.connection.dialect)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement as it is written, without parameters; returns its rows."""
        result = self.connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []

    def ask(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Runs a query of the catalogue with `:name` for parameters; returns its rows."""
        return [tuple(row) for row in self.connection.execute(sa.text(statement), values)]

    def list_of(self, names: Iterable[str], before: str = "") -> str:
        """Returns names as quoted identifiers with commas between them, each after the prefix `before`."""
        return ", ".join(before + self.quote(name) for name in names)

    def auxiliary_place(self, ending: str) -> str:
        """Returns the SQL name of an auxiliary table: in the same schema, called as this one with `ending`."""
        name = self.quote(shortened(self.name + ending, self.RULES))
        return f"{self.quote(self.schema)}.{name}" if self.schema else name

    def auxiliary(self, ending: str) -> Self:
        """Returns the writer for that table, over the same connection."""
        return type(self)(self.connection, f"{self.schema}.{shortened(self.name + ending, self.RULES)}")

    def try_run(self, *statements: str) -> bool:
        """Runs optional statements, all or none of them; returns whether they succeeded."""
        try:
            with self.connection.begin_nested():
                for statement in statements:
                    self.run(statement)
        except SQLAlchemyError:
            return False
        return True

    def begin(self, waiting: Callable[[], None]) -> None:
        """Begins a transaction and locks out other syncs of the table; calls `waiting` before it waits for one.

        Raises:
            StorageError: The other sync did not end within `PATIENCE`.
        """
        if not self.try_begin():
            waiting()
            if not self.wait():
                raise StorageError(
                    f"{self.name}: another sync has been writing there for {PATIENCE} s: run it again when it has ended"
                )

    @abstractmethod
    def try_begin(self) -> bool:
        """Begins a transaction without waiting; returns whether no other sync writes to the table."""

    def wait(self) -> bool:
        """Waits at most `PATIENCE` seconds for the other sync; returns whether it has ended."""
        return False

    def ticket(self) -> Any:
        """Returns what identifies this transaction to `was_committed`, once all is written; `None` if nothing does."""
        return None

    def was_committed(self, ticket: Any) -> bool:  # noqa: ARG002 - for members that can tell
        """Returns whether a transaction was committed, although the connection was lost before the reply."""
        return False

    def commit(self) -> None:
        """Commits the transaction."""
        self.connection.commit()

    def rollback(self) -> None:
        """Rolls the transaction back."""
        self.connection.rollback()

    @abstractmethod
    def table(self) -> Table | None:
        """Returns the table as it is now; `None` if it does not exist."""

    def has_rows(self) -> bool:
        """Returns whether the table exists and has rows."""
        return self.table() is not None and bool(self.run(f"SELECT 1 FROM {self.place} LIMIT 1"))

    @abstractmethod
    def native(self, kind: Kind) -> str:
        """Returns the type of a column of this kind, as SQL."""

    def supported(self, kind: Kind) -> Kind:
        """Returns the kind to use instead of one that the database lacks; others unchanged."""
        return kind

    def in_key(self, kind: Kind) -> Kind:
        """Returns the kind to use for a key column of this kind."""
        return kind

    def create(self, plan: Plan) -> None:
        """Creates the table."""
        self.run(f"CREATE TABLE {self.place} ({', '.join(self.definition(column, plan) for column in plan.columns)})")

    def definition(self, column: Column, plan: Plan) -> str:  # noqa: ARG002 - for members whose keys need more
        """Returns the definition of a column, as SQL."""
        return f"{self.quote(column.name)} {self.native(column.kind)}"

    def add(self, column: Column, plan: Plan) -> None:
        """Adds a column."""
        self.run(f"ALTER TABLE {self.place} ADD COLUMN {self.definition(column, plan)}")

    @abstractmethod
    def change(self, column: Column, kind: Kind, plan: Plan) -> None:
        """Changes a column to another kind, and keeps its values."""

    def widest(self, column: Column, kind: Kind) -> Kind:  # noqa: ARG002 - for members that can tell
        """Returns the widest kind, at most `kind`, that the column can be changed to."""
        return kind

    def obstacle(self, column: Column, kind: Kind) -> str:  # noqa: ARG002 - for members that can tell
        """Returns why a column cannot be changed to a kind, as far as is known beforehand; else an empty string."""
        return ""

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """Does `change` and returns an empty string, or leaves everything as it was and returns why."""
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
        """Returns whether the table has a unique index on exactly these columns that compares texts as bytes."""

    @abstractmethod
    def make_unique(self, key: Sequence[str]) -> None:
        """Creates such an index."""

    def new_index(self) -> str:
        """Returns a name for the index that we create for a key: none that another index has."""
        names = (shortened(self.name, self.RULES, ending=f"{_KEY}{n or ''}") for n in count())
        return next(name for name in names if not self.is_name_taken(name))

    def is_name_taken(self, index: str) -> bool:  # noqa: ARG002 - for members whose indexes have one name in all tables
        """Returns whether this name is in use, be it by an index of another table."""
        return False

    @staticmethod
    def is_ours(index: str) -> bool:
        """Returns whether we created this index for a key, whatever the table was called then."""
        return _OURS.search(index) is not None

    @abstractmethod
    def drop_key(self) -> None:
        """Drops the index that an upsert created, if there is one: rows are now appended whatever their key."""

    def require_key(self, plan: Plan) -> None:
        """Creates a unique index on the key, if there is none.

        Raises:
            StorageError: Several rows of the table have the same key.
        """
        if not self.is_unique(plan.key):
            self.check_key(plan.key)
            self.make_unique(plan.key)

    def check_key(self, key: Sequence[str]) -> None:
        """Refuses a key that does not identify the table's rows.

        Raises:
            StorageError: Several rows of the table have the same key.
        """
        if found := self.duplicate(key):
            raise StorageError(
                f"{self.name}: the table has several rows with {found}, so {', '.join(key)} cannot be its key: "
                "remove all but one of them, or choose another key"
            )

    def duplicate(self, key: Sequence[str]) -> str:
        """Returns key values that several rows of the table share, as text; an empty string if there are none."""
        whole = " AND ".join(f"{self.quote(name)} IS NOT NULL" for name in key)
        names = ", ".join(map(self.bytewise, key))
        found = self.run(f"SELECT {names} FROM {self.place} WHERE {whole} GROUP BY {names} HAVING COUNT(*) > 1 LIMIT 1")
        return ", ".join(f"{name} = {value}" for name, value in zip(key, found[0], strict=True)) if found else ""

    def bytewise(self, name: str) -> str:
        """Returns a key column as SQL that compares texts by their bytes."""
        return self.quote(name)

    @abstractmethod
    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """Writes rows to the table: appends them, replaces all rows (`overwrite`), or replaces those of the same key.

        Of several new rows with the same key, the last one counts. Rows with a null in their key are appended.
        """

    def try_savepoint(self, plan: Plan) -> bool:  # noqa: ARG002 - for members that cannot undo every plan
        """Sets the savepoint for `load`; returns whether it did. Without one, a bad row ends the load."""
        return False

    def load(self, plan: Plan, batches: Callable[[], Iterator[Batch]], refuse: Refuse) -> None:
        """Writes rows to the table: all at once or, if the database refuses any, without those that it refuses.

        Args:
            batches: Returns the rows, from the first one on, at each call.
            refuse: Is called for each row that is left out.
        """
        has_savepoint = self.try_savepoint(plan)
        try:
            self.write(plan, batches())
            self.check_deferred()
        except self.errors as error:
            if not has_savepoint or not self.reason(error):
                raise
        else:
            return
        self._dialect.do_rollback_to_savepoint(self.connection, _SAVEPOINT)
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
        """Writes rows and returns an empty string, or leaves everything as it was and returns why they are refused."""
        self._dialect.do_savepoint(self.connection, _PART)
        reason = ""
        try:
            self.write(plan, iter([batch]))
            self.check_deferred()
        except self.errors as error:
            reason = self.reason(error)
            if not reason:
                raise
            self._dialect.do_rollback_to_savepoint(self.connection, _PART)
        self._dialect.do_release_savepoint(self.connection, _PART)
        return reason

    def check_deferred(self) -> None:  # noqa: B027 - most check everything at once
        """Checks the constraints that the database would check only at the commit."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a statement may raise."""
        return SQLAlchemyError, self._driver.Error, RowError

    @property
    def _driver(self) -> Any:
        return self.connection.dialect.loaded_dbapi

    def reason(self, error: Exception) -> str:
        """Returns why a row is refused, if the error is about a row; else an empty string."""
        said: Any = getattr(error, "orig", None) or error
        is_about_row = isinstance(said, (self._driver.IntegrityError, self._driver.DataError, RowError))
        return self.message_of(said) if is_about_row or self.is_about_row(said) else ""

    def is_about_row(self, error: Any) -> bool:  # noqa: ARG002 - for members whose drivers lack such classes
        """Returns whether a driver's error is about a row, although its class does not say so."""
        return False

    def message_of(self, error: Any) -> str:
        """Returns the message of a driver's error, on one line."""
        return " ".join(str(error).split())[:_REASON]

    def set_savepoint(self) -> bool:
        """Sets the savepoint, in databases that have savepoints."""
        self._dialect.do_savepoint(self.connection, _SAVEPOINT)
        return True

    @property
    def _dialect(self) -> sa.Dialect:
        return self.connection.dialect

    @property
    def has_transactional_ddl(self) -> bool:
        """Whether creating a table or adding a column can be rolled back."""
        return True

    def rehearse(self, plan: Plan, *, exists: bool) -> None:
        """Does what a commit would do, without rows, and rolls it back: what is forbidden is found before any call.

        What cannot be rolled back is tried on an auxiliary table, which is then dropped.
        """
        if not self.has_transactional_ddl:
            if not exists:
                check = self.auxiliary("__check")
                self.run(f"DROP TABLE IF EXISTS {check.place}")
                check.create(plan)
                self.run(f"DROP TABLE {check.place}")
                return
            plan = plan._replace(columns=[each for each in plan.columns if each not in plan.added], added=())
        try:
            if not self.try_begin():
                return  # another sync is at work, so writing is allowed
            if not exists:
                self.create(plan)
            for column in plan.added if exists else ():
                self.add(column, plan)
            self.probe(plan)
        finally:
            self.rollback()

    def probe(self, plan: Plan) -> None:
        """Runs the statements of a commit in a form that writes no row."""
        names = self.list_of(column.name for column in plan.columns)
        if not names:
            return
        self.run(f"INSERT INTO {self.place} ({names}) {self.OVERRIDING} SELECT {names} FROM {self.place} WHERE 1 = 0")
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place} WHERE 1 = 0")
        if plan.key and (others := plan.others):
            name = self.quote(others[0])
            self.run(f"UPDATE {self.place} SET {name} = {name} WHERE 1 = 0")
