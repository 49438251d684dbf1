"""How far an input has been read: the state of a checkpoint, and how to resume from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from connector.base.errors import StateMismatchError
from connector.base.numbers import Number
from connector.base.records import BAD_INPUT, JSON, Checkpoint, Record

INTERVAL = 1_000
"""Records between two checkpoints, and rows fetched at a time."""


class Position(NamedTuple):
    """The position after `rows` records, the last `ties` of which hold `cursor` in the column `field`.

    A resumed read skips exactly that many ties, so no row is lost or repeated if rows with the same cursor value have
    been appended since.
    """

    rows: int = 0
    field: str | None = None
    cursor: JSON = None
    ties: int = 0

    @classmethod
    def of(cls, state: JSON, field: str | None) -> Position:
        """Returns the position that a state describes.

        Raises:
            StateMismatchError: It is not the state of an input read in this order.
        """
        if not state:
            return cls(0, field)
        match state:
            case {"rows": int(rows), **rest} if not rest and field is None and rows >= 0:
                return cls(rows)
            case {"cursor_field": str(saved), "cursor": cursor, **rest} if (
                saved == field and rest.keys() <= {"rows", "rows_at_cursor"} and not isinstance(cursor, dict | list)
            ):  # one written by hand has no counts: rows at the cursor are read again
                match rest.get("rows", 0), rest.get("rows_at_cursor", 0):
                    case int(rows), int(ties) if rows >= 0 and ties >= 0:
                        return cls(rows, field, cursor, ties)
        raise state_mismatch(state, field)

    @property
    def state(self) -> dict[str, JSON]:
        """The state to save, and to hand to `read` later."""
        if self.field is None:
            return {"rows": self.rows}
        return {
            "rows": self.rows,
            "cursor_field": self.field,
            "cursor": self.cursor,
            "rows_at_cursor": self.ties,
        }

    def after(self, batch: Sequence[dict[str, Any]]) -> Position:
        """Returns the position after these rows."""
        rows = self.rows + len(batch)
        if self.field is None or not batch:
            return self._replace(rows=rows)
        values = [in_state(row[self.field]) for row in batch]
        cursor = values[-1]
        ties = next((i for i, value in enumerate(reversed(values)) if value != cursor), len(batch))
        if ties == len(batch) and cursor == self.cursor:
            ties += self.ties
        return Position(rows, self.field, cursor, ties)


def in_state(value: JSON) -> JSON:
    """Returns a value as a state holds it: null for infinity, which JSON lacks; a double for a number that is one."""
    if isinstance(value, Number) and value.is_double:
        return float(value)
    return None if type(value) is float and not math.isfinite(value) else value


class Place(Protocol):
    """What `numbered` needs of a position in an input."""

    @property
    def rows(self) -> int:
        """How many records have been handed out."""
        ...

    @property
    def state(self) -> JSON:
        """The state to save, and to hand to `read` later."""
        ...

    def after(self, batch: Sequence[dict[str, Any]]) -> Self:
        """Returns the position after these rows."""
        ...


P = TypeVar("P", bound=Place)


def state_mismatch(state: JSON, field: str | None) -> StateMismatchError:
    """Returns the error for a state that does not belong to this input."""
    saved = state.get("cursor_field") if isinstance(state, dict) else None
    was = f' (the state was saved with cursor_field "{saved}")' if isinstance(saved, str) and saved != field else ""
    now = f'cursor_field "{field}"' if field else "no cursor_field"
    return StateMismatchError(f"the saved state does not fit this input, which is read with {now}{was}")


class Counted:
    """A `Span` of records after each of which a read resumes by their number alone."""

    def state_after(self, index: int) -> JSON:
        """See `Span.state_after`."""
        return Position(index + 1).state


class _Batch(NamedTuple):
    """A `Span` of the rows from `start` on."""

    start: Place
    rows: Sequence[dict[str, Any]]

    def state_after(self, index: int) -> JSON:
        """See `Span.state_after`."""
        return self.start.after(self.rows[: index + 1 - self.start.rows]).state


def numbered(
    batches: Iterable[list[dict[str, Any]]], start: P, stream: str, *, has_bad: bool = False
) -> Iterator[Record | Checkpoint]:
    """Yields the rows as records, with a checkpoint after each batch, and at least one.

    `has_bad`: rows may have the key `BAD_INPUT`.
    """
    position = start
    for rows in batches:
        span = _Batch(position, rows)
        for index, data in enumerate(rows, position.rows):
            problem = data.pop(BAD_INPUT, None) or "" if has_bad else ""
            yield Record(index, data, stream, problem, span)
        position = position.after(rows)
        yield Checkpoint(position.state)
    if position is start:
        yield Checkpoint(position.state)
