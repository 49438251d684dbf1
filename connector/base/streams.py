"""A stream as platforms know it: a name, the schema of its records, how it can be read, and how to write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from connector.base.errors import Problem
from connector.base.records import Schema

Mode = Literal["overwrite", "append", "append_dedup"]
"""What happens to existing rows of an output: new rows replace all of them, are appended, or replace those with the
same key. The names are Airbyte's."""

NO_OUTPUT: Final = Problem("output", "is missing: say where to write the rows")
"""The problem of a config without an output, if rows are to be written."""


class Stream(NamedTuple):
    """One stream of `discover`. `primary_key` names columns; `cursor_field` is the column for incremental reads."""

    name: str
    schema: Schema
    primary_key: tuple[str, ...] = ()
    cursor_field: str | None = None


class Selection(NamedTuple):
    """A stream that `read` is asked for.

    `fields`: the columns to keep, `None` for all. `is_keyed`: each row gets a key made by the connector.
    """

    name: str
    is_incremental: bool = False
    fields: frozenset[str] | None = None
    is_keyed: bool = False

    def keeps(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns the row with only the selected columns."""
        return row if self.fields is None else {name: value for name, value in row.items() if name in self.fields}


class Target(NamedTuple):
    """A stream for which `write` has rows.

    `columns` are the known ones, rows may have others; `added` are those that its rows gain. `primary_key` decides
    which rows are replaced. `is_open`: the output is known to accept them and need not be checked again. `job` is the
    same when a run is started again, so that rows stored by a killed run are not appended twice.
    """

    name: str
    mode: Mode = "append"
    columns: Mapping[str, Schema] = {}
    added: Mapping[str, Schema] = {}
    primary_key: tuple[str, ...] = ()
    is_open: bool = False
    job: str = ""


class Estimate(NamedTuple):
    """In band, before the first record: how many records will come."""

    rows: int


class Limited(NamedTuple):
    """In band: the endpoint limits the rate, `until` seconds since 1970, if it said so."""

    until: float | None


class Step(NamedTuple):
    """One step of a diagnosis: what was checked, whether it passed, and the finding with the change to make."""

    name: str
    ok: bool
    finding: str


class Diagnosis(NamedTuple):
    """The findings of `check`, step by step, up to the first step that fails."""

    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether every step passed."""
        return all(step.ok for step in self.steps)

    @property
    def message(self) -> str:
        """The decisive finding, for people."""
        return self.steps[-1].finding if self.steps else ""
