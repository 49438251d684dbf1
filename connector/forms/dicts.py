"""Rows as dicts, one for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connector.forms import Kept
from connector.pipeline import Result
from connector.records import Outcome, Record, Schema


class Dicts(NamedTuple):
    """See `connector.forms.Rows`."""

    rows: Iterable[Mapping[str, Any]]
    columns: None = None

    def records(self) -> Iterator[Record]:
        """See `connector.forms.Rows.records`."""
        return (Record(index, dict(row)) for index, row in enumerate(self.rows))

    def enriched(self, results: Iterator[Result], _added: Mapping[str, Schema], kept: Kept) -> Iterator[dict[str, Any]]:
        """See `connector.forms.Rows.enriched`."""
        return (result.row for result in kept(results) if isinstance(result, Outcome))

    def close(self) -> None:
        """Nothing is held open."""


def opened(rows: Iterable[Mapping[str, Any]]) -> Dicts:
    """See `connector.forms.Form`."""
    return Dicts(rows)
