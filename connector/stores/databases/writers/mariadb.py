"""MariaDB and MySQL: rows enter by multi-row INSERTs, upserts by ON DUPLICATE KEY, one sync at a time by GET_LOCK.

DDL cannot be rolled back, so an overwrite that changes types fills a new table, and swaps it for the old one by RENAME,
which is atomic for readers.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from connector.base.errors import StorageError
from connector.base.regex import regex
from connector.stores.databases.loading import base, kinds
from connector.stores.databases.loading.base import (
    LOCK_WAIT,
    PATIENCE,
    Batch,
    Column,
    Plan,
    Refuse,
    RowError,
    Table,
    escaped,
    literals,
    table_of,
    texts,
)
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.marks import Marks
from connector.stores.databases.loading.names import Rules, shortened

_LOG: Final = logging.getLogger(__name__)
_MODE: Final = (
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_AUTO_VALUE_ON_ZERO"
)
_NATIVE: Final = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "text": "LONGTEXT CHARACTER SET utf8mb4",
    "json": "JSON",
    "date": "DATE",
    "time": "TIME(6)",
    "datetime": "DATETIME(6)",
    "uuid": "UUID",
    "bytes": "LONGBLOB",
}
_INTEGERS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_COLUMNS: Final = """
SELECT column_name, data_type, column_type, character_maximum_length, character_set_name, numeric_precision,
numeric_scale, is_nullable, column_default, extra, datetime_precision FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name ORDER BY ordinal_position
"""
_JSON: Final = """
SELECT check_clause FROM information_schema.check_constraints
WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
"""
_INDEXES: Final = """
SELECT index_name, column_name, sub_part FROM information_schema.statistics
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND non_unique = 0
"""
_COLLATIONS: Final = """
SELECT column_name, column_type, collation_name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND collation_name IS NOT NULL
"""
_TYPE: Final = """
SELECT column_type, character_set_name, collation_name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND column_name = :column
"""
_TRIGGERS: Final = """
SELECT trigger_name FROM information_schema.triggers WHERE event_manipulation = 'UPDATE'
AND event_object_schema = COALESCE(:schema, DATABASE()) AND event_object_table = :name
"""
_CHARSET: Final = regex(r"\A(?: CHARACTER SET \w+)?(?: COLLATE \w+)?")
_NO_REST: Final = " DEFAULT NULL"
_RULE: Final = regex(
    r"  (?P<whole>(?:(?P<check>CONSTRAINT)|(?:\w++ )?KEY) (?:(?P<name>`(?:[^`]|``)++`) )?(?:CHECK )?(?P<about>\(.*))"
)
"""Matches an index or a CHECK, not a foreign key, in a line of SHOW CREATE TABLE; the primary key has no name."""
_LOST: Final = """
SELECT CONCAT('its trigger ', trigger_name) FROM information_schema.triggers
WHERE event_object_schema = COALESCE(:schema, DATABASE()) AND event_object_table = :name
UNION SELECT CONCAT('the foreign key ', constraint_name) FROM information_schema.referential_constraints
WHERE (constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :name)
OR (unique_constraint_schema = COALESCE(:schema, DATABASE()) AND referenced_table_name = :name)
"""
"""What CREATE TABLE ... LIKE does not copy."""
_PRIMARY: Final = """
SELECT 1 FROM information_schema.statistics WHERE table_schema = COALESCE(:schema, DATABASE())
AND table_name = :name AND index_name = 'PRIMARY' AND column_name = :column AND sub_part IS NULL
"""
_ENGINE: Final = """
SELECT engine FROM information_schema.tables
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
"""
_ROW_ERRORS: Final = frozenset({1118, 1264, 1265, 1292, 1364, 1366, 1369, 1406, 1644, 3819, 4025})
"""Errors about a row that PyMySQL has no class for: CHECK (4025, 3819), SIGNAL, CHECK OPTION, values, sizes."""
_EXACT: Final = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", "binary")
_KEY: Final = 255
"""Most characters of a text in a primary key, or in any key of MySQL: a whole key may have 3,072 bytes."""
_PREFIX: Final = 191
"""Characters of a long text that an index covers, so that several columns fit into one, for the same reason."""
_DIGITS: Final = 65
_EXACT_DIGITS: Final = {"float": 6, "double": 15}
"""Significant digits that a type always keeps."""
_YEARS: Final = "0000|19(?!00)[0-9]{2}|20[0-9]{2}|21[0-4][0-9]|215[0-5]"
_SCALE: Final = 30
_STATEMENT: Final = 1 << 20  # bytes
_FRAME: Final = 16  # bytes of a packet besides the statement
_ESCAPES: Final = {"\\": "\\\\", "'": "\\'", "\0": "\\0", "\x1a": "\\Z"}
_ESCAPE: Final = regex(r"\\(.)")
_ESCAPED: Final = {"0": "\0", "n": "\n", "r": "\r"}
"""Escapes in the definition of an enumeration; any other character after a backslash stands for itself."""
_NULL: Final = "NULL"


class _Rule(NamedTuple):
    """An index or a CHECK: what DROP calls it, what ADD recreates it from, and whether that makes a different one."""

    called: str
    made: str
    is_other: bool


class Writer(base.Writer):
    """See `base.Writer`."""

    RULES = Rules(longest=64, is_good=lambda name: all("\0" < each <= "\uffff" for each in name) and name[-1:] != " ")
    IN_TRANSACTIONS = " ENGINE = InnoDB"

    def __init__(self, connection: sa.Connection, name: str) -> None:
        super().__init__(connection, name)
        self._is_marked = False
        self._mark: str | None = None

    def try_begin(self) -> bool:
        """See `base.Writer.try_begin`."""
        waits = f"innodb_lock_wait_timeout = {LOCK_WAIT}, lock_wait_timeout = {LOCK_WAIT}"
        self.run(f"SET SESSION sql_mode = '{_MODE}', time_zone = '+00:00', {waits}")
        return self._locked(0)

    def wait(self) -> bool:
        """See `base.Writer.wait`."""
        return self._locked(PATIENCE)

    def _locked(self, seconds: int) -> bool:
        ((database,),) = self.run("SELECT DATABASE()")
        name = hashlib.sha256(f"{self.schema or database}.{self.name}".encode()).hexdigest()[:40]
        return self.run(f"SELECT GET_LOCK('connector-{name}', {seconds})") == [(1,)]

    @property
    def _where(self) -> dict[str, Any]:
        return {"schema": self.schema or None, "name": self.name}

    @cached_property
    def _is_mariadb(self) -> bool:
        return bool(getattr(self.connection.dialect, "is_mariadb", False))

    @property
    def _version(self) -> tuple[Any, ...]:
        return tuple(self.connection.dialect.server_version_info or ())

    def table(self) -> Table | None:
        """See `base.Writer.table`."""
        found = self.ask(_COLUMNS, **self._where)
        checks = {text for (text,) in self.ask(_JSON, **self._where)} if self._is_mariadb and found else set()
        columns = [
            Column(
                row[0], self._kind(row, checks), row[7] == "NO" and row[8] is None and "auto_increment" not in row[9]
            )
            for row in found
            if "GENERATED" not in row[9]
        ]
        return table_of(columns, (row[0] for row in found if "GENERATED" in row[9]))

    def _kind(self, row: tuple[Any, ...], checks: set[str]) -> Kind:
        name, type_, whole, length, charset, precision, scale, *_, fraction = row
        if type_ in _INTEGERS:
            if whole == "tinyint(1)":
                return kinds.BOOLEAN
            return Kind("unsigned" if "unsigned" in whole else "integer", _INTEGERS[type_])
        match type_:
            case "decimal":
                return Kind("decimal", precision - scale, scale)
            case "double" | "float" if scale is not None:  # rounds to so many digits
                exact = min(precision, _EXACT_DIGITS[type_])
                return Kind("decimal", max(exact - scale, 0), scale)
            case "double":
                return kinds.DOUBLE
            case "float":
                return kinds.SIX_DIGITS
            case "date" | "uuid" | "json":
                return Kind(type_)
            case "enum" | "set":
                members = list(map(re.escape, _members(whole)))
                one_by_one = "".join(f"(?:{each}(?:,|$))?" for each in members)
                return Kind("other", item="|".join(members) if type_ == "enum" else f"(?!.*,$){one_by_one}")
            case "year":
                return Kind("other", item=_YEARS)
            case "bit":
                return Kind("other", precision, item=f"0|1[01]{{0,{precision - 1}}}")
            case "binary":
                return Kind("bytes", length)
            case "time":
                return Kind("time", fraction + 1)
            case "datetime" | "timestamp":
                return Kind("datetime", fraction + 1)
            case "tinyblob" | "blob" | "mediumblob" | "longblob" | "varbinary":
                return kinds.BYTES
            case "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext":
                if f"json_valid(`{name}`)" in checks:
                    return kinds.JSON_TEXT
                size = 0 if type_ == "longtext" else length if "char" in type_ else length // 4
                return Kind("text" if charset == "utf8mb4" else "ascii", size, int(type_ == "char"))
        return kinds.OTHER

    def native(self, kind: Kind) -> str:
        """See `base.Writer.native`."""
        if kind.name == "decimal":
            return f"DECIMAL({kind.size + kind.scale}, {kind.scale})"
        if kind.name == "text" and kind.size:
            return f"VARCHAR({kind.size}) CHARACTER SET utf8mb4"
        return _NATIVE[kind.name]

    def supported(self, kind: Kind) -> Kind:
        """See `base.Writer.supported`."""
        match kind.name:
            case "decimal":
                wide = Kind("decimal", max(kind.size, min(18, _DIGITS - kind.scale)), kind.scale)
                return wide if kind.size and kind.scale <= _SCALE and wide.size + wide.scale <= _DIGITS else kinds.TEXT
            case "array" if kind.item != kinds.NULL:
                return kinds.JSON_TEXT
            case "vector":
                return kinds.JSON_TEXT
            case "timestamp" | "timestamp_tz":
                return kinds.DATETIME
            case "time_tz" | "ascii":
                return kinds.TEXT
            case "uuid" if not self._is_mariadb or self._version < (10, 7):
                return kinds.TEXT
        return kind

    def in_key(self, kind: Kind) -> Kind:
        """See `base.Writer.in_key`. MySQL cannot index long texts."""
        return kind if self._is_mariadb or kind.name != "text" else Kind("text", _KEY)

    def definition(self, column: Column, plan: Plan) -> str:
        """See `base.Writer.definition`. Texts in a key are compared as bytes, trailing spaces included."""
        text = super().definition(column, plan)
        is_text = column.kind.name == "text" and column.name in plan.key
        return f"{text} COLLATE {self._collation}" if is_text else text

    @property
    def _collation(self) -> str:
        return _EXACT[0] if self._is_mariadb else _EXACT[1]

    def create(self, plan: Plan) -> None:
        """See `base.Writer.create`."""
        self._create(self.place, plan)

    def _create(self, place: str, plan: Plan) -> None:
        columns = ", ".join(self.definition(column, plan) for column in plan.columns)
        self.run(f"CREATE TABLE {place} ({columns}) CHARACTER SET utf8mb4")

    def change(self, column: Column, kind: Kind, plan: Plan) -> None:
        """See `base.Writer.change`."""
        definition = f"{self.definition(Column(column.name, kind), plan)}{self._rest(column.name, kind, plan)}"
        rules = list(self._rules_of(column.name, kind))
        if " zerofill" in self._type(column.name)[0]:
            _LOG.warning('%s: the column "%s" is no longer ZEROFILL', self.name, column.name)
        if _is_kept(column.kind, kind):
            dropped, added = _recreated(each for each in rules if each.is_other)
            self.run(f"ALTER TABLE {self.place} {dropped}MODIFY COLUMN {definition}{added}")
            return
        new = Column(shortened(f"{column.name}__new", self.RULES), kind)
        old, made = self.quote(column.name), self.quote(new.name)
        drop = f"ALTER TABLE {self.place} DROP COLUMN IF EXISTS {made}"
        self.run(drop)
        self.run(f"ALTER TABLE {self.place} ADD COLUMN {self.definition(new, plan)} AFTER {old}")
        try:
            as_they_are = "".join(f", {name} = {name}" for name in map(self.quote, self._dated_by_updates()))
            self.run(f"UPDATE {self.place} SET {made} = {_converted(old, column.kind, kind)}{as_they_are}")
            dropped, added = _recreated(rules)
            self.run(f"ALTER TABLE {self.place} {dropped}DROP COLUMN {old}, CHANGE COLUMN {made} {definition}{added}")
        except SQLAlchemyError:
            self.run(drop)
            raise

    def widest(self, column: Column, kind: Kind) -> Kind:
        """See `base.Writer.widest`. A primary key cannot hold long texts."""
        is_primary = kind == kinds.TEXT and self.ask(_PRIMARY, **self._where, column=column.name)
        return Kind("text", _KEY) if is_primary and column.kind.size < _KEY else kind

    def obstacle(self, column: Column, kind: Kind) -> str:
        """See `base.Writer.obstacle`. The change is tried on an empty copy of the table, as `load` would make it."""
        if found := self.ask(_LOST, **self._where):
            return f"{found[0][0]} would be lost"
        new = self.auxiliary_place("__new")
        try:
            self.run(f"DROP TABLE IF EXISTS {new}")
            self.run(f"CREATE TABLE {new} LIKE {self.place}")
            self.run(self._modified(new, column, kind, Plan("overwrite", ())))
        except SQLAlchemyError as error:
            return self.message_of(getattr(error, "orig", None) or error)
        finally:
            self.run(f"DROP TABLE IF EXISTS {new}")
        return ""

    def _modified(self, place: str, column: Column, kind: Kind, plan: Plan, rest: str = "") -> str:
        """Returns the ALTER TABLE that gives a column another type in an empty copy of this table."""
        dropped, added = _recreated(each for each in self._rules_of(column.name, kind) if each.is_other)
        definition = self.definition(Column(column.name, kind), plan)
        return f"ALTER TABLE {place} {dropped}MODIFY COLUMN {definition}{rest}{added}"

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """See `base.Writer.try_change`."""
        if not _is_kept(column.kind, kind) and (found := self.ask(_TRIGGERS, **self._where)):
            return f"its trigger {found[0][0]} would run for every row"
        if kind.name == "text" and column.name in plan.key:
            self.drop_key()
        try:
            self.change(column, kind, plan)
        except SQLAlchemyError as error:
            return self.message_of(getattr(error, "orig", None) or error)
        return ""

    def _rest(self, name: str, kind: Kind, plan: Plan) -> str:
        """Returns what follows the type in a column's definition, as SQL: NOT NULL, default, comment, CHECK, ….

        The collation is kept where possible: in a text column of the same character set that is in no key.
        """
        type_, charset, collation = self._type(name)
        begin = f"  {self.quote(name)} {type_}"
        line = next(line for line in self._lines() if line.startswith(begin))
        rest = _CHARSET.sub("", line.removeprefix(begin).removesuffix(","), count=1)
        is_same = charset == "utf8mb4" and kind.name == "text" and name not in plan.key
        is_compressed = "COMPRESSED" in type_ and kind.name in ("text", "bytes") and name not in plan.key
        return f"{' COMPRESSED' * is_compressed}{f' COLLATE {collation}' * is_same}{rest}"

    def _type(self, name: str) -> tuple[str, str | None, str | None]:
        """Returns the type of a column, its character set and its collation."""
        ((type_, charset, collation),) = self.ask(_TYPE, **self._where, column=name)
        return type_, charset, collation

    def _lines(self) -> list[str]:
        ((_, text),) = self.run(f"SHOW CREATE TABLE {self.place}")
        return str(text).split("\n")

    def _dated_by_updates(self) -> list[str]:
        """Returns the columns that are ON UPDATE CURRENT_TIMESTAMP."""
        return [row[0] for row in self.ask(_COLUMNS, **self._where) if "on update" in row[9].lower()]

    def _rules_of(self, name: str, kind: Kind) -> Iterator[_Rule]:
        """Yields the indexes and CHECKs on a column. A non-unique index on long texts covers a prefix of them."""
        column = self.quote(name)
        for line in self._lines():
            found = _RULE.fullmatch(line.removesuffix(","))
            if not found or column not in found["about"]:
                continue
            what = "CONSTRAINT" if found["check"] else "INDEX"
            whole, about = found["whole"], found["about"]
            if _is_long(kind) and whole.startswith("KEY"):
                about = re.sub(rf"{re.escape(column)}(?=[,)]| DESC)", lambda each: f"{each[0]}({_PREFIX})", about)
            yield _Rule(
                f"{what} {found['name']}" if found["name"] else "PRIMARY KEY",
                whole.removesuffix(found["about"]) + about,
                about != found["about"],
            )

    def drop_key(self) -> None:
        """See `base.Writer.drop_key`."""
        for index in filter(self.is_ours, self._unique()):
            self.run(f"ALTER TABLE {self.place} DROP INDEX {self.quote(index)}")

    def _unique(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for index, column, part in self.ask(_INDEXES, **self._where):
            found.setdefault(index, set()).add(column if part is None else f"{column}\0")
        return found

    def require_key(self, plan: Plan) -> None:
        """See `base.Writer.require_key`. ON DUPLICATE KEY reacts to every unique key of the table.

        Raises:
            StorageError: The table has another unique key on columns that are written.
        """
        written = {column.name for column in plan.columns}
        for index, names in self._unique().items():
            if names != set(plan.key) and written & {name.rstrip("\0") for name in names}:
                raise StorageError(
                    f"{self.name}: the table has another unique key, {index}: an upsert by {', '.join(plan.key)} could "
                    "replace a row with another key: use that one as the key, or leave its columns out"
                )
        super().require_key(plan)

    def is_unique(self, key: Sequence[str]) -> bool:
        """See `base.Writer.is_unique`."""
        return not self._inexact(key) and set(key) in self._unique().values()

    def _inexact(self, key: Sequence[str]) -> list[tuple[str, str]]:
        """Returns the columns of a key that are not compared as bytes, and their types."""
        return [
            (name, type_)
            for name, type_, collation in self.ask(_COLLATIONS, **self._where)
            if name in key and collation not in _EXACT and type_ != "json"
        ]

    def make_unique(self, key: Sequence[str]) -> None:
        """See `base.Writer.make_unique`."""
        for name, type_ in self._inexact(key):
            rest = self._rest(name, kinds.TEXT, Plan("append_dedup", (), key=key))
            self.run(
                f"ALTER TABLE {self.place} MODIFY COLUMN {self.quote(name)} {type_} CHARACTER SET utf8mb4 "
                f"COLLATE {self._collation}{rest}"
            )
        if set(key) not in self._unique().values():
            self.drop_key()
            self.run(f"ALTER TABLE {self.place} ADD UNIQUE INDEX {self.quote(self.new_index())} ({self.list_of(key)})")

    def bytewise(self, name: str) -> str:
        """See `base.Writer.bytewise`."""
        text = f"CONVERT({self.quote(name)} USING utf8mb4) COLLATE {self._collation}"
        return text if self._inexact([name]) else self.quote(name)

    @property
    def has_transactional_ddl(self) -> bool:
        """See `base.Writer.has_transactional_ddl`."""
        return False

    def try_savepoint(self, plan: Plan) -> bool:  # noqa: ARG002 - the contract's
        """See `base.Writer.try_savepoint`."""
        return self.set_savepoint()

    def load(self, plan: Plan, batches: Callable[[], Iterator[Batch]], refuse: Refuse) -> None:
        """See `base.Writer.load`. An overwrite that changes types fills a new table, and swaps it for the old one."""
        if plan.mode != "overwrite" or not plan.changed:
            if plan.mode == "append" and self._has_transactions:
                self._is_marked = Marks(self).make()
            self._load(plan, batches, refuse)
            return
        name, place, old = self.name, self.place, self.auxiliary_place("__old")
        new = self.auxiliary_place("__new")
        self.run(f"DROP TABLE IF EXISTS {new}, {old}")
        self.run(f"CREATE TABLE {new} LIKE {place}")
        for column, kind in plan.changed:
            self._retype(new, column, kind, plan)
        try:
            self.name, self.place = shortened(f"{name}__new", self.RULES), new
            self._load(plan._replace(mode="append", changed=()), batches, refuse)
        finally:
            self.name, self.place = name, place
        self.connection.commit()
        self.run(f"RENAME TABLE {place} TO {old}, {new} TO {place}")
        self.run(f"DROP TABLE {old}")

    def _retype(self, place: str, column: Column, kind: Kind, plan: Plan) -> None:
        """Gives a column of an empty table another type; keeps the rest of its definition if that suits the type."""
        rest = self._rest(column.name, kind, plan)
        if kinds.merged(column.kind, kind).name == kind.name:
            with suppress(SQLAlchemyError):
                self.run(self._modified(place, column, kind, plan, rest))
                return
        if rest != _NO_REST:
            _LOG.warning('%s: the column "%s", now %s, has lost:%s', self.name, column.name, kind, rest)
        self.run(self._modified(place, column, kind, plan))

    @property
    def _has_transactions(self) -> bool:
        return self.ask(_ENGINE, **self._where) == [("InnoDB",)]

    def _load(self, plan: Plan, batches: Callable[[], Iterator[Batch]], refuse: Refuse) -> None:
        """Loads rows: one by one where the table has no transactions, as a refused batch could not be rolled back."""
        if self._has_transactions:
            super().load(plan, batches, refuse)
            return
        if plan.mode == "overwrite":
            self.write(plan, iter(()))
        entering = plan._replace(mode="append" if plan.mode == "overwrite" else plan.mode)
        for batch in batches():
            for row in zip(*batch, strict=True):
                try:
                    self.write(entering, iter([[[value] for value in row]]))
                except self.errors as error:
                    if not (reason := self.reason(error)):
                        raise
                    refuse(reason, row)

    def try_run(self, *statements: str) -> bool:
        """See `base.Writer.try_run`. Not all or none: DDL ends the transaction, so it comes before any row."""
        try:
            for statement in statements:
                self.run(statement)
        except SQLAlchemyError:
            return False
        return True

    def ticket(self) -> Any:
        """See `base.Writer.ticket`. Only appends have one: the other modes give the same result when repeated."""
        if self._is_marked:
            self._mark = uuid.uuid4().hex
            Marks(self).leave(self._mark)
        return self._mark

    def was_committed(self, ticket: Any) -> bool:
        """See `base.Writer.was_committed`."""
        was_committed = Marks(self).has(ticket)
        if was_committed:
            Marks(self).remove(ticket)
        return was_committed

    def commit(self) -> None:
        """See `base.Writer.commit`. Then removes the mark: the commit is certain, so an error there is ignored."""
        super().commit()
        if self._mark is not None:
            with suppress(SQLAlchemyError):
                Marks(self).remove(self._mark)
                super().commit()

    def is_about_row(self, error: Any) -> bool:
        """See `base.Writer.is_about_row`."""
        return bool(error.args) and error.args[0] in _ROW_ERRORS

    def message_of(self, error: Any) -> str:
        """See `base.Writer.message_of`. PyMySQL puts a number before it."""
        return super().message_of(error.args[-1] if error.args else error)

    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """See `base.Writer.write`."""
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place}")
        names = self.list_of(column.name for column in plan.columns)
        begin, end = f"INSERT INTO {self.place} ({names}) VALUES ", ""
        if plan.key:
            values = ", ".join(f"{self.quote(name)} = VALUES({self.quote(name)})" for name in plan.others)
            same = f"{self.quote(plan.key[0])} = {self.quote(plan.key[0])}"
            end = f" ON DUPLICATE KEY UPDATE {values or same}"
        convert = [_written(column.kind) for column in plan.columns]
        packet = self._packet
        most = packet - _bytes(begin + end) - _FRAME
        raw: Any = self.connection.connection.dbapi_connection
        with raw.cursor() as cursor:
            rows: list[str] = []
            size = 0
            for batch in batches:
                cells = [each(values) for each, values in zip(convert, batch, strict=True)]
                for row in zip(*cells, strict=True):
                    text = f"({','.join(row)})"
                    length = _bytes(text) + 1
                    if length > most:
                        raise RowError(
                            f"the row needs a statement of {length:,} bytes, and the database takes {packet:,}: "
                            "raise its max_allowed_packet"
                        )
                    if rows and size + length > min(_STATEMENT, most):
                        cursor.execute(begin + ",".join(rows) + end)
                        rows, size = [], 0
                    rows.append(text)
                    size += length
            if rows:
                cursor.execute(begin + ",".join(rows) + end)

    @cached_property
    def _packet(self) -> int:
        ((packet,),) = self.run("SELECT @@max_allowed_packet")
        return int(packet)


def _members(type_: str) -> list[str]:
    """Returns the members of an enumeration or a set, from its type."""
    told = next(csv.reader([type_[type_.index("(") + 1 : -1]], quotechar="'"))
    return [_ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), each) for each in told]


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _recreated(rules: Iterable[_Rule]) -> tuple[str, str]:
    """Returns SQL that drops rules and SQL that recreates them: the first and the last part of an ALTER TABLE."""
    found = list(rules)
    return "".join(f"DROP {each.called}, " for each in found), "".join(f", ADD {each.made}" for each in found)


def _is_long(kind: Kind) -> bool:
    """Returns whether values of a kind may be too long for an index."""
    return kind.name in ("text", "json", "bytes") and not kind.size


def _is_kept(old: Kind, new: Kind) -> bool:
    """Returns whether MODIFY COLUMN keeps the values of a column that changes from one kind to another."""
    match old.name:
        case "integer" | "unsigned" | "decimal":
            return True
        case "text" | "ascii" | "uuid":
            return new.name != "json"
        case "boolean":
            return new.name not in ("text", "json")
        case "datetime" | "time":
            return new.name == old.name
    return False


def _converted(name: str, old: Kind, new: Kind) -> str:
    """Returns SQL that converts a column's values to another type, and keeps all of their digits."""
    text = {
        "boolean": f"CASE {name} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE {name} END",
        "bytes": f"REPLACE(TO_BASE64({name}), '\\n', '')",
        "datetime": f"DATE_FORMAT({name}, '%Y-%m-%dT%H:%i:%s.%f')",
    }.get(old.name, name)
    match new.name:
        case "text":
            return text
        case "json" if old.name == "boolean":
            return text
        case "json" if old.name not in ("double", "json"):
            return f"JSON_QUOTE(CAST({text} AS CHAR CHARACTER SET utf8mb4))"
    return name


def _written(kind: Kind) -> Callable[[Sequence[Any]], Sequence[str]]:
    """Returns the function that writes the values of a column as SQL literals."""
    match kind.name:
        case "integer" | "unsigned" | "double" | "boolean":
            return partial(literals, null=_NULL)
        case "decimal":
            return partial(texts, write=str, null=_NULL)
        case "bytes":
            return partial(texts, write=lambda value: f"X'{value.hex()}'", null=_NULL)
        case "other" if kind.size:  # bits
            return partial(texts, write=lambda value: f"b'{value}'", null=_NULL)
        case "datetime":
            return partial(texts, write=lambda value: f"'{_in_utc(value)}'", null=_NULL)
    return partial(escaped, escapes=_ESCAPES, null=_NULL, mark="'")


def _in_utc(text: str) -> str:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    return moment.isoformat(" ")
