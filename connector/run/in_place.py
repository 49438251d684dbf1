"""A table that is enriched in place: which of its rows are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connector.base import numbers
from connector.base.errors import TemplateError
from connector.base.records import GROUP, JSON, Checkpoint, Idle, Record, Schema, Status
from connector.run.plan import Plan
from connector.stores import Source


class Due:
    """A `Source` of the rows that lack the columns which `plan` adds, or whose request has changed since they got them.

    The columns are left out of the rows: they are about to be made anew. `primary_key` is that of the table.
    """

    rows: int | None = None

    def __init__(self, source: Source, plan: Plan) -> None:
        self._source = source
        self._plan = plan
        self.name = source.name
        self.columns: Mapping[str, Schema] = {
            name: schema for name, schema in source.columns.items() if name not in plan.added
        }
        self.primary_key: tuple[str, ...] = getattr(source, "primary_key", ())

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """See `Source.read`."""
        count = 0
        for item in self._source.read(state):
            if not isinstance(item, Record):
                yield item
                continue
            own = {name: item.data[name] for name in self.columns}
            if self._is_due(item.data, own):
                yield Record(count, own, item.stream, item.problem)
                count += 1

    def _is_due(self, row: Mapping[str, Any], own: dict[str, Any]) -> bool:
        if GROUP not in self._plan.added:
            return any(row.get(name) is None for name in self._plan.added)
        told = row.get(GROUP)
        known = numbers.loads(told) if isinstance(told, str) and told.startswith("{") else told
        if not isinstance(known, dict) or known.get("status") != Status.SUCCESS:
            return True
        try:
            return bool(known.get("prompt_hash") != self._plan.requests.call(Record(0, own)).key.hex())
        except TemplateError:
            return True
