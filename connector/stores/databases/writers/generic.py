"""Databases without a module of their own, above all warehouses: through SQLAlchemy, in standard SQL.

Rows enter by multi-row INSERTs. An upsert goes through a staging table: by MERGE in warehouses; elsewhere by an UPDATE
of existing rows and an INSERT of the rest, in one transaction where the database has transactions.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from connector.stores.databases.loading import base, kinds
from connector.stores.databases.loading.base import Batch, Column, Plan, Table
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Rules
from connector.stores.databases.syntax import with_parameters

_TYPES: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "boolean": sa.Boolean(),
    "integer": sa.BigInteger(),
    "double": sa.Double(),
    "text": sa.Text(),
    "date": sa.Date(),
    "timestamp": sa.DateTime(),
    "bytes": sa.LargeBinary(),
}
_DIGITS: Final = 38
_WITHOUT_SAVEPOINTS: Final = ("bigquery", "databricks", "redshift", "snowflake")
_WITHOUT_UNDO: Final = ("bigquery", "databricks", "snowflake")
"""Databases in which DDL ends the transaction."""
_MERGES: Final = ("bigquery", "databricks", "redshift", "snowflake")
"""Databases that have MERGE; it is Databricks' only way to update a table from another one."""
_NEW: Final = "connector_new"  # alias of the staging table: no table of the user has that name
_ROW_STATES: Final = ("22", "23", "44", "P0001")
"""Prefixes of the SQLSTATEs about a row: data, integrity, a view's CHECK OPTION, a trigger's RAISE."""


class Writer(base.Writer):
    """See `base.Writer`. There is no lock: only one sync at a time may write to a table."""

    RULES = Rules(longest=63)
    has_nul = False

    def try_begin(self) -> bool:
        """See `base.Writer.try_begin`."""
        return True

    def table(self) -> Table | None:
        """See `base.Writer.table`."""
        inspector, name = sa.inspect(self.connection), sa.quoted_name(self.name, quote=True)
        if not inspector.has_table(name, self.schema or None):
            return None
        columns = [
            Column(
                self._as_it_is(each["name"]),
                _kind(each["type"]),
                not each["nullable"] and each.get("default") is None and not each.get("identity"),
            )
            for each in inspector.get_columns(name, self.schema or None)
        ]
        return Table({column.name: column for column in columns})

    def _as_it_is(self, name: str) -> str:
        """Returns a column's name as it is in the database, where SQLAlchemy has lower-cased it."""
        dialect = self.connection.dialect
        return str(dialect.denormalize_name(name)) if dialect.requires_name_normalize else name

    def native(self, kind: Kind) -> str:
        """See `base.Writer.native`."""
        type_ = sa.Numeric(kind.size + kind.scale, kind.scale) if kind.name == "decimal" else _TYPES[kind.name]
        return type_.compile(self.connection.dialect)

    def supported(self, kind: Kind) -> Kind:
        """See `base.Writer.supported`."""
        match kind.name:
            case "decimal":
                wide = Kind("decimal", max(kind.size, min(18, _DIGITS - kind.scale)), kind.scale)
                return wide if kind.size and wide.size + wide.scale <= _DIGITS else kinds.TEXT
            case "null":
                return kind
        return kind if kind.name in _TYPES else kinds.TEXT

    def try_run(self, *statements: str) -> bool:  # noqa: ARG002 - the contract's
        """Runs nothing: where DDL ends the transaction, it would publish the rows written so far."""
        return False

    def change(self, column: Column, kind: Kind, plan: Plan) -> None:  # noqa: ARG002 - the contract's
        """See `base.Writer.change`."""
        how = "SET DATA TYPE" if self.connection.dialect.name in ("bigquery", "snowflake") else "TYPE"
        self.run(f"ALTER TABLE {self.place} ALTER COLUMN {self.quote(column.name)} {how} {self.native(kind)}")

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """See `base.Writer.try_change`. Without savepoints it rolls everything back: nothing has been written yet."""
        if self.connection.dialect.name not in _WITHOUT_SAVEPOINTS:
            return super().try_change(column, kind, plan)
        try:
            self.change(column, kind, plan)
        except SQLAlchemyError as error:
            self.rollback()
            return self.message_of(getattr(error, "orig", None) or error)
        return ""

    def is_unique(self, key: Sequence[str]) -> bool:  # noqa: ARG002 - the contract's
        """See `base.Writer.is_unique`. Always false: warehouses enforce no key, so duplicates are looked for."""
        return False

    def make_unique(self, key: Sequence[str]) -> None:
        """Does nothing: the upsert itself keeps the key unique."""

    def drop_key(self) -> None:
        """Does nothing: no index was created."""

    def try_savepoint(self, plan: Plan) -> bool:
        """See `base.Writer.try_savepoint`. An overwrite that changes types ends the transaction in many databases."""
        return self.connection.dialect.name not in _WITHOUT_SAVEPOINTS and not plan.changed and self.set_savepoint()

    @property
    def has_transactional_ddl(self) -> bool:
        """See `base.Writer.has_transactional_ddl`."""
        return self.connection.dialect.name not in _WITHOUT_UNDO

    def is_about_row(self, error: Any) -> bool:
        """See `base.Writer.is_about_row`."""
        told = error.args[0] if error.args else None
        state = told.get("C") if isinstance(told, dict) else getattr(error, "sqlstate", None)
        return str(state or "").startswith(_ROW_STATES)

    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """See `base.Writer.write`."""
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place}")
            for column, kind in plan.changed:
                self.change(column, kind, plan)
        if not plan.key:
            self._insert(self.place, plan, batches)
            return
        stage = self.auxiliary_place("__stage")
        self.run(f"DROP TABLE IF EXISTS {stage}")
        row, names = self.quote(plan.order), self.list_of(column.name for column in plan.columns)
        number = f"CAST(0 AS {self.native(kinds.INTEGER)}) AS {row}"
        self.run(f"CREATE TABLE {stage} AS SELECT {names}, {number} FROM {self.place} WHERE 1 = 0")
        numbered = plan._replace(columns=[*plan.columns, Column(plan.order, kinds.INTEGER)])
        self._insert(stage, numbered, _numbered(batches))
        bare = self.quote(self.auxiliary("__stage").name)
        later = " AND ".join(f"n.{self.quote(name)} = {bare}.{self.quote(name)}" for name in plan.key)
        self.run(f"DELETE FROM {stage} WHERE EXISTS (SELECT 1 FROM {stage} n WHERE {later} AND n.{row} > {bare}.{row})")
        self._move(plan, stage)
        self.run(f"DROP TABLE {stage}")

    def _move(self, plan: Plan, stage: str) -> None:
        """Upserts the rows of the staging table, no two of which have the same key, into the table."""
        table = self.quote(self.name)
        same = " AND ".join(f"{table}.{self.quote(name)} = {_NEW}.{self.quote(name)}" for name in plan.key)
        names = [column.name for column in plan.columns]
        given = self.list_of(names, f"{_NEW}.")
        values = ", ".join(f"{self.quote(name)} = {_NEW}.{self.quote(name)}" for name in plan.others or plan.key)
        if self.connection.dialect.name in _MERGES:
            self.run(
                f"MERGE INTO {self.place} USING {stage} {_NEW} ON {same} WHEN MATCHED THEN UPDATE SET {values} "
                f"WHEN NOT MATCHED THEN INSERT ({self.list_of(names)}) VALUES ({given})"
            )
            return
        if plan.others:
            self.run(f"UPDATE {self.place} SET {values} FROM {stage} {_NEW} WHERE {same}")
        self.run(
            f"INSERT INTO {self.place} ({self.list_of(names)}) SELECT {given} FROM {stage} {_NEW} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.place} WHERE {same}) ORDER BY {_NEW}.{self.quote(plan.order)}"
        )

    def _insert(self, place: str, plan: Plan, batches: Iterator[Batch]) -> None:
        named = sa.quoted_name(with_parameters(place, self.connection.dialect), quote=False)
        names = [sa.quoted_name(column.name, quote=True) for column in plan.columns]
        table = sa.table(named, *map(sa.column, names))
        convert = [_written(column.kind) for column in plan.columns]
        for batch in batches:
            cells = [list(map(each, values)) for each, values in zip(convert, batch, strict=True)]
            rows = [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]
            self.connection.execute(sa.insert(table), rows)


def _numbered(batches: Iterator[Batch]) -> Iterator[Batch]:
    start = 0
    for batch in batches:
        count = len(batch[0])
        yield [*batch, range(start, start + count)]
        start += count


def _kind(type_: Any) -> Kind:
    match type_:
        case sa.Boolean():
            return kinds.BOOLEAN
        case sa.SmallInteger():
            return Kind("integer", 16)
        case sa.BigInteger():
            return kinds.INTEGER
        case sa.Integer():
            return Kind("integer", 32)
        case sa.Float():
            return kinds.DOUBLE
        case sa.Numeric():
            scale = int(type_.scale or 0)
            return Kind("decimal", int(type_.precision or _DIGITS) - scale, scale)
        case sa.String():
            return Kind("text", int(type_.length or 0), int(isinstance(type_, sa.CHAR)))
        case sa.DateTime():
            return kinds.OTHER if type_.timezone else kinds.TIMESTAMP
        case sa.Date():
            return kinds.DATE
        case sa.LargeBinary():
            return kinds.BYTES
    return kinds.OTHER


def _written(kind: Kind) -> Callable[[Any], Any]:
    match kind.name:
        case "timestamp":
            return lambda value: None if value is None else dt.datetime.fromisoformat(value)
        case "date":
            return lambda value: None if value is None else dt.date.fromisoformat(value)
    return lambda value: value
