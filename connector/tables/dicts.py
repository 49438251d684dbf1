"""Rows as dicts, one for each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connector.base.records import Outcome, Record, Schema
from connector.run.pipeline import Result
from connector.tables import OnError


class DictTable(NamedTuple):
    """See `connector.tables.OpenTable`."""

    rows: Iterable[Mapping[str, Any]]
    columns: None = None

    def records(self) -> Iterator[Record]:
        """See `connector.tables.OpenTable.records`."""
        return (Record(index, dict(row)) for index, row in enumerate(self.rows))

    def enriched(
        self, results: Iterator[Result], _added: Mapping[str, Schema], on_error: OnError
    ) -> Iterator[dict[str, Any]]:
        """See `connector.tables.OpenTable.enriched`."""
        return (result.row for result in on_error(results) if isinstance(result, Outcome))

    def close(self) -> None:
        """Does nothing: there is nothing to release."""


def open_table(rows: Iterable[Mapping[str, Any]]) -> DictTable:
    """See `connector.tables.TableFormat`."""
    return DictTable(rows)
