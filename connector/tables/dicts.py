"""Tables as dicts, one per row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from connector.base.errors import ConfigError
from connector.base.records import GROUP, Outcome, Record, Result, Schema, is_earlier, kept_row, merged
from connector.base.values import listed

_LOG: Final = logging.getLogger(__name__)


class DictTable(NamedTuple):
    """See `connector.tables.OpenTable`."""

    rows: Iterable[Mapping[str, Any]]
    keep_as: str = ""
    columns: None = None

    def records(self) -> Iterator[Record]:
        """See `connector.tables.OpenTable.records`."""
        for index, row in enumerate(self.rows):
            try:
                yield Record(index, kept_row(row, self.keep_as) if self.keep_as else dict(row))
            except (TypeError, ValueError):
                raise ConfigError(
                    f"row {index + 1} is of type {type(row).__name__}: make a dict of it, its columns by their names"
                ) from None

    def fitting(self, added: Mapping[str, Schema]) -> Callable[[Outcome], Outcome]:  # noqa: ARG002 - the contract's
        """See `connector.tables.OpenTable.fitting`. A dict takes any value."""
        return _as_it_is

    def enriched(self, results: Iterator[Result], added: Mapping[str, Schema]) -> Iterator[dict[str, Any]]:
        """See `connector.tables.OpenTable.enriched`."""
        is_said = GROUP not in added
        for result in results:
            if isinstance(result, Outcome):
                if not is_said and any(map(is_earlier, result.record.data)):
                    is_said = True
                    _LOG.warning(
                        'the provenance of an earlier run, "%s", is replaced: set keep_llm_as to keep it', GROUP
                    )
                gained = {**result.columns, **result.group}
                yield merged(result.record.data, {name: listed(value) for name, value in gained.items()})

    def close(self) -> None:
        """Does nothing: there is nothing to release."""


def _as_it_is(outcome: Outcome) -> Outcome:
    return outcome


def open_table(rows: Iterable[Mapping[str, Any]], keep_as: str) -> DictTable:
    """See `connector.tables.TableFormat`."""
    return DictTable(rows, keep_as)
