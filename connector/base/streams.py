"""A stream as platforms know it: a name, the schema of its records, how it can be read, and how it is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from connector.base.errors import Problem
from connector.base.records import Schema

Mode = Literal["overwrite", "append", "append_dedup"]
"""What becomes of the rows that an output has: others take their place, or come behind them, or replace those of the
same key. The names are Airbyte's."""

NO_OUTPUT: Final = Problem("output", "is missing: say where to write the rows")
"""What is wrong with a config whose rows are to be written."""


class Stream(NamedTuple):
    """One stream of `discover`. `primary_key` names columns; `cursor_field` is the one that incremental reads go by."""

    name: str
    schema: Schema
    primary_key: tuple[str, ...] = ()
    cursor_field: str | None = None


class Selection(NamedTuple):
    """A stream as `read` is asked for it.

    `fields`: the columns to keep, `None` for all. `is_keyed`: each row is to have a key of the connector's own.
    """

    name: str
    is_incremental: bool = False
    fields: frozenset[str] | None = None
    is_keyed: bool = False

    def keeps(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the selected columns alone."""
        return row if self.fields is None else {name: value for name, value in row.items() if name in self.fields}


class Target(NamedTuple):
    """A stream that `write` has rows for.

    `columns` are those that are known, rows may have others; `added` are those that its rows gain. `primary_key` says
    which rows replace which. `is_open`: the output was found to take them, and is not to be tried again. `job` is what
    the same run has again when it is started once more: what a killed one has stored, is then not appended twice.
    """

    name: str
    mode: Mode = "append"
    columns: Mapping[str, Schema] = {}
    added: Mapping[str, Schema] = {}
    primary_key: tuple[str, ...] = ()
    is_open: bool = False
    job: str = ""


class Estimate(NamedTuple):
    """In band, before the first record: how many there are to come."""

    rows: int


class Limited(NamedTuple):
    """In band: the endpoint limits the rate. `until` says for how long, in seconds since 1970, where it said so."""

    until: float | None


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
