"""A stream as platforms know it: a name, the schema of its records, and how it can be read."""

from __future__ import annotations

from typing import Any, NamedTuple

from connector.records import Schema


class Stream(NamedTuple):
    """One stream of `discover`. `primary_key` names columns; `cursor_field` is the one that incremental reads go by."""

    name: str
    schema: Schema
    primary_key: tuple[str, ...] = ()
    cursor_field: str | None = None


class Selection(NamedTuple):
    """A stream as `read` is asked for it. `fields`: the columns to keep, `None` for all."""

    name: str
    is_incremental: bool = False
    fields: frozenset[str] | None = None

    def keeps(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the selected columns alone."""
        return row if self.fields is None else {name: value for name, value in row.items() if name in self.fields}


class Step(NamedTuple):
    """One step of a diagnosis: what was looked at, whether it is well, and the finding with the change to make."""

    name: str
    ok: bool
    finding: str


class Diagnosis(NamedTuple):
    """What `check` found out, step by step; it ends with the first step that fails."""

    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is well."""
        return all(step.ok for step in self.steps)

    @property
    def message(self) -> str:
        """The finding that matters, for a person."""
        return self.steps[-1].finding if self.steps else ""
