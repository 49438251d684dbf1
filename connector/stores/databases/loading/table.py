"""Rows on their way into a table: they wait in a file, and enter it in one transaction.

A commit goes like this: it gets the table for itself; looks what the table is now; reads the rows once to see which
kinds of columns they need; makes or widens columns; reads the rows again, and loads them. A row that the table cannot
hold unchanged, though its columns were widened as far as they can be, is left out with a warning that says why.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from connector.base import numbers
from connector.base.errors import ConfigError, ConnectorError, DatabaseUnavailableError, StorageError
from connector.base.records import JSON, Record, Schema, merged
from connector.base.streams import Target
from connector.stores.databases import writers
from connector.stores.databases.connection import RESTART, WAITS, Database
from connector.stores.databases.loading import kinds
from connector.stores.databases.loading.base import PATIENCE, Batch, Column, Plan, Table, Writer
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Names
from connector.stores.staging.spool import Spool

_ROWS: Final = 1_000
_BYTES: Final = 1 << 22
_WAITS: Final = (*WAITS, *RESTART)  # seconds before a commit is done again
_PAUSE: Final = 1  # seconds between two looks at a file that another program has
_TOLD: Final = 5  # reasons of rows that are left out, at most, are named
_LOG: Final = logging.getLogger(__name__)

_SOME: Final[Mapping[str, Schema]] = {"id": {"type": "integer"}}  # where no column is known yet


class Rows(NamedTuple):
    """Some rows, and whether a text in them may hold the character NUL."""

    values: list[dict[str, JSON]]
    may_have_nul: bool = False


class Appender:
    """A `Sink` over one table; see `Store.sink`, and `Target.mode` for what becomes of the rows that are there.

    Args:
        name: The table, or schema.table.
        spool: Where the rows wait.
        columns: The columns that are known, with their schemas.

    Raises:
        ConfigError: The primary key names a column that is not there.
    """

    def __init__(
        self, database: Database, name: str, spool: Spool, columns: Mapping[str, Schema], target: Target | None
    ) -> None:
        self._database = database
        self._writer = writers.load(database.kind, database.engine.dialect.driver)
        self._name = name
        self._spool = spool
        self._columns = columns
        self._target = target or Target("")
        self._ticket: Any = None
        self._refused = _Refused(name)
        self.left_out = 0
        if missing := [column for column in self._target.primary_key if columns and column not in columns]:
            raise ConfigError(
                f'{name}: there is no column "{missing[0]}", which the primary key names: '
                "name columns of the stream as its primary key"
            )

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        self._spool.write(record.index, None if added is None else merged(record.data, added))

    def flush(self) -> None:
        """Does nothing: the rows enter the table together."""

    def rehearse(self) -> None:
        """Does what a commit would do, but for the rows, and undoes it.

        Raises:
            ConfigError: The database forbids some of it.
        """
        self._patiently(self._rehearse, ConfigError, WAITS)

    def commit(self) -> None:
        """See `Sink.commit`. Until it returns, readers see what was there before."""
        self._patiently(self._enter, StorageError, _WAITS)

    def _patiently(
        self, act: Callable[[sa.Connection], None], kind: type[ConnectorError], waits: Iterable[float]
    ) -> None:
        """Acts over a connection, again where one fails. A file of DuckDB, which one program has, is waited for."""
        pauses, waited = iter(waits), 0
        while True:
            try:
                with self._database.connect(kind) as connection:
                    return act(connection)
            except DatabaseUnavailableError as error:
                if "set lock" in error.message and waited < PATIENCE:
                    pause: float = _PAUSE
                    if not waited:
                        self._tell_waiting()
                    waited += _PAUSE
                else:
                    pause = next(pauses, 0.0)
                    if not pause:
                        raise
            time.sleep(pause)

    def _tell_waiting(self) -> None:
        _LOG.warning("%s: another program is writing there: waiting for it", self._name)

    def _rehearse(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        table = writer.table()
        columns = self._columns or ({} if table else _SOME)
        plan = _Layout(writer, table, columns, self._target).plan()
        writer.rehearse(plan, exists=table is not None)
        if table is not None and plan.key and set(plan.key) <= set(table.columns) and not writer.is_unique(plan.key):
            writer.check_key(plan.key)

    def _enter(self, connection: sa.Connection) -> None:
        writer = self._writer(connection, self._name)
        writer.begin(self._tell_waiting)
        if self._ticket is None or not writer.was_done(self._ticket):
            self._load(writer)
            self._ticket = writer.ticket()
            writer.end()
        self.left_out = self._refused.count
        self._refused.tell()

    def _load(self, writer: Writer) -> None:
        table = writer.table()
        layout = _Layout(writer, table, self._columns, self._target)
        for rows in self._batches():
            layout.learn(rows)
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

        def batches() -> Iterator[Batch]:
            refused.clear()
            return filter(None, map(loader.batch, self._batches()))

        writer.load(plan, batches, refused.add)

    def _batches(self) -> Iterator[Rows]:
        """Yields the rows; decoding many at once takes a third of the time."""
        lines: list[bytes] = []
        size = 0
        for line in self._spool.lines():
            lines.append(line)
            size += len(line)
            if len(lines) == _ROWS or size > _BYTES:
                yield _decoded(lines)
                lines, size = [], 0
        if lines:
            yield _decoded(lines)


def _decoded(lines: list[bytes]) -> Rows:
    text = b"[%b]" % b",".join(lines)
    return Rows(numbers.loads(text), b"\\u0000" in text)


class _Layout:
    """Which column takes the values of which name, and of which kind each column has to be."""

    def __init__(self, writer: Writer, table: Table | None, schemas: Mapping[str, Schema], target: Target) -> None:
        self._writer = writer
        self._target = target
        self._existing = {} if table is None else table.columns
        self.names = Names(writer.RULES, self._existing, schemas)
        self._is_kept = target.mode != "overwrite"  # the kinds that columns have, count
        self.kinds: dict[str, Kind] = {}
        self.widened: set[str] = set()
        self._seen: set[str] = set()
        self._schemas = schemas
        for name in schemas:
            self._meet(name)

    def learn(self, rows: Rows) -> None:
        """Widens the columns so far that they hold these rows."""
        for keys in {tuple(row): None for row in rows.values}:
            for name in keys:
                if name not in self.kinds:
                    self._meet(name)
        for name, kind in self.kinds.items():
            values = [row.get(name) for row in rows.values]
            if not kinds.fits(kind, values):
                self.kinds[name] = self._widened(name, kind, values)
                self.widened.add(name)
            if name not in self._seen and any(value is not None for value in values):
                self._seen.add(name)

    def _meet(self, name: str) -> None:
        column = self._existing.get(self.names.column(name))
        wanted = self._supported(name, kinds.of_schema(self._schemas.get(name, {})))
        is_same = column is not None and (
            self._is_kept or (wanted.name == column.kind.name and wanted.name != "vector")
        )
        self.kinds[name] = column.kind if column is not None and is_same else wanted

    def _supported(self, name: str, kind: Kind) -> Kind:
        found = self._writer.supported(kind)
        return self._writer.in_key(found) if name in self._target.primary_key else found

    def _widened(self, name: str, kind: Kind, values: Sequence[JSON]) -> Kind:
        is_new = self.names.column(name) not in self._existing or not self._is_kept
        if kind.name == "vector" and not is_new:
            return kind  # another length is another model's: an index over the column must not be lost
        if kind == kinds.TIMESTAMP_TZ and is_new and name not in self._seen and kinds.fits(kinds.TIMESTAMP, values):
            return kinds.TIMESTAMP
        if kind.name in kinds.MOMENTS and kind.size and kinds.fits(Kind(kind.name), values):
            return Kind(kind.name)
        needed = kinds.natural(values)
        found = kinds.vector_of(values) if kind == kinds.VECTOR else kinds.merged(kind, needed)
        if found.name == "decimal":
            found = kinds.merged(kind, kinds.decimal_of(values))
        if kind == kinds.TEXT and is_new and not self._is_declared(name):
            found = kinds.JSON_TEXT if any(isinstance(each, dict | list) for each in values) else found
        found = self._supported(name, found)
        before = self._existing.get(self.names.column(name))
        if before is not None and before.kind.name == found.name and kinds.fits(before.kind, values):
            return before.kind
        return found if kinds.fits(found, values) else self._supported(name, kinds.TEXT)

    def _is_declared(self, name: str) -> bool:
        return kinds.of_schema(self._schemas.get(name, {})) != kinds.NULL

    def plan(self) -> Plan:
        """Returns what to do to the table, as far as the rows are known."""
        columns, added, changed = [], [], []
        for name, kind in self.kinds.items():
            whole = self._supported(name, kinds.TEXT) if kind in (kinds.NULL, kinds.VECTOR) else kind
            whole = self._supported(name, kinds.JSON_TEXT) if whole == Kind("array", item=kinds.NULL) else whole
            column = Column(self.names.column(name), whole)
            before = self._existing.get(column.name)
            if before is None:
                added.append(column)
            elif kind not in (kinds.NULL, before.kind):
                changed.append((before, whole))
            else:
                column = before
            columns.append(column)
        key = [self.names.column(name) for name in self._target.primary_key]
        return Plan(self._target.mode, columns, added, changed, key)

    def prepared(self, plan: Plan) -> Plan:
        """Adds and widens columns; returns the plan with the kinds that they have now."""
        now = {column.name: column for column in plan.columns}
        for column in plan.added:
            self._writer.add(column, plan)
        if plan.mode == "overwrite":
            return plan
        for before, kind in plan.changed:
            problem = self._writer.try_change(before, kind, plan)
            if problem:
                now[before.name] = before
            how = f"cannot become {kind} ({problem}), which" if problem else f"becomes {kind}, because"
            _LOG.warning(
                '%s: the column "%s", of the kind %s, %s rows of this sync need it',
                self._writer.name, before.name, before.kind, how,
            )  # fmt: skip
        return plan._replace(columns=[now[column.name] for column in plan.columns], changed=())


class _Refused:
    """The rows that are left out, and why."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self._reasons: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        self.count += 1
        if reason in self._reasons or len(self._reasons) < _TOLD:
            self._reasons[reason] += 1

    def tell(self) -> None:
        """Warns about them."""
        if self.count:
            told = [reason if count == 1 else f"{reason} ({count:,} rows)" for reason, count in self._reasons.items()]
            more = "" if self._reasons.total() == self.count else "; …"
            _LOG.warning("%s: rows left out: %s: %s%s", self._place, f"{self.count:,}", "; ".join(told), more)


class _Loader:
    """Turns rows into what a database takes."""

    def __init__(self, writer: Writer, layout: _Layout, plan: Plan, refused: _Refused) -> None:
        names = {column: name for name, column in layout.names.columns.items()}
        self._columns = [
            (
                names[column.name],
                column.kind,
                column.kind == layout.kinds[names[column.name]] and names[column.name] not in layout.widened,
                _optional(kinds.converter(column.kind)),
                column.is_required,
                None if writer.has_nul else _nul_in(column.kind),
            )
            for column in plan.columns
        ]
        self._refused = refused

    def batch(self, rows: Rows) -> Batch | None:
        """Returns the rows as columns, without those that the table cannot hold; `None` if none is left."""
        result = []
        bad: dict[int, str] = {}
        for name, kind, is_known, convert, is_required, has_nul in self._columns:
            values = [row.get(name) for row in rows.values]
            try:
                is_ready = (is_known and kind.name in kinds.TEXTS) or kinds.are_ready(kind, values)
                made = values if is_ready else list(map(convert, values))
            except ValueError:
                made = [_tried(convert, value, index, name, bad) for index, value in enumerate(values)]
            if is_required and None in made:
                missing = (index for index, value in enumerate(made) if value is None)
                bad |= {
                    index: f'"{name}" is null, which the table does not take' for index in missing if index not in bad
                }
            if has_nul is not None and rows.may_have_nul:
                found = (index for index, value in enumerate(made) if has_nul(value))
                bad |= dict.fromkeys(found, f'"{name}" holds the character NUL, which the database does not take')
            result.append(made)
        if not bad:
            return result
        for index in sorted(bad):
            self._refused.add(bad[index])
        kept = [index not in bad for index in range(len(rows.values))]
        return [list(compress(values, kept)) for values in result] if any(kept) else None


def _optional(convert: Callable[[JSON], Any]) -> Callable[[JSON], Any]:
    return lambda value: None if value is None else convert(value)


def _tried(convert: Callable[[JSON], Any], value: JSON, index: int, name: str, bad: dict[int, str]) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        bad[index] = f'"{name}": {error}'
        return None


def _nul_in(kind: Kind) -> Callable[[Any], bool] | None:
    """Returns what finds the character NUL in a value of a kind; `None` where there can be none."""
    if kind.name == "json":
        return lambda value: value is not None and "\\u0000" in value and _has_nul(numbers.loads(value))
    if kind.name in ("text", "ascii", "other"):
        return lambda value: value is not None and "\0" in value
    if kind.name == "array" and kind.item.name == "text":
        return lambda value: value is not None and _has_nul(value)
    return None


def _has_nul(value: JSON) -> bool:
    """Returns whether a text or a key somewhere in a value holds the character NUL."""
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
