"""Which rows of a table that is enriched in place are due."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

from connector.base import numbers
from connector.base.amounts import counted
from connector.base.errors import TemplateError
from connector.base.records import GROUP, JSON, Checkpoint, Idle, Record, Schema, Status
from connector.run.plan import Plan
from connector.stores import Source

_LOG: Final = logging.getLogger(__name__)


class Due:
    """A `Source` of the rows that lack the columns which `plan` adds, or whose request has changed since they got them.

    Rows that `where` does not want are left as they are, and so are those whose primary key is null, as it may be in
    SQLite: a warning says so. The columns are left out of the rows, since they are made again.
    `primary_key` is that of the table.
    """

    rows: int | None = None

    def __init__(self, source: Source, plan: Plan) -> None:
        self._source = source
        self._plan = plan
        self.name = source.name
        self.columns: Mapping[str, Schema] = {
            name: schema for name, schema in source.columns.items() if name not in plan.added
        }
        self.primary_key = source.primary_key
        self._is_told = False

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """See `Source.read`."""
        count = without = 0
        for item in self._source.read(state):
            if not isinstance(item, Record):
                yield item
                continue
            if any(item.data[name] is None for name in self.primary_key):
                without += 1
                continue
            own = {name: item.data[name] for name in self.columns}
            record = Record(count, own, item.stream, item.problem)
            if self._is_due(item.data, record):
                yield record
                count += 1
        if without and not self._is_told:
            self._is_told = True
            _LOG.warning(
                "%s: %s cannot be filled, because the primary key is null there: fill it",
                self.name,
                counted(without, "row"),
            )

    def _is_due(self, row: Mapping[str, Any], record: Record) -> bool:
        try:
            return self._plan.requests.wants(record) and (self._lacks(row) or self._has_changed(row, record))
        except TemplateError:  # it fails, and says so
            return True

    def _lacks(self, row: Mapping[str, Any]) -> bool:
        if GROUP not in self._plan.added:
            return any(row.get(name) is None for name in self._plan.added)
        return _provenance(row).get("status") != Status.SUCCESS

    def _has_changed(self, row: Mapping[str, Any], record: Record) -> bool:
        """Whether a row's request is another one than the row tells. Without the hash (`metadata`), it tells none."""
        known = _provenance(row).get("prompt_hash") if GROUP in self._plan.added else None
        return known is not None and known != self._plan.requests.call(record).key.hex()


def _provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    told = row.get(GROUP)
    known = numbers.loads(told) if isinstance(told, str) and told.startswith("{") else told
    return known if isinstance(known, dict) else {}
