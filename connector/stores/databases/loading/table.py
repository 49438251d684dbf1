"""Rows on their way into a table: they wait in a file, and enter the table in one transaction.

On their way into the file, a `Layout` learns which kinds of columns they need in the table as it is then. A commit
locks out other syncs; looks at the table again and, if it has changed, learns again from the file; creates the table,
or adds and widens columns; then loads the rows from the file. A row that the table cannot hold unchanged, even with its
columns widened as far as they can be, is left out, with a warning that says which and why.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Final, cast

import sqlalchemy as sa

from connector.base import numbers
from connector.base.errors import ConfigError, ConnectorError, DatabaseUnavailableError, StorageError
from connector.base.records import JSON, Record, Schema, merged
from connector.base.streams import Target
from connector.stores.databases import writers
from connector.stores.databases.connection import RESTART, WAITS, Database
from connector.stores.databases.loading import kinds
from connector.stores.databases.loading.base import PATIENCE, Batch, Plan, Table, Writer
from connector.stores.databases.loading.block import Block
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.layout import Layout
from connector.stores.databases.loading.marks import Fingerprint, Marks
from connector.stores.databases.loading.waiting import Waiting
from connector.stores.staging.shapes import Table as Shape
from connector.stores.staging.spool import Spool

_WAITS: Final = (*WAITS, *RESTART)  # seconds before each retry of a commit
_PAUSE: Final = 1  # seconds between two attempts at a file that another program has open
_TOLD: Final = 5  # most reasons that a warning about left-out rows gives
_NAMED: Final = 3  # most rows that it names for one reason
_LOG: Final = logging.getLogger(__name__)

_SOME: Final[Mapping[str, Schema]] = {"id": {"type": "integer"}}  # where no column is known yet


class Appender:
    """A `Sink` for one table; see `Store.sink`, and `Target.mode` for what happens to existing rows.

    Args:
        name: The table, or schema.table.
        spool: Where the rows wait.
        columns: The columns that are known, with their schemas.
        primary_key: The columns by which warnings name a row, where the target has no key.
        added: The columns that the run adds to the rows.

    Raises:
        ConfigError: The primary key names a column that does not exist.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        spool: Spool,
        columns: Mapping[str, Schema],
        target: Target | None,
        primary_key: Sequence[str] = (),
        added: Collection[str] = (),
    ) -> None:
        self._database = database
        self._writer = writers.load(database.kind, database.engine.dialect.driver)
        self._name = name
        self._waiting = Waiting(spool, self._learn)
        self._columns = columns
        self._target = target or Target("")
        self._layout: Layout | None = None
        self._shape = Shape(name, keeps_case=True)
        self._ticket: Any = None
        self._added = added
        self._mark = ""
        self._refused = _Refused(name, self._target.primary_key or primary_key)
        self.left_out = 0
        if missing := [column for column in self._target.primary_key if columns and column not in columns]:
            raise ConfigError(
                f'{name}: there is no column "{missing[0]}", which the primary key names: '
                "name columns of the stream as its primary key"
            )

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        self._waiting.write(
            record.index, merged(record.data, added) if added else None if added is None else record.data
        )

    def flush(self) -> None:
        """Does nothing: `commit` writes all rows together."""

    def rehearse(self) -> None:
        """Does what a commit would do, without rows, and rolls it back.

        Raises:
            ConfigError: The database forbids some of it.
        """
        self._with_retries(self._rehearse, ConfigError, WAITS)

    def commit(self) -> None:
        """See `Sink.commit`. Until it returns, readers see the table as it was."""
        self._waiting.finish()
        self._with_retries(self._enter, StorageError, _WAITS)

    def end(self) -> None:
        """Removes the mark of the commit, which stays only if the run is killed before this."""
        if self._mark:
            try:
                self._with_retries(self._unmark, StorageError, WAITS)
            except ConnectorError as error:
                _LOG.warning(
                    "%s: the table %s__commit is left behind, so that the same run would add no rows: drop it: %s",
                    self._name, self._name, error.message,
                )  # fmt: skip

    def _unmark(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        writer.begin(self._warn_waiting)
        marks = Marks(writer)
        if marks.are_there():
            marks.remove(self._mark)
        writer.commit()

    def _with_retries(
        self, act: Callable[[sa.Connection], None], kind: type[ConnectorError], waits: Iterable[float]
    ) -> None:
        """Calls `act` with a connection, and retries if that fails. Waits for a DuckDB file that is open elsewhere."""
        pauses, waited = iter(waits), 0
        while True:
            try:
                with self._database.connect(kind) as connection:
                    return act(connection)
            except DatabaseUnavailableError as error:
                if "set lock" in error.message and waited < PATIENCE:
                    pause: float = _PAUSE
                    if not waited:
                        self._warn_waiting()
                    waited += _PAUSE
                else:
                    pause = next(pauses, 0.0)
                    if not pause:
                        raise
            time.sleep(pause)

    def _warn_waiting(self) -> None:
        _LOG.warning("%s: another program is writing there: waiting for it", self._name)

    def _rehearse(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        table = writer.table()
        self._layout = Layout(writer, table, self._columns, self._target)
        plan = (self._layout if self._columns or table else Layout(writer, table, _SOME, self._target)).plan()
        writer.rehearse(plan, exists=table is not None)
        self._warn_required(table, plan)
        if table is not None and plan.key and set(plan.key) <= set(table.columns) and not writer.is_unique(plan.key):
            writer.check_key(plan.key)

    def _warn_required(self, table: Table | None, plan: Plan) -> None:
        """Warns, before anything is paid for, of required columns that the rows do not have."""
        given = {column.name for column in plan.columns}
        for column in table.columns.values() if table and self._columns else ():
            if column.is_required and column.name not in given:
                _LOG.warning(
                    '%s: the column "%s" takes no null and has no default: rows without it will be left out',
                    self._name, column.name,
                )  # fmt: skip

    def _enter(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        writer.begin(self._warn_waiting)
        is_done = (self._ticket is not None and writer.was_committed(self._ticket)) or self._was_done(writer)
        if not is_done:
            self._load(writer)
            self._ticket = writer.ticket()
            writer.commit()
        self.left_out = self._refused.count
        self._refused.tell()

    def _was_done(self, writer: Writer) -> bool:
        """Returns whether an earlier run, which did not finish, has added the rows already."""
        marks = Marks(writer)
        if not self._is_marking or not marks.are_there():
            return False
        seen = self._fingerprint()
        deque(seen.of(self._waiting.blocks()), maxlen=0)
        was_committed = marks.has(seen.mark()) and writer.has_rows()
        if was_committed:
            self._mark = seen.mark()
            _LOG.warning(
                "%s: the table has these rows already: an earlier run added them, but did not finish; to add them a "
                "second time, run it again", self._name,
            )  # fmt: skip
        return was_committed

    @property
    def _is_marking(self) -> bool:
        """Whether the rows would be added twice if the run were killed after its commit and started again."""
        return bool(self._target.job) and self._target.mode == "append"

    def _fingerprint(self) -> Fingerprint:
        return Fingerprint(self._target.job, self._added)

    def _load(self, writer: Writer) -> None:
        table = writer.table()
        layout = self._layout_of(table, writer)
        plan = layout.plan()
        if table is None:
            writer.create(plan)
        else:
            plan = layout.prepared(plan)
        if plan.key:
            writer.require_key(plan)
        elif table is not None:
            writer.drop_key()
        refused = self._refused
        loader = _Loader(writer, layout, plan, refused)

        marks = Marks(writer)
        is_marked = self._is_marking and marks.make()
        if self._target.mode == "overwrite" and marks.are_there():
            marks.remove_all()
        seen = self._fingerprint()

        def batches() -> Iterator[Batch]:
            nonlocal seen
            refused.clear()
            seen = self._fingerprint()
            blocks = self._waiting.blocks()
            return filter(None, map(loader.batch, seen.of(blocks) if is_marked else blocks))

        writer.load(plan, batches, loader.refuse)
        if is_marked:
            self._mark = seen.mark()
            marks.leave(self._mark)

    def _learn(self, block: Block) -> None:
        """Learns from rows on their way into the file, for the table as it is when the first of them comes."""
        if self._layout is None:
            self._with_retries(self._look, StorageError, _WAITS)
        layout = cast("Layout", self._layout)
        layout.learn(block)
        self._shape.take(block.columns, len(layout.kinds), block.size, block.filled)

    def _look(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        self._layout = Layout(writer, writer.table(), self._columns, self._target)

    def _layout_of(self, table: Table | None, writer: Writer) -> Layout:
        """Returns the layout for the table as it is now; if it has changed, learns again from all rows."""
        if self._layout is None or self._layout.table != table:
            self._layout = Layout(writer, table, self._columns, self._target)
            for block in self._waiting.blocks():
                self._layout.learn(block)
        return self._layout.over(writer)


class _Refused:
    """The rows that are left out, and why. Warnings name a row by the columns `label`, or by its first one."""

    def __init__(self, place: str, label: Sequence[str]) -> None:
        self._place = place
        self._label = label
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self._rows: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, row: Mapping[str, Any]) -> None:
        self.count += 1
        if reason not in self._rows and len(self._rows) == _TOLD:
            return
        self._counts[reason] += 1
        named = self._rows.setdefault(reason, [])
        if len(named) < _NAMED:
            label = [name for name in self._label if name in row] or list(row)[:1]
            named.append(", ".join(f"{name} = {kinds.quoted(row[name])}" for name in label))

    def tell(self) -> None:
        """Logs a warning about them."""
        if self.count:
            told = [f"{reason} ({self._called(reason)})" for reason in self._rows]
            more = "" if self._counts.total() == self.count else "; …"
            _LOG.warning("%s: rows left out: %s: %s%s", self._place, f"{self.count:,}", "; ".join(told), more)

    def _called(self, reason: str) -> str:
        count, named = self._counts[reason], self._rows[reason]
        rows = "; ".join(named)
        return rows if count == 1 else f"{count:,} rows: {rows}{'' if count == len(named) else '; …'}"


class _Loader:
    """Converts rows into what the database takes."""

    def __init__(self, writer: Writer, layout: Layout, plan: Plan, refused: _Refused) -> None:
        names = {column: name for name, column in layout.names.columns.items()}
        self._names = [names[column.name] for column in plan.columns]
        self._columns = [
            (
                name,
                column.kind,
                column.kind == layout.kinds[name] and name not in layout.unready,
                kinds.converter(column.kind),
                column.is_required,
                None if writer.has_nul else _nul_in(column.kind),
                writer.YEARS if column.kind.name in kinds.MOMENTS else None,
            )
            for name, column in zip(self._names, plan.columns, strict=True)
        ]
        self._refused = refused

    def refuse(self, reason: str, row: Sequence[Any]) -> None:
        """Records a row that the database has refused."""
        self._refused.add(reason, dict(zip(self._names, row, strict=True)))

    def batch(self, block: Block) -> Batch | None:
        """Returns the rows as columns, without those that the table cannot hold; `None` if no row is left."""
        result: list[Sequence[Any]] = []
        nulls = [None] * block.size
        bad: dict[int, str] = {}
        for name, kind, is_ready, convert, is_required, has_nul, years in self._columns:
            values = block.columns.get(name, nulls)
            try:
                made = values if is_ready else kinds.column_of(kind, values)
            except ValueError:
                made = [_tried(convert, value, index, name, bad) for index, value in enumerate(values)]
            if is_required and None in made:
                missing = (index for index, value in enumerate(made) if value is None)
                bad |= {
                    index: f'"{name}" is null, which the table does not allow' for index in missing if index not in bad
                }
            if has_nul is not None and block.may_have_nul:
                found = (index for index, value in enumerate(made) if has_nul(value))
                bad |= dict.fromkeys(found, f'"{name}" holds the character NUL, which the database cannot store')
            if years is not None:
                beyond = (index for index in kinds.beyond(made, years) if index not in bad)
                bad |= {
                    index: f'"{name}" is {values[index]}, a time that the database cannot store' for index in beyond
                }
            result.append(made)
        if not bad:
            return result
        for index in sorted(bad):
            self._refused.add(bad[index], block.row(index))
        kept = [index not in bad for index in range(block.size)]
        return [list(compress(values, kept)) for values in result] if any(kept) else None


def _tried(convert: Callable[[JSON], Any], value: JSON, index: int, name: str, bad: dict[int, str]) -> Any:
    try:
        return None if value is None else convert(value)
    except ValueError as error:
        bad[index] = f'"{name}": {error}'
        return None


def _nul_in(kind: Kind) -> Callable[[Any], bool] | None:
    """Returns a test for the character NUL in a value of a kind; `None` where there can be none."""
    if kind.name == "json":
        return lambda value: value is not None and "\\u0000" in value and _has_nul(numbers.loads(value))
    if kind.name in ("text", "ascii", "other"):
        return lambda value: value is not None and "\0" in value
    if kind.name == "array" and kind.item.name in ("text", "other"):
        return lambda value: value is not None and _has_nul(value)
    return None


def _has_nul(value: JSON) -> bool:
    """Returns whether any text or key inside a value holds the character NUL."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str) and "\0" in each:
            return True
        if isinstance(each, dict):
            stack += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            stack += each
    return False
