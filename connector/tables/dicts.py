"""Rows as dicts, one for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connector.base.records import Outcome, Record, Schema
from connector.run.pipeline import Result
from connector.tables import Kept


class Dicts(NamedTuple):
    """See `connector.tables.Rows`."""

    rows: Iterable[Mapping[str, Any]]
    columns: None = None

    def records(self) -> Iterator[Record]:
        """See `connector.tables.Rows.records`."""
        return (Record(index, dict(row)) for index, row in enumerate(self.rows))

    def enriched(self, results: Iterator[Result], _added: Mapping[str, Schema], kept: Kept) -> Iterator[dict[str, Any]]:
        """See `connector.tables.Rows.enriched`."""
        return (result.row for result in kept(results) if isinstance(result, Outcome))

    def close(self) -> None:
        """Nothing is held open."""


def opened(rows: Iterable[Mapping[str, Any]]) -> Dicts:
    """See `connector.tables.Form`."""
    return Dicts(rows)
