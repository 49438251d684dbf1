"""How far an input has been read: the state in a checkpoint, and how it is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, NamedTuple

from connector.base.errors import ConfigError
from connector.base.records import JSON, Checkpoint, Record

INTERVAL = 1_000
"""Records between two checkpoints, and the rows that are fetched at a time."""

SECONDS = 10.0
"""And the time between two, while records are taken at all."""


class Position(NamedTuple):
    """`rows` records have been handed out; the last `ties` of them hold `cursor` in the column `field`.

    Counting the ties lets a resumed read skip exactly those, so that of rows with one cursor value none is lost and
    none is repeated, also when more of them have been appended since.
    """

    rows: int = 0
    field: str | None = None
    cursor: JSON = None
    ties: int = 0

    @classmethod
    def of(cls, state: JSON, field: str | None) -> Position:
        """The position that a state tells.

        Raises:
            ConfigError: it is not a state of an input that is read in this order.
        """
        if not state:
            return cls(0, field)
        match state:
            case {"rows": int(rows), **rest} if not rest and field is None and rows >= 0:
                return cls(rows)
            case {
                "rows": int(rows),
                "cursor_field": str(saved),
                "cursor": cursor,
                "rows_at_cursor": int(ties),
                **rest,
            } if not rest and saved == field and rows >= 0 and ties >= 0 and not isinstance(cursor, (dict, list)):
                return cls(rows, field, cursor, ties)
        raise misfit(state, field)

    @property
    def state(self) -> dict[str, JSON]:
        """What to save, and to hand to `read` again."""
        if self.field is None:
            return {"rows": self.rows}
        return {
            "rows": self.rows,
            "cursor_field": self.field,
            "cursor": self.cursor,
            "rows_at_cursor": self.ties,
        }

    def after(self, batch: Sequence[dict[str, Any]]) -> Position:
        """The position behind these rows."""
        rows = self.rows + len(batch)
        if self.field is None or not batch:
            return self._replace(rows=rows)
        cursor = batch[-1][self.field]
        ties = next((i for i, row in enumerate(reversed(batch)) if row[self.field] != cursor), len(batch))
        if ties == len(batch) and cursor == self.cursor:
            ties += self.ties
        return Position(rows, self.field, cursor, ties)


def misfit(state: JSON, field: str | None) -> ConfigError:
    """The error for a state that does not belong to this input."""
    saved = state.get("cursor_field") if isinstance(state, dict) else None
    was = f" It was saved with cursor_field {saved!r}." if isinstance(saved, str) and saved != field else ""
    now = f"cursor_field {field!r}" if field else "no cursor_field"
    return ConfigError(
        f"The saved state does not fit this input, which is read with {now}.{was} "
        "Read it as it was read then, or remove the state to start again."
    )


def numbered(
    batches: Iterable[list[dict[str, Any]]], start: Position, stream: str, now: Callable[[], float] = monotonic
) -> Iterator[Record | Checkpoint]:
    """The rows as records, a checkpoint behind each batch and wherever they are taken slowly, and one in any case."""
    position, told = start, now()
    for batch in batches:
        begun = 0
        for place, data in enumerate(batch):
            if place > begun and now() - told >= SECONDS:
                position, begun, told = position.after(batch[begun:place]), place, now()
                yield Checkpoint(position.state)
            yield Record(position.rows + place - begun, data, stream)
        position, told = position.after(batch[begun:]), now()
        yield Checkpoint(position.state)
    if position is start:
        yield Checkpoint(position.state)
