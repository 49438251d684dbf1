"""SQLite: one transaction from the first look at the table to its last row; numbers as such, all else as text."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

from sqlalchemy.exc import OperationalError

from connector.base.regex import regex
from connector.stores.databases.affinity import Affinity, affinity
from connector.stores.databases.loading import base, kinds
from connector.stores.databases.loading.base import PATIENCE, Batch, Column, Plan, Table, table_of
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import shortened

_NATIVE: Final = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "text": "TEXT",
    "bytes": "BLOB",
}
_KINDS: Final[Mapping[Affinity, Kind]] = {
    "integer": kinds.INTEGER,
    "text": kinds.TEXT,
    "blob": kinds.BYTES,
    "real": kinds.DOUBLE,
    "numeric": kinds.NUMERIC,
    "": kinds.ANY,
}
_GENERATED: Final = (2, 3)  # values of `hidden` in PRAGMA table_xinfo
_OVER_IT: Final = regex(r"error in (\w+) (.+?) after drop column")
_FUNCTION: Final = "connector_text"
_WORD: Final = regex(
    r"""'(?:[^']|'')*+'?|"(?:[^"]|"")*+"?|`(?:[^`]|``)*+`?|\[[^\]]*+\]?|--[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?|\w++|\s++|.""",
    re.DOTALL,
)
_RULES: Final = frozenset("CONSTRAINT PRIMARY NOT NULL UNIQUE CHECK DEFAULT COLLATE REFERENCES GENERATED AS".split())
"""Keywords that may follow the type of a column (SQLite, "CREATE TABLE", column-constraint)."""


class Writer(base.Writer):
    """See `base.Writer`."""

    DRIVERS = ("pysqlite",)

    def try_begin(self) -> bool:
        """See `base.Writer.try_begin`."""
        raw: Any = self.connection.connection.dbapi_connection
        raw.isolation_level = None  # keeps Python from beginning transactions of its own
        raw.create_function(_FUNCTION, 2, _text, deterministic=True)
        return self._begun(0)

    def wait(self) -> bool:
        """See `base.Writer.wait`."""
        return self._begun(PATIENCE)

    def _begun(self, seconds: int) -> bool:
        self.run(f"PRAGMA busy_timeout = {seconds * 1000}")
        raw: Any = self.connection.connection.dbapi_connection
        try:
            self.run("BEGIN IMMEDIATE")
        except OperationalError as error:
            if "locked" not in str(error.orig):
                raise
        return bool(raw.in_transaction)

    def commit(self) -> None:
        """See `base.Writer.commit`."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """See `base.Writer.rollback`."""
        raw: Any = self.connection.connection.dbapi_connection
        if raw.in_transaction:
            self.run("ROLLBACK")

    def table(self) -> Table | None:
        """See `base.Writer.table`."""
        found = self.run(f"PRAGMA {self._schema}table_xinfo({self.quote(self.name)})")
        columns = [
            Column(name, _kind(type_), bool(required) and default is None)
            for _, name, type_, required, default, _, hidden in found
            if not hidden
        ]
        return table_of(columns, (row[1] for row in found if row[6] in _GENERATED))

    @property
    def _schema(self) -> str:
        return f"{self.quote(self.schema)}." if self.schema else ""

    def native(self, kind: Kind) -> str:
        """See `base.Writer.native`."""
        return _NATIVE[kind.name]

    def supported(self, kind: Kind) -> Kind:
        """See `base.Writer.supported`. A type for decimals or times would alter texts that look like numbers."""
        return kind if kind.name in ("null", "boolean", "integer", "double", "bytes") else kinds.TEXT

    def change(self, column: Column, kind: Kind, plan: Plan) -> None:  # noqa: ARG002 - the contract's
        """See `base.Writer.change`. The column moves to the end: SQLite cannot change a type in place."""
        self.drop_key()
        for statement in self._changing(self.place, column, kind):
            self.run(statement)

    def _changing(self, place: str, column: Column, kind: Kind) -> list[str]:
        """Returns the statements that give a column another type, and keep the rest of its definition."""
        old, new = self.quote(column.name), self.quote(shortened(f"{column.name}__new", self.RULES))
        (sql,) = (sql for type_, name, sql in self._objects() if (type_, name.lower()) == ("table", self.name.lower()))
        value = f"{_FUNCTION}({old}, '{column.kind.name}')" if kind == kinds.TEXT else old
        return [
            f"ALTER TABLE {place} ADD COLUMN {new} {self.native(kind)} {_rest(sql, column.name)}",
            f"UPDATE {place} SET {new} = {value}",
            f"ALTER TABLE {place} DROP COLUMN {old}",
            f"ALTER TABLE {place} RENAME COLUMN {new} TO {old}",
        ]

    def _objects(self) -> list[tuple[str, str, str]]:
        """Returns the type, the name and the SQL of all tables, indexes, views and triggers."""
        found = self.run(f"SELECT type, name, sql FROM {self._schema}sqlite_schema WHERE sql IS NOT NULL")
        return [(type_, name, sql) for type_, name, sql in found]

    def obstacle(self, column: Column, kind: Kind) -> str:
        """See `base.Writer.obstacle`. The change is tried on a copy of the database in memory, without rows."""
        with closing(sqlite3.connect(":memory:")) as copy:
            copy.create_function(_FUNCTION, 2, _text, deterministic=True)
            for _, name, sql in self._objects():
                with suppress(sqlite3.Error):  # as for a table of another extension
                    if not self.is_ours(name):
                        copy.execute(sql)
            try:
                for statement in self._changing(self.quote(self.name), column, kind):
                    copy.execute(statement)
            except sqlite3.Error as error:
                found = _OVER_IT.match(str(error))
                what = found and ("the table's definition" if found[1] == "table" else f"the {found[1]} {found[2]}")
                return f"{what} refers to it" if what else str(error)
        return ""

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """See `base.Writer.try_change`. An UPDATE rewrites the values, which would fire a trigger."""
        for type_, name, sql in self._objects():
            if type_ == "trigger" and _updated(sql).lower() == self.name.lower():
                return f"its trigger {name} would run for every row"
        return super().try_change(column, kind, plan)

    def _unique(self) -> list[str]:
        """Returns the names of the unique indexes, without partial ones."""
        found = self.run(f"PRAGMA {self._schema}index_list({self.quote(self.name)})")
        return [name for _, name, is_unique, _, is_partial in found if is_unique and not is_partial]

    def is_name_taken(self, index: str) -> bool:
        """See `base.Writer.is_name_taken`."""
        statement = f"SELECT 1 FROM {self._schema}sqlite_schema WHERE name = :name COLLATE NOCASE"
        return bool(self.ask(statement, name=index))

    def drop_key(self) -> None:
        """See `base.Writer.drop_key`."""
        for name in self._unique():
            if self.is_ours(name):
                self.run(f"DROP INDEX {self._schema}{self.quote(name)}")

    def is_unique(self, key: Sequence[str]) -> bool:
        """See `base.Writer.is_unique`."""
        for name in self._unique():
            found = self.run(f"PRAGMA {self._schema}index_xinfo({self.quote(name)})")
            columns = {column: collation for _, _, column, _, collation, is_key in found if is_key}
            if set(columns) == set(key) and set(columns.values()) == {"BINARY"}:
                return True
        return False

    def make_unique(self, key: Sequence[str]) -> None:
        """See `base.Writer.make_unique`."""
        self.drop_key()
        names = ", ".join(map(self.bytewise, key))
        self.run(
            f"CREATE UNIQUE INDEX {self._schema}{self.quote(self.new_index())} ON {self.quote(self.name)} ({names})"
        )

    def bytewise(self, name: str) -> str:
        """See `base.Writer.bytewise`."""
        return f"{self.quote(name)} COLLATE BINARY"

    def try_savepoint(self, plan: Plan) -> bool:  # noqa: ARG002 - the contract's
        """See `base.Writer.try_savepoint`."""
        return self.set_savepoint()

    def reason(self, error: Exception) -> str:
        """See `base.Writer.reason`. A trigger with RAISE(ROLLBACK) ends the transaction, so the commit fails."""
        raw: Any = self.connection.connection.dbapi_connection
        return super().reason(error) if raw.in_transaction else ""

    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """See `base.Writer.write`."""
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place}")
            for column, kind in plan.changed:
                self.change(column, kind, plan)
        names = [column.name for column in plan.columns]
        marks = ", ".join("?" * len(names))
        statement = f"INSERT INTO {self.place} ({self.list_of(names)}) VALUES ({marks})"
        if plan.key:
            target = ", ".join(map(self.bytewise, plan.key))
            values = ", ".join(f"{self.quote(name)} = excluded.{self.quote(name)}" for name in plan.others)
            statement += f" ON CONFLICT ({target}) DO {f'UPDATE SET {values}' if values else 'NOTHING'}"
        raw: Any = self.connection.connection.dbapi_connection
        for batch in batches:
            raw.executemany(statement, list(zip(*batch, strict=True)))


def _kind(type_: str) -> Kind:
    """Returns the kind of a declared type."""
    return kinds.BOOLEAN if type_.upper() in ("BOOLEAN", "BOOL") else _KINDS[affinity(type_)]


def _updated(sql: str) -> str:
    """Returns the table of a trigger on UPDATE; an empty string for any other trigger."""
    words = _words(_WORD.findall(sql))
    upper = [word.upper() for word in words]
    place = upper.index("ON")
    return _unquoted(words[place + 1]) if "UPDATE" in upper[:place] else ""


def _words(found: Iterable[str]) -> list[str]:
    """Returns tokens without the whitespace and comments between them."""
    return [word for word in found if not word.isspace() and not word.startswith(("--", "/*"))]


def _rest(sql: str, name: str) -> str:
    """Returns what follows the type in a column's definition, in a CREATE TABLE: NOT NULL, default, CHECK, …."""
    for definition in _definitions(sql):
        words = _words(definition)
        if words and _unquoted(words[0]).lower() == name.lower():
            start = next((place for place, word in enumerate(words) if place and word.upper() in _RULES), len(words))
            return " ".join(words[start:])
    return ""


def _definitions(sql: str) -> Iterator[list[str]]:
    """Yields the tokens of each definition in a CREATE TABLE."""
    words: list[str] = []
    depth = 0
    for word in _WORD.findall(sql):
        depth -= word == ")"
        if (depth == 1 and word == ",") or (depth == 0 and word == ")"):
            yield words
            words = []
        elif depth:
            words.append(word)
        depth += word == "("


def _unquoted(word: str) -> str:
    mark = {"[": "]"}.get(word[0], word[0])
    return word[1:-1].replace(mark * 2, mark) if word[0] in "\"`['" else word


def _text(value: Any, kind: str) -> str | None:
    """Returns a value of a column of this kind as text, numbers with all of their digits."""
    if kind == "boolean" and value in (0, 1):
        return "true" if value else "false"
    if kind == "bytes" and isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if value is None else str(value)
