"""Inputs that keep the provenance of an earlier run under another name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connector.base.records import JSON, Checkpoint, Idle, Record, Schema, kept_row
from connector.stores import Source


class Kept:
    """A `Source` that renames the provenance of an earlier run: `prefix` in place of `_llm`."""

    def __init__(self, source: Source, prefix: str) -> None:
        self._source = source
        self._prefix = prefix

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self._source.name

    @property
    def columns(self) -> Mapping[str, Schema]:
        """See `Source.columns`."""
        return kept_row(self._source.columns, self._prefix)

    @property
    def rows(self) -> int | None:
        """See `Source.rows`."""
        return self._source.rows

    @property
    def primary_key(self) -> tuple[str, ...]:
        """See `Source.primary_key`."""
        return self._source.primary_key

    def read(self, state: JSON = None) -> Iterator[Record | Checkpoint | Idle]:
        """See `Source.read`."""
        for item in self._source.read(state):
            if isinstance(item, Record):
                item.data = kept_row(item.data, self._prefix)
            yield item


def kept(source: Source, prefix: str) -> Source:
    """Returns the source, renamed like this if there is a prefix."""
    return Kept(source, prefix) if prefix else source
