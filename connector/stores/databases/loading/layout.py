"""What a table must look like for the rows that are written to it: the name and the kind of each column."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Self

from connector.base.errors import ConfigError
from connector.base.records import JSON, Schema
from connector.base.streams import Target
from connector.stores.databases.loading import kinds
from connector.stores.databases.loading.base import Column, Plan, Table, Writer
from connector.stores.databases.loading.block import Block
from connector.stores.databases.loading.kinds import Kind
from connector.stores.databases.loading.names import Names

_LOG: Final = logging.getLogger(__name__)


class Layout:
    """Which column takes the values of which name, and which kind each column must have.

    Attributes:
        table: The table that it is for; another one, or the same one altered, needs a new layout.
        kinds: The kind of each column, by its name in the rows.
        unready: Names with values that must be converted; the values of all others go to the database as they are.
    """

    def __init__(self, writer: Writer, table: Table | None, schemas: Mapping[str, Schema], target: Target) -> None:
        writer.supported(kinds.VECTOR)  # may query the database, and later there may be no connection
        self._writer = writer
        self.table = table
        self._target = target
        self._existing = {} if table is None else table.columns
        self._generated = frozenset[str]() if table is None else table.generated
        self.names = Names(writer.RULES, {*self._existing, *self._generated}, schemas)
        self._is_kept = target.mode != "overwrite"  # columns keep the kinds that they have
        self.kinds: dict[str, Kind] = {}
        self.unready: set[str] = set()
        self._seen: set[str] = set()
        self._schemas = schemas
        for name in schemas:
            self._meet(name)

    def over(self, writer: Writer) -> Self:
        """Returns this layout, bound to another connection to the same database."""
        self._writer = writer
        return self

    def learn(self, block: Block) -> None:
        """Widens the columns as far as these rows need."""
        for name, values in block.columns.items():
            if name not in self.kinds:
                self._meet(name)
            kind = self.kinds[name]
            if not kinds.are_ready(kind, values):
                if not kinds.fits(kind, values):
                    self.kinds[name] = self._widened(name, kind, values)
                    self.unready.add(name)
                elif kind.name not in kinds.TEXTS:
                    self.unready.add(name)
            if name not in self._seen and values.count(None) < len(values):
                self._seen.add(name)

    def _meet(self, name: str) -> None:
        column = self._existing.get(self.names.column(name))
        if self.names.column(name) in self._generated:
            self.kinds[name] = kinds.GENERATED
            return
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
            return kind  # another length is another model's: keep the column, and any index on it
        if kind == kinds.TIMESTAMP_TZ and is_new and name not in self._seen and kinds.fits(kinds.TIMESTAMP, values):
            return kinds.TIMESTAMP
        if kind.name in (*kinds.MOMENTS, "bytes") and kind.size and kinds.fits(Kind(kind.name), values):
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
        """Returns what to do to the table for the rows learnt so far.

        Raises:
            ConfigError: A column of the key is a generated one.
        """
        columns, added, changed = [], [], []
        for name, kind in self.kinds.items():
            if kind == kinds.GENERATED:
                continue
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
        if computed := self._generated.intersection(key):
            raise ConfigError(
                f'{self._writer.name}: the database computes the column "{min(computed)}" of the key: '
                "make the columns that it is computed from, or others that are written, the key"
            )
        return Plan(self._target.mode, columns, added, changed, key)

    def prepared(self, plan: Plan) -> Plan:
        """Adds and widens columns; returns the plan with the kinds that they then have."""
        now = {column.name: column for column in plan.columns}
        is_overwrite = plan.mode == "overwrite"  # changes types later, once the table is empty
        changed = []
        for name, kind in self.kinds.items():
            if kind == kinds.GENERATED:
                _LOG.warning(
                    '%s: the database computes the column "%s": the values that rows have for it are not written',
                    self._writer.name, self.names.column(name),
                )  # fmt: skip
        for column in plan.added:
            self._writer.add(column, plan)
        for before, wanted in plan.changed:
            writer = self._writer
            kind = writer.widest(before, wanted)
            problem = writer.obstacle(before, kind) if is_overwrite else writer.try_change(before, kind, plan)
            now[before.name] = before if problem else Column(before.name, kind)
            if is_overwrite and not problem:
                changed.append((before, kind))
                continue
            type_ = writer.native(kind)
            how = f"cannot become {type_} ({problem}), although" if problem else f"becomes {type_}, because"
            _LOG.warning(
                '%s: the column "%s" (%s) %s rows of this sync need it',
                self._writer.name, before.name, before.kind, how,
            )  # fmt: skip
        return plan._replace(columns=[now[column.name] for column in plan.columns], changed=changed)
