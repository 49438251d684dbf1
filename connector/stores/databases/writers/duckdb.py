"""DuckDB: rows are loaded from a JSON file, which is faster than any call; upserts by MERGE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from connector.base import numbers
from connector.base.records import JSON
from connector.base.regex import regex
from connector.stores.columnar.columns import json_value
from connector.stores.databases.loading import base, kinds
from connector.stores.databases.loading.base import Batch, Column, Plan, Refuse, Table, table_of
from connector.stores.databases.loading.kinds import Kind
from connector.stores.staging.private_directory import private_directory

_NATIVE: Final = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "text": "VARCHAR",
    "json": "JSON",
    "date": "DATE",
    "time": "TIME",
    "time_tz": "TIMETZ",
    "timestamp": "TIMESTAMP",
    "timestamp_tz": "TIMESTAMPTZ",
    "uuid": "UUID",
    "bytes": "BLOB",
}
_WHOLE: Final = "0|-?[1-9][0-9]*"
_KINDS: Final = {
    "BOOLEAN": kinds.BOOLEAN,
    "TINYINT": Kind("integer", 8),
    "SMALLINT": Kind("integer", 16),
    "INTEGER": Kind("integer", 32),
    "BIGINT": kinds.INTEGER,
    "UTINYINT": Kind("unsigned", 8),
    "USMALLINT": Kind("unsigned", 16),
    "UINTEGER": Kind("unsigned", 32),
    "UBIGINT": Kind("unsigned", 64),
    "FLOAT": kinds.FLOAT,
    "DOUBLE": kinds.DOUBLE,
    "VARCHAR": kinds.TEXT,
    "JSON": kinds.JSON_TEXT,
    "DATE": kinds.DATE,
    "TIME": kinds.TIME,
    "TIME WITH TIME ZONE": kinds.TIME_TZ,
    "HUGEINT": Kind("other", item=_WHOLE),
    "UHUGEINT": Kind("other", item=_WHOLE),
    "BIGNUM": Kind("other", item=_WHOLE),
    "TIMESTAMP": kinds.TIMESTAMP,
    "TIMESTAMP_S": Kind("timestamp", 1),
    "TIMESTAMP_MS": Kind("timestamp", 4),
    "TIMESTAMP WITH TIME ZONE": kinds.TIMESTAMP_TZ,
    "UUID": kinds.UUID,
    "BLOB": kinds.BYTES,
}
_HERE: Final = """database_name = current_database()
AND lower(schema_name) = lower(COALESCE(:schema, current_schema())) AND lower(table_name) = lower(:name)"""
"""Finds what belongs to the table: names in DuckDB are case-insensitive."""
_COLUMNS: Final = f"""
SELECT column_name, data_type, NOT is_nullable AND column_default IS NULL, column_default FROM duckdb_columns()
WHERE {_HERE} ORDER BY column_index
"""
_KEYS: Final = f"""
SELECT constraint_column_names FROM duckdb_constraints() WHERE {_HERE}
AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')
"""
_RULES: Final = f"""
SELECT constraint_type, constraint_text, expression, constraint_column_names, referenced_table,
referenced_column_names FROM duckdb_constraints() WHERE {_HERE}
AND constraint_type IN ('CHECK', 'FOREIGN KEY', 'UNIQUE', 'PRIMARY KEY') ORDER BY constraint_type, constraint_index
"""
_SQL: Final = f"""
SELECT sql FROM duckdb_tables() WHERE {_HERE}
"""
_INDEXES: Final = f"""
SELECT index_name FROM duckdb_indexes() WHERE {_HERE}
"""
_DECIMAL: Final = regex(r"DECIMAL\((\d+),(\d+)\)")
_VECTOR: Final = regex(r"FLOAT\[(\d+)\]")
_NESTED: Final = regex(r"(?!UNION)(?s:.*\]|(?:STRUCT|MAP)\(.*)")
_COMPUTED: Final = "GENERATED ALWAYS AS"
_STAGE: Final = "connector_stage"
_DIGITS: Final = 38
_LARGEST: Final = (1 << 31) - 1  # bytes of a row


class Writer(base.Writer):
    """See `base.Writer`."""

    YEARS = range(-290_307, 294_247)  # of timestamps

    def try_begin(self) -> bool:
        """See `base.Writer.try_begin`. Only one process can open a file for writing, so there is no other sync."""
        self.run("SET TimeZone = 'UTC'")
        return True

    def try_run(self, *statements: str) -> bool:
        """See `base.Writer.try_run`. There are no savepoints, and no rights that could be missing."""
        for statement in statements:
            self.run(statement)
        return True

    @property
    def _where(self) -> dict[str, Any]:
        return {"schema": self.schema or None, "name": self.name}

    def table(self) -> Table | None:
        """See `base.Writer.table`."""
        found = self._found()
        sql = self._sql()
        computed = {
            name
            for name, type_, *_ in found
            if any(f"{begin}{each} {type_} {_COMPUTED}(" in sql for begin in "( " for each in (name, self.quote(name)))
        }
        columns = [Column(name, _kind(type_), required) for name, type_, required, _ in found if name not in computed]
        return table_of(columns, computed)

    def _found(self) -> list[tuple[Any, ...]]:
        return self.ask(_COLUMNS, **self._where)

    def _sql(self) -> str:
        """Returns the table's CREATE TABLE statement; an empty string for a view."""
        return "".join(sql for (sql,) in self.ask(_SQL, **self._where))

    def native(self, kind: Kind) -> str:
        """See `base.Writer.native`."""
        match kind.name:
            case "array":
                return f"{self.native(kind.item)}[]"
            case "vector":
                return f"FLOAT[{kind.size}]"
            case "decimal":
                return f"DECIMAL({kind.size + kind.scale}, {kind.scale})"
        return _NATIVE[kind.name]

    def supported(self, kind: Kind) -> Kind:
        """See `base.Writer.supported`."""
        if kind.name == "array" and kind.item.name == "decimal":
            return kinds.JSON_TEXT
        if kind.name != "decimal":
            return kind
        wide = Kind("decimal", max(kind.size, min(18, _DIGITS - kind.scale)), kind.scale)
        return wide if kind.size and wide.size + wide.scale <= _DIGITS else kinds.TEXT

    def change(self, column: Column, kind: Kind, plan: Plan) -> None:  # noqa: ARG002 - the contract's
        """See `base.Writer.change`."""
        name = self.quote(column.name)
        value = _converted(name, column.kind, kind, self.native(kind))
        self.run(f"ALTER TABLE {self.place} ALTER COLUMN {name} TYPE {self.native(kind)} USING {value}")

    def obstacle(self, column: Column, kind: Kind) -> str:  # noqa: ARG002 - the contract's
        """See `base.Writer.obstacle`. A failed statement would end the transaction, so nothing is tried."""
        if self.ask(_INDEXES, **self._where):
            return "DuckDB alters no column type in a table with an index"
        for rule, text, _, names, *_ in self.ask(_RULES, **self._where):
            if column.name in names:
                return f"DuckDB does not alter the type of a column with a constraint: {text or rule}"
        if _COMPUTED in self._sql():
            return "DuckDB alters no column type in a table with generated columns"
        return ""

    def try_change(self, column: Column, kind: Kind, plan: Plan) -> str:
        """See `base.Writer.try_change`."""
        reason = self.obstacle(column, kind)
        if not reason:
            self.change(column, kind, plan)
        return reason

    @cached_property
    def _collated(self) -> set[str]:
        """The columns in which texts of different bytes may be equal; perhaps other text columns as well."""
        return (
            {name for name, type_, *_ in self._found() if type_ == "VARCHAR"} if " COLLATE " in self._sql() else set()
        )

    def bytewise(self, name: str, of: str = "") -> str:
        """See `base.Writer.bytewise`. `of` qualifies the column: the table's alias with its dot, or nothing."""
        return f"{of}{self.quote(name)}{' COLLATE C' if name in self._collated else ''}"

    def is_unique(self, key: Sequence[str]) -> bool:
        """See `base.Writer.is_unique`. MERGE needs no index, but with one no duplicates have to be looked for."""
        return any(set(names) == set(key) for (names,) in self.ask(_KEYS, **self._where))

    def make_unique(self, key: Sequence[str]) -> None:
        """Does nothing: MERGE keeps the key unique, and DuckDB alters no column type in a table with an index."""

    def drop_key(self) -> None:
        """Does nothing: no index was created."""

    def load(self, plan: Plan, batches: Callable[[], Iterator[Batch]], refuse: Refuse) -> None:
        """See `base.Writer.load`. There are no savepoints, so rows that violate a constraint are found beforehand."""
        self._refuse = refuse
        super().load(plan, batches, refuse)

    def write(self, plan: Plan, batches: Iterator[Batch]) -> None:
        """See `base.Writer.write`."""
        with private_directory() as directory:
            path = directory / "rows.jsonl"
            _save(path, plan, batches)
            if plan.mode == "overwrite":
                self.run(f"DELETE FROM {self.place}")
                for column, kind in plan.changed:
                    name = self.quote(column.name)
                    self.run(f"ALTER TABLE {self.place} ALTER COLUMN {name} TYPE {self.native(kind)} USING NULL")
            if path.stat().st_size:
                self._load(path, plan)

    def _load(self, path: Path, plan: Plan) -> None:
        columns = [column.name for column in plan.columns]
        names = self.list_of(columns)
        given = ", ".join(f"'{place}': '{self._read(column.kind)}'" for place, column in enumerate(plan.columns))
        cells = ", ".join(self._cell(place, column) for place, column in enumerate(plan.columns))
        file = str(path).replace("'", "''")
        longest = min(max(path.stat().st_size, 1 << 24), _LARGEST)
        reader = (
            f"read_json('{file}', format = 'newline_delimited', columns = {{{given}}}, maximum_object_size = {longest})"
        )
        rows = f"SELECT {cells} FROM {reader}"
        numbered = f"SELECT {cells}, row_number() OVER () AS {plan.order} FROM {reader}"
        if rules := list(self._rules(plan)):
            self._sift(numbered, plan, rules)
            numbered = f"SELECT * FROM {_STAGE}"
            rows = f"SELECT {names} FROM {_STAGE} ORDER BY {plan.order}"
        if not plan.key:
            self.run(f"INSERT INTO {self.place} ({names}) {rows}")
            return
        key = ", ".join(map(self.bytewise, plan.key))
        whole = " AND ".join(f"{self.quote(name)} IS NOT NULL" for name in plan.key)
        same = " AND ".join(f"{self.bytewise(name, 't.')} = {self.bytewise(name, 's.')}" for name in plan.key)
        values = ", ".join(f"{self.quote(name)} = s.{self.quote(name)}" for name in plan.others)
        matched = f"WHEN MATCHED THEN UPDATE SET {values}" if values else ""
        last = f"row_number() OVER (PARTITION BY {key} ORDER BY {plan.order} DESC) = 1 OR NOT ({whole})"
        self.run(
            f"MERGE INTO {self.place} t USING (SELECT * FROM ({numbered}) QUALIFY {last} ORDER BY {plan.order}) s "
            f"ON {same} {matched} WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({self.list_of(columns, 's.')})"
        )

    def _rules(self, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the table's constraints: each as a reason to refuse a row, and SQL that is true for such a row `s`."""
        types = {name: type_ for name, type_, *_ in self._found()}
        for column in plan.columns:
            if column.kind.name == "other":
                cell = f"s.{self.quote(column.name)}"
                what = f'"{column.name}" is not a valid {types[column.name]}'
                yield what, f"{cell} IS NOT NULL AND TRY_CAST({cell} AS {types[column.name]}) IS NULL"
        is_known = self._are_same(plan.key) if plan.key else "FALSE"
        given = {column.name for column in plan.columns}
        for name, _, is_required, _ in self._found():
            if is_required and name not in given:  # an update keeps its value
                new = f"NOT EXISTS (SELECT 1 FROM {self.place} o WHERE {is_known})"
                yield f'"{name}" is null, which the table does not allow', new
        for kind, text, expression, columns, other, others in self.ask(_RULES, **self._where):
            if kind == "CHECK":
                yield f"it violates the constraint {text}", f"NOT ({expression})"
                continue
            whole = " AND ".join(f"s.{self.quote(name)} IS NOT NULL" for name in columns)
            if kind == "FOREIGN KEY":
                place = f"{self.quote(self.schema)}.{self.quote(other)}" if self.schema else self.quote(other)
                pairs = zip(columns, others, strict=True)
                same = " AND ".join(f"o.{self.quote(there)} = s.{self.quote(here)}" for here, there in pairs)
                missing = f"{whole} AND NOT EXISTS (SELECT 1 FROM {place} o WHERE {same})"
                yield f"it violates the constraint {text}", missing
            elif set(columns) != set(plan.key):
                same = self._are_same(columns)
                differs = f" AND ({is_known}) IS NOT TRUE"
                here = f"EXISTS (SELECT 1 FROM {self.place} o WHERE {same}{differs})"
                before = f"EXISTS (SELECT 1 FROM {_STAGE} o WHERE {same}{differs} AND o.{plan.order} < s.{plan.order})"
                yield f"another row has the same {', '.join(columns)}", f"{whole} AND ({here} OR {before})"

    def _are_same(self, columns: Sequence[str]) -> str:
        """Returns SQL that is true where rows `o` and `s` have the same values in these columns, compared as bytes."""
        return " AND ".join(f"{self.bytewise(name, 'o.')} = {self.bytewise(name, 's.')}" for name in columns)

    def _sift(self, rows: str, plan: Plan, rules: Iterable[tuple[str, str]]) -> None:
        """Copies the rows into a staging table, and leaves out those that violate a constraint."""
        names = [column.name for column in plan.columns]
        others = [(name, default) for name, _, _, default in self._found() if name not in names]
        more = "".join(f", {default or 'NULL'} AS {self.quote(name)}" for name, default in others)
        self.run(f"CREATE OR REPLACE TEMP TABLE {_STAGE} AS SELECT *{more} FROM ({rows})")
        for column in plan.columns:
            self._sift_nested(plan, column)
        for reason, broken in rules:
            found = f"FROM {_STAGE} s WHERE {broken}"
            for row in self.run(f"SELECT {self.list_of(names, 's.')} {found} ORDER BY {plan.order}"):
                self._refuse(reason, row)
            self.run(f"DELETE FROM {_STAGE} WHERE {plan.order} IN (SELECT s.{plan.order} {found})")

    def _sift_nested(self, plan: Plan, column: Column) -> None:
        """Leaves out rows whose list or object the column would alter: a cast rounds numbers deep inside it."""
        type_ = {name: type_ for name, type_, *_ in self._found()}[column.name]
        if column.kind != kinds.OTHER or not _NESTED.fullmatch(type_):
            return
        cell, names = self.quote(column.name), self.list_of(each.name for each in plan.columns)
        made = f"CAST(to_json(TRY_CAST({cell} AS {type_})) AS VARCHAR)"
        found = self.run(f"SELECT {plan.order}, {cell}, {made} FROM {_STAGE} WHERE {cell} IS NOT NULL")
        bad = [place for place, sent, kept in found if kept is None or not _is_kept(_parsed(sent), _parsed(kept))]
        for place in bad:
            for row in self.run(f"SELECT {names} FROM {_STAGE} WHERE {plan.order} = {place}"):
                self._refuse(f'the value of "{column.name}" would not stay the same as {type_}', row)
            self.run(f"DELETE FROM {_STAGE} WHERE {plan.order} = {place}")

    def _read(self, kind: Kind) -> str:
        """Returns the type that a value is read from the file as; `_cell` casts those that are read as text."""
        return self.native(kind) if kind.name in ("array", "vector") else _READ.get(kind.name, "VARCHAR")

    def _cell(self, place: int, column: Column) -> str:
        kind, value = column.kind, f'"{place}"'
        if kind.name == "bytes":
            value = f"from_base64({value})"
        elif kind == kinds.FLOAT:  # else it would equal no key in the table
            value = f"CAST({value} AS FLOAT)"
        elif kind.name not in ("other", "array", "vector", *_READ):
            value = f"CAST({value} AS {self.native(kind)})"
        return f"{value} AS {self.quote(column.name)}"


_READ: Final = {"boolean": "BOOLEAN", "integer": "BIGINT", "unsigned": "UBIGINT", "double": "DOUBLE", "text": "VARCHAR"}
"""The types that the file is read with; all other kinds are read as text, and then cast."""


def _parsed(text: str) -> JSON:
    try:
        return numbers.loads(text)
    except ValueError:
        return text


def _is_kept(sent: JSON, found: JSON) -> bool:
    """Returns whether a stored value equals what was sent; a STRUCT may have more fields, which are then null."""
    match sent, found:
        case dict(), dict():
            more = [value for name, value in found.items() if name not in sent]
            return set(more) <= {None} and all(
                name in found and _is_kept(each, found[name]) for name, each in sent.items()
            )
        case list(), list():
            return len(sent) == len(found) and all(map(_is_kept, sent, found))
        case (bool(), _) | (_, bool()):
            return sent is found
        case str(), str():
            return sent.replace("T", " ") == found.replace("T", " ")
    return bool(sent == found) or found == kinds.written(sent)


def _kind(type_: str) -> Kind:
    if found := _DECIMAL.fullmatch(type_):
        precision, scale = map(int, found.groups())
        return Kind("decimal", precision - scale, scale)
    if found := _VECTOR.fullmatch(type_):
        return Kind("vector", int(found[1]))
    if type_.endswith("[]"):
        inner = _kind(type_[:-2])
        return Kind("array", item=inner) if inner.name in kinds.SCALARS else kinds.OTHER
    return _KINDS.get(type_, kinds.OTHER)


def _converted(name: str, old: Kind, new: Kind, type_: str) -> str:
    """Returns SQL that converts a column's values to another type."""
    match old.name, new.name:
        case _, "json":
            return f"to_json({name})"
        case "array" | "vector", "text":
            return f"CAST(to_json({name}) AS VARCHAR)"
        case "bytes", "text":
            return f"to_base64({name})"
        case "date" | "timestamp" | "timestamp_tz", "text":
            return json_value(name, duckdb.sqltype(_NATIVE[old.name]))[0]
    return f"CAST({name} AS {type_})"


def _unsigned(text: str) -> str:
    """Returns a date or timestamp as DuckDB reads it: without a sign before a five-digit year."""
    return text.removeprefix("+")


_WRITTEN: Final[dict[str, Callable[[Any], str]]] = {
    "bytes": kinds.base64_of,
    "date": _unsigned,
    "timestamp": _unsigned,
    "timestamp_tz": _unsigned,
}


def _save(path: Path, plan: Plan, batches: Iterator[Batch]) -> None:
    """Writes rows as JSON lines: objects whose keys are the numbers of the columns."""
    keys = [str(place) for place in range(len(plan.columns))]
    written = [_WRITTEN.get(column.kind.name) for column in plan.columns]
    with path.open("wb") as file:
        for batch in batches:
            columns = [
                [None if value is None else each(value) for value in values] if each else values
                for values, each in zip(batch, written, strict=True)
            ]
            file.writelines(
                orjson.dumps(dict(zip(keys, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
                for row in zip(*columns, strict=True)
            )
