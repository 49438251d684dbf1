"""The rows that the studio shows: the whole table or a random sample of a large one, searched in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from connector.base.records import Record, Schema
from connector.base.values import is_null
from connector.run.sampling import sample
from connector.stores import Source

MOST: Final = 100_000
"""The most rows kept; of a larger table they are a random sample."""

_WORDS: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}
_LOOKED_AT: Final = 200  # rows from which the type of a column is inferred if there is no schema


class Column(NamedTuple):
    """A column, the type of its values in words, and how many of them are null."""

    name: str
    type: str
    nulls: int


class Table:
    """The rows of an input.

    Attributes:
        records: The rows that are kept, in the order of the input.
        rows: How many there are in all.
        columns: The columns.
    """

    def __init__(self, source: Source, *, most: int = MOST) -> None:
        rows = (item for item in source.read() if isinstance(item, Record) and not item.problem)
        self.records, self.rows = sample(rows, most, 0)
        names = list(source.columns) or list(dict.fromkeys(name for each in self.records for name in each.data))
        self.columns = [self._column(name, source.columns.get(name, {})) for name in names]
        self.names = names
        self._texts: list[str] = []
        self._places: tuple[str, Sequence[int]] = ("", ())

    def _column(self, name: str, schema: Schema) -> Column:
        nulls = sum(is_null(record.data.get(name)) for record in self.records)
        values = (each.data.get(name) for each in self.records[:_LOOKED_AT])
        return Column(name, _type_of(schema, next((each for each in values if not is_null(each)), None)), nulls)

    @property
    def is_sample(self) -> bool:
        """Whether there are more rows than are kept."""
        return self.rows > len(self.records)

    def found(self, query: str) -> Sequence[int]:
        """Returns the indexes of the rows with a value that contains a text, ignoring case.

        The first search of a large table takes a second or two. Thread-safe.
        """
        query = query.strip().casefold()
        if not query:
            return range(len(self.records))
        known, places = self._places
        if query != known:
            if not self._texts:
                self._texts = [_text_of(record) for record in self.records]
            places = [place for place, text in enumerate(self._texts) if query in text]
            self._places = (query, places)
        return places


def _type_of(schema: Schema, value: Any) -> str:
    kinds = schema.get("type", ())
    kind = next((each for each in ([kinds] if isinstance(kinds, str) else kinds) if each != "null"), None)
    if kind is None:
        kind = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}.get(
            type(value)
        )
    made = schema.get("format")
    return {"date-time": "time", "date": "date"}.get(str(made)) or _WORDS.get(str(kind), str(kind or "unknown"))


def _text_of(record: Record) -> str:
    return "\n".join(_values(record)).casefold()


def _values(record: Record) -> Iterator[str]:
    for value in record.data.values():
        yield value if isinstance(value, str) else shown(value)


def shown(value: Any) -> str:
    """Returns a value as the text of a cell."""
    if isinstance(value, str):
        return value
    return "" if is_null(value) else json.dumps(value, ensure_ascii=False, default=str)
