"""PostgreSQL: rows enter by COPY, upserts through a staging table and ON CONFLICT, all in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Final, cast

from sqlalchemy.exc import SQLAlchemyError

from connector.base.errors import ConfigError
from connector.stores.databases.loading import base, kinds
from connector.stores.databases.loading.base import (
    LOCK_WAIT,
    PATIENCE,
    Batch,
    Column,
    Plan,
    Table,
    escaped,
    literals,
    table_of,
    texts,
)
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Rules
from connector.stores.databases.readers.postgresql import SETTINGS, server_text

_LOG: Final = logging.getLogger(__name__)
_NATIVE: Final = {
    "boolean": "boolean",
    "integer": "bigint",
    "double": "double precision",
    "decimal": "numeric",
    "text": "text",
    "json": "jsonb",
    "date": "date",
    "time": "time",
    "time_tz": "timetz",
    "timestamp": "timestamp",
    "timestamp_tz": "timestamptz",
    "uuid": "uuid",
    "bytes": "bytea",
}
_KINDS: Final = {
    "bool": kinds.BOOLEAN,
    "int2": Kind("integer", 16),
    "int4": Kind("integer", 32),
    "int8": kinds.INTEGER,
    "float4": kinds.FLOAT,
    "float8": kinds.DOUBLE,
    "text": kinds.TEXT,
    "varchar": kinds.TEXT,
    "bpchar": kinds.TEXT,
    "json": kinds.JSON_TEXT,
    "jsonb": kinds.JSON_TEXT,
    "date": kinds.DATE,
    "time": kinds.TIME,
    "timetz": kinds.TIME_TZ,
    "timestamp": kinds.TIMESTAMP,
    "timestamptz": kinds.TIMESTAMP_TZ,
    "uuid": kinds.UUID,
    "bytea": kinds.BYTES,
    "name": Kind("other", item=Kind("ascii", 63)),
    "char": Kind("other", item=Kind("ascii", 1)),
    "money": Kind("other", item=Kind("decimal", 17, 2)),
}
_DIGITS: Final = 6  # of seconds
_NOTHING: Final = "(?!)"  # a pattern
_COLUMNS: Final = """
SELECT a.attname, t.typname, e.typname, CASE d.typtype WHEN 'd' THEN d.typtypmod ELSE a.atttypmod END,
d.typtype = 'd', a.attgenerated <> '',
(a.attnotnull OR d.typnotnull) AND NOT a.atthasdef AND d.typdefault IS NULL AND a.attidentity = ''
FROM pg_attribute a JOIN pg_type d ON d.oid = a.atttypid
JOIN pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE a.attrelid = to_regclass(:place) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_EXACTNESS: Final = """
SELECT a.attnum, a.attname::text AS name, COALESCE(t.typname, d.typname) = 'citext' AS is_citext,
COALESCE(t.typname, d.typname) = 'citext' OR NOT COALESCE(c.collisdeterministic, true) AS is_inexact
FROM pg_attribute a JOIN pg_type d ON d.oid = a.atttypid
LEFT JOIN pg_type t ON t.oid = d.typbasetype LEFT JOIN pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = to_regclass(:place) AND a.attnum > 0
"""
_INEXACT: Final = f"SELECT name FROM ({_EXACTNESS}) a WHERE is_inexact"
"""Columns in which texts of different bytes may be equal."""
_INDEXES: Final = f"""
SELECT array_agg(a.name) FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[]) WITH ORDINALITY k(attnum, collated, place)
JOIN ({_EXACTNESS}) a ON (k.attnum = a.attnum AND NOT is_citext) OR (k.attnum = 0 AND is_inexact
    AND pg_get_indexdef(i.indexrelid, k.place::int, false) = '((' || quote_ident(a.name) || ')::text)')
WHERE i.indrelid = to_regclass(:place) AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
AND k.place <= i.indnkeyatts AND (NOT is_inexact OR k.collated = 'pg_catalog."C"'::regcollation)
GROUP BY i.indexrelid, i.indnkeyatts HAVING count(*) = i.indnkeyatts
"""
"""The columns of each unique index that compares them as bytes: itself, or by the expression of `Writer.bytewise`."""
_COLLATION: Final = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_collation c ON c.oid = a.attcollation JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE a.attrelid = to_regclass(:place) AND a.attname = :name AND a.attcollation <> t.typcollation
"""
_DEFAULT: Final = """
SELECT pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.adrelid = to_regclass(:place) AND a.attname = :name
"""
_DEPENDENT: Final = """
SELECT CASE WHEN d.classid = 'pg_rewrite'::regclass
    THEN (SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r WHERE r.oid = d.objid)
    WHEN g.attname IS NOT NULL THEN 'generated column ' || quote_ident(g.attname)
    ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END
FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_attribute g ON g.attgenerated <> '' AND ((g.attrelid = f.adrelid AND g.attnum = f.adnum)
    OR (d.classid = 'pg_class'::regclass AND g.attrelid = d.objid AND g.attnum = d.objsubid))
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(:place) AND a.attname = :name
AND (d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass) OR g.attname <> a.attname)
ORDER BY 1
"""
_UNIQUE: Final = """
SELECT i.indexrelid::regclass::text, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(:place) AND i.indisunique
"""
_IS_TAKEN: Final = """
SELECT FROM pg_class WHERE relname = :name
AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:place))
"""
_RELATION: Final = """
SELECT relkind IN ('r', 'p') AND NOT row_security_active(oid), relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE')
FROM pg_class WHERE oid = to_regclass(:place)
"""
"""Whether the table accepts COPY, and whether this user may create an index on it."""
_LOCKED: Final = """
SELECT l.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = to_regclass(:place) AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.granted AND l.pid <> pg_backend_pid()
AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
"""Who holds a lock on the table that keeps others from writing."""
_TICKET: Final = """
SELECT txid_current(), txid_snapshot_xmax(txid_current_snapshot()) FROM pg_class
WHERE oid = to_regclass(:place) AND relkind IN ('r', 'p')
"""
_WAS_DONE: Final = """
SELECT CASE WHEN {number} < txid_snapshot_xmax(txid_current_snapshot()) THEN txid_status({number}) = 'committed' END
AND EXISTS (
    SELECT FROM {place} WHERE xmin::text::bigint BETWEEN {number} % (1::bigint << 32) AND {end} % (1::bigint << 32)
)
"""
_MOMENT: Final = """CASE WHEN NOT isfinite({value}) THEN {value}::text
WHEN extract(year FROM {value}) < 0
THEN to_char(extract(year FROM {value}) + 1, 'FMSG0000') || to_char({value}, '{rest}')
ELSE CASE WHEN extract(year FROM {value}) > 9999 THEN '+' ELSE '' END || {whole} END"""
"""A date or timestamp as ISO 8601: a year of more than four digits, or before year 1, has a sign."""


def _moment(value: str, rest: str) -> str:
    return _MOMENT.format(value=value, rest=rest, whole=f"to_char({value}, 'YYYY{rest}')")


_ISO: Final = {
    "date": _MOMENT.format(value="{0}", rest="-MM-DD", whole="{0}::text"),
    "timestamp": _moment("{0}", '-MM-DD"T"HH24:MI:SS.US'),
    "timestamp_tz": _moment("({0} AT TIME ZONE 'UTC')", '-MM-DD"T"HH24:MI:SS.US"Z"'),
}
_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_NULL: Final = "\\N"
_QUOTES: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})
_LOCK_NOT_AVAILABLE: Final = "55P03"
_ROW_STATES: Final = ("P0001", "44000", "54000")
_POLICY: Final = "42501"
_STAGE: Final = "connector_stage"


class Writer(base.Writer):
    """See `base.Writer`."""

    RULES = Rules(longest=63, is_in_bytes=True, folds=False)
    DRIVERS = ("psycopg",)
    has_nul = False
    YEARS = None
    OVERRIDING = "OVERRIDING SYSTEM VALUE"

    @property
    def _lock(self) -> str:
        return f"hashtextextended(current_database() || {_literal(self.place)}, 0)"

    def try_begin(self) -> bool:
        """See `base.Writer.try_begin`."""
        self.run(";".join(f"SET LOCAL {setting}" for setting in (*SETTINGS, f"lock_timeout = '{LOCK_WAIT}s'")))
        is_alone = self.run(f"SELECT pg_try_advisory_xact_lock({self._lock})") == [(True,)]
        if is_alone:
            self._warn_locks()
        return is_alone

    def _warn_locks(self) -> None:
        for process, program in self.ask(_LOCKED, place=self.place):
            _LOG.warning(
                "%s: the server's process %s (%s) has locked the table: waiting for it: end its transaction",
                self.name, process, program or "an unnamed program",
            )  # fmt: skip

    def wait(self) -> bool:
        """See `base.Writer.wait`."""
        self.run(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
        try:
            self.run(f"SELECT pg_advisory_xact_lock({self._lock})")
        except SQLAlchemyError as error:
            if getattr(getattr(error, "orig", None), "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                raise
            return False
        self.run(f"SET LOCAL lock_timeout = '{LOCK_WAIT}s'")
        self._warn_locks()
        return True

    def ticket(self) -> Any:
        """See `base.Writer.ticket`: the ID of the transaction, and the first ID after those of its savepoints."""
        found = self.ask(_TICKET, place=self.place)
        return found[0] if found else None

    def was_committed(self, ticket: Any) -> bool:
        """See `base.Writer.was_committed`. A crash may give the ID to another, so its rows must exist, too."""
        number, end = ticket
        return self.run(_WAS_DONE.format(number=number, end=end, place=self.place)) == [(True,)]

    def table(self) -> Table | None:
        """See `base.Writer.table`."""
        found = self.ask(_COLUMNS, place=self.place)
        columns = [
            Column(name, _domain(_kind(type_, item, more)) if is_domain else _kind(type_, item, more), required)
            for name, type_, item, more, is_domain, is_generated, required in found
            if not is_generated
        ]
        return table_of(columns, (row[0] for row in found if row[5]))

    def native(self, kind: Kind) -> str:
        """See `base.Writer.native`."""
        if kind.name == "array":
            return f"{self.native(kind.item)}[]"
        return f"{self._vector}({kind.size})" if kind.name == "vector" else _NATIVE[kind.name]

    def supported(self, kind: Kind) -> Kind:
        """See `base.Writer.supported`. A `numeric` has no limit of digits."""
        match kind.name:
            case "vector" if not self._vector:
                return kinds.FLOATS
            case "array" if kind.item.name == "decimal":
                return Kind("array", item=kinds.DECIMAL)
            case "decimal":
                return kinds.DECIMAL
        return kind

    @cached_property
    def _vector(self) -> str:
        """The SQL type of vectors; empty if the database does not have pgvector."""
        found = self.run(
            "SELECT quote_ident(n.nspname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
            "WHERE t.typname = 'vector' AND t.typcategory = 'U'"
        )
        return f"{found[0][0]}.vector" if found else ""

    def change(self, column: Column, kind: Kind, plan: Plan) -> None:  # noqa: ARG002 - the contract's
        """See `base.Writer.change`."""
        name = self.quote(column.name)
        value = _converted(name, column.kind, kind, self.native(kind))
        type_ = self.native(kind) + self._collation(column, kind)
        self.run(f"ALTER TABLE {self.place} ALTER COLUMN {name} TYPE {type_} USING {value}")

    def _collation(self, column: Column, kind: Kind) -> str:
        """Returns the COLLATE clause of a text column that stays one; empty if the collation is its type's default."""
        is_text = column.kind.name == kind.name == "text"
        found = self.ask(_COLLATION, place=self.place, name=column.name) if is_text else []
        return f" COLLATE {found[0][0]}" if found else ""

    def obstacle(self, column: Column, kind: Kind) -> str:  # noqa: ARG002 - the contract's
        """See `base.Writer.obstacle`."""
        found = self.ask(_DEPENDENT, place=self.place, name=column.name)
        return f"{found[0][0]} depends on it" if found else ""

    def is_unique(self, key: Sequence[str]) -> bool:
        """See `base.Writer.is_unique`."""
        return any(set(names) == set(key) for (names,) in self.ask(_INDEXES, place=self.place))

    def _inexact(self) -> set[str]:
        return {name for (name,) in self.ask(_INEXACT, place=self.place)}

    def bytewise(self, name: str) -> str:
        """See `base.Writer.bytewise`."""
        return f'(({self.quote(name)})::text) COLLATE "C"' if name in self._inexact() else self.quote(name)

    def make_unique(self, key: Sequence[str]) -> None:
        """See `base.Writer.make_unique`."""
        self.drop_key()
        names = ", ".join(map(self.bytewise, key))
        self.run(f"CREATE UNIQUE INDEX {self.quote(self.new_index())} ON {self.place} ({names})")

    def is_name_taken(self, index: str) -> bool:
        """See `base.Writer.is_name_taken`."""
        return bool(self.ask(_IS_TAKEN, place=self.place, name=index))

    def drop_key(self) -> None:
        """See `base.Writer.drop_key`."""
        for place, name in self.ask(_UNIQUE, place=self.place):
            if self.is_ours(name):
                self.run(f"DROP INDEX {place}")

    def try_savepoint(self, plan: Plan) -> bool:  # noqa: ARG002 - the contract's
        """See `base.Writer.try_savepoint`."""
        return self.set_savepoint()

    def check_deferred(self) -> None:
        """See `base.Writer.check_deferred`."""
        self.run("SET CONSTRAINTS ALL IMMEDIATE")

    def is_about_row(self, error: Any) -> bool:
        """See `base.Writer.is_about_row`: RAISE, CHECK OPTION, a key too long for its index, row-level security."""
        state = getattr(error, "sqlstate", None)
        return state in _ROW_STATES or (state == _POLICY and "row-level security" in str(error))

    def message_of(self, error: Any) -> str:
        """See `base.Writer.message_of`. Leaves out the row itself, which PostgreSQL adds."""
        found = getattr(error, "diag", None)
        detail = found and found.message_detail
        return super().message_of(
            error
            if not (found and found.message_primary)
            else f"{found.message_primary}: {detail}"
            if detail and not detail.startswith("Failing row")
            else found.message_primary
        )

    @cached_property
    def _relation(self) -> tuple[bool, bool]:
        ((takes_copy, is_owned),) = self.ask(_RELATION, place=self.place)
        return takes_copy, is_owned

    def probe(self, plan: Plan) -> None:
        """See `base.Writer.probe`. Does not create the index for an upsert, which would read all rows.

        Raises:
            ConfigError: The index is missing, and this user may not create it.
        """
        super().probe(plan)
        if plan.key and not self.is_unique(plan.key) and not self._relation[1]:
            raise ConfigError(
                f"{self.name}: an upsert by {', '.join(plan.key)} needs a unique index there, which only the owner "
                "of a table can create: let the owner create one, or choose another key"
            )

    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """See `base.Writer.write`. Uses a staging table only where COPY cannot write to the table itself."""
        names = self.list_of(column.name for column in plan.columns)
        if not plan.key and not plan.changed and self._relation[0]:
            if plan.mode == "overwrite":
                self.run(f"DELETE FROM {self.place}")
            self._copy(self.place, plan, batches)
            return
        self.run(f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS SELECT {names} FROM {self.place} WHERE false")
        for column, kind in plan.changed:
            self._retype(f"pg_temp.{_STAGE}", column, kind)
        self.run(f"ALTER TABLE pg_temp.{_STAGE} ADD COLUMN {plan.order} bigserial")
        self._copy(f"pg_temp.{_STAGE}", plan, batches)
        self._move(plan)
        self.run(f"DROP TABLE pg_temp.{_STAGE}")

    def _move(self, plan: Plan) -> None:
        names = self.list_of(column.name for column in plan.columns)
        if plan.mode == "overwrite":
            self.run(f"DELETE FROM {self.place}")
            for column, kind in plan.changed:
                default = self.ask(_DEFAULT, place=self.place, name=column.name)
                self._retype(self.place, column, kind)
                if default:
                    self._set_default(column, default[0][0])
        rows = f"SELECT {names} FROM pg_temp.{_STAGE}"
        if not plan.key:
            self.run(f"INSERT INTO {self.place} ({names}) {self.OVERRIDING} {rows} ORDER BY {plan.order}")
            return
        key = ", ".join(map(self.bytewise, plan.key))
        whole = " AND ".join(f"{self.quote(name)} IS NOT NULL" for name in plan.key)
        values = ", ".join(f"{self.quote(name)} = excluded.{self.quote(name)}" for name in plan.others)
        self.run(
            f"INSERT INTO {self.place} ({names}) {self.OVERRIDING} SELECT {names} FROM (SELECT DISTINCT ON ({key}) * "
            f"FROM pg_temp.{_STAGE} WHERE {whole} ORDER BY {key}, {plan.order} DESC) s ORDER BY {plan.order} "
            f"ON CONFLICT ({key}) DO {f'UPDATE SET {values}' if values else 'NOTHING'}"
        )
        self.run(
            f"INSERT INTO {self.place} ({names}) {self.OVERRIDING} {rows} WHERE NOT ({whole}) ORDER BY {plan.order}"
        )

    def _retype(self, place: str, column: Column, kind: Kind) -> None:
        """Gives a column of an empty table another type, without a default."""
        alter = f"ALTER TABLE {place} ALTER COLUMN {self.quote(column.name)}"
        self.run(f"{alter} DROP DEFAULT")
        self.run(f"{alter} TYPE {self.native(kind)} USING NULL")

    def _set_default(self, column: Column, default: str) -> None:
        try:
            with self.connection.begin_nested():
                self.run(f"ALTER TABLE {self.place} ALTER COLUMN {self.quote(column.name)} SET DEFAULT {default}")
        except SQLAlchemyError:
            _LOG.warning('%s: the column "%s" has lost its default, %s', self.name, column.name, default)

    def _copy(self, place: str, plan: Plan, batches: Iterator[Batch]) -> None:
        names = self.list_of(column.name for column in plan.columns)
        convert = [_written(column.kind) for column in plan.columns]
        raw: Any = self.connection.connection.dbapi_connection
        with raw.cursor() as cursor, cursor.copy(f"COPY {place} ({names}) FROM STDIN") as copy:
            for batch in batches:
                cells = [each(values) for each, values in zip(convert, batch, strict=True)]
                copy.write("\n".join(map("\t".join, zip(*cells, strict=True))) + "\n")


def _kind(type_: str, item: str | None, more: int) -> Kind:
    """Returns the kind of a type, or of an array of `item`; `more` is its modifier (`atttypmod`): length or digits."""
    if item is not None:
        inner = _kind(item, None, more)
        if inner.name in ("bytes", "vector"):
            return kinds.OTHER
        is_deep = inner.name != "json"  # whose elements may be lists themselves
        if inner.name not in kinds.SCALARS:  # sent as text, which the server parses
            inner = Kind("other", item=inner.item or (inner if inner.size else None))
        return Kind("array", 0, int(is_deep), inner)
    if type_ == "numeric":
        packed = more - 4
        return kinds.DECIMAL if more < 0 else Kind("decimal", (packed >> 16) - (packed & 0x7FF), packed & 0x7FF)
    if type_ == "vector":
        return Kind("vector", max(more, 0))
    found = _KINDS.get(type_, kinds.OTHER)
    if found.name in ("time", "time_tz", "timestamp", "timestamp_tz") and more >= 0:
        return Kind(found.name, more + 1)
    if type_ == "interval" and more >= 0 and (digits := more & 0xFFFF) <= _DIGITS:
        return Kind("other", item=rf"(?!.*\.\d{{{digits + 1}}}).*")
    return Kind("text", more - 4, int(type_ == "bpchar")) if type_ in ("varchar", "bpchar") and more > 0 else found


def _domain(kind: Kind) -> Kind:
    """Returns the kind of a column of a domain, whose type is never changed."""
    return Kind("other", item=_NOTHING if kind.name == "bytes" else kind.item if kind.name == "other" else kind)


def _converted(name: str, old: Kind, new: Kind, type_: str) -> str:
    """Returns SQL that converts a column's values to another type, and keeps all of their digits."""
    match old.name, new.name:
        case "double", "decimal":
            return f"{name}::text::numeric"
        case _, "json":
            return f"to_jsonb({name})"
        case "bytes", "text":
            return f"translate(encode({name}, 'base64'), E'\\n', '')"
        case "array", "text":
            return f"to_json({name})::text"
        case _, "text" if old.name in _ISO:
            return _ISO[old.name].format(name)
    return f"{name}::{type_}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _written(kind: Kind) -> Callable[[Sequence[Any]], Sequence[str]]:
    """Returns the function that writes the values of a column for COPY (PostgreSQL, "COPY", "Text Format")."""
    match kind.name:
        case "integer" | "double" | "boolean":
            return partial(literals, null=_NULL)
        case "vector":
            return partial(texts, write=kinds.written, null=_NULL)
        case "bytes":
            return partial(texts, write=lambda value: f"\\\\x{value.hex()}", null=_NULL)
        case "date" | "timestamp" | "timestamp_tz":
            return _moments
        case "array":
            return lambda values: escaped([None if each is None else _array(each) for each in values], _ESCAPES, _NULL)
    return partial(escaped, escapes=_ESCAPES, null=_NULL)


def _moments(values: Sequence[str | None]) -> Sequence[str]:
    """Returns dates or timestamps as COPY reads them; no character needs to be escaped."""
    if kinds.has_far(values):
        values = [value and server_text(value) for value in values]
    return [_NULL if value is None else value for value in values] if None in values else cast("Sequence[str]", values)


def _array(items: list[Any]) -> str:
    """Returns an array as text (PostgreSQL, "Array Input and Output Syntax")."""
    return "{" + ",".join(map(_item, items)) + "}"


def _item(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array(value)
    return f'"{value.translate(_QUOTES)}"' if isinstance(value, str) else str(value).lower()
