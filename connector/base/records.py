"""What travels along the path of a record: `Record` in, `Outcome` out, `Checkpoint` and `IDLE` in band between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from connector.base.errors import ConfigError

JSON: TypeAlias = Any
"""A value that `json.loads` can return."""

Schema: TypeAlias = dict[str, Any]
"""A JSON Schema (draft-07) object."""

GROUP: Final = "_llm"
"""The column that holds a row's provenance."""

ROW_KEY: Final = "_llm_row_key"
"""The column that identifies a row if no primary key is configured."""

_PARTS: Final = f"{GROUP}_"


def is_earlier(column: str) -> bool:
    """Returns whether a column of an input holds the provenance of an earlier run: `_llm`, or `_llm_…` in CSV."""
    return column.startswith(GROUP) and (column == GROUP or (column.startswith(_PARTS) and column != ROW_KEY))


def kept_as(column: str, prefix: str) -> str:
    """Returns the name that a column of an input gets: `prefix` replaces the `_llm` of an earlier run."""
    return f"{prefix}{column[len(GROUP) :]}" if prefix and is_earlier(column) else column


def kept_row(row: Mapping[str, JSON], prefix: str) -> dict[str, JSON]:
    """Returns a row with the names that `kept_as` gives.

    Raises:
        ConfigError: It already has a column of that name.
    """
    names = [kept_as(name, prefix) for name in row]
    if len(set(names)) < len(names):
        twice = [name for name in names if names.count(name) > 1]
        raise ConfigError(f'keep_llm_as: the input has a column "{twice[0]}" already: choose another name')
    return dict(zip(names, row.values(), strict=True))


def merged(row: Mapping[str, JSON], added: Mapping[str, JSON]) -> dict[str, JSON]:
    """Returns a row with the `added` columns or their new values; new provenance replaces that of an earlier run."""
    if GROUP in added and GROUP in "".join(row):  # fast, with few false positives
        row = {name: value for name, value in row.items() if not is_earlier(name)}
    return {**row, **added}


def remaining(columns: Mapping[str, Schema], added: Collection[str]) -> dict[str, Schema]:
    """Returns the columns of an input that `merged` keeps."""
    return {name: schema for name, schema in columns.items() if GROUP not in added or not is_earlier(name)}


ANY: Final[Schema] = {}
"""The schema that accepts anything."""


BAD_INPUT: Final = "_bad_input"
"""The key of the problem of a bad row in a private copy of the input; never a column."""

OnBadInput = Literal["fail", "record"]
"""What a broken line of JSON does: end the run, or fail its own row."""


class Span(Protocol):
    """Consecutive records of an input, after each of which a read can be resumed."""

    def state_after(self, index: int) -> JSON:
        """Returns the state that covers the records up to and including this one."""


@dataclass(slots=True)  # frozen would take three times as long to create, and there is one per row
class Record:
    """One input row: its position in the input (from 0), its columns, and its stream.

    `span` gives the state after it, if the input can have a state after any record.
    """

    index: int
    data: dict[str, Any]
    stream: str = ""
    problem: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)


class Part(NamedTuple):
    """One of several files that are read as one table: the index of its first row, and its columns."""

    name: str
    first: int
    columns: AbstractSet[str]


@dataclass(slots=True)
class Message:
    """In band: a line that passes through unchanged, at its place among the records (`index` counts both)."""

    index: int
    line: bytes


class Checkpoint(NamedTuple):
    """In band: `state` covers everything before this point once that has been emitted."""

    state: JSON


class Idle(Enum):
    """In band: the input has nothing at the moment, so hold nothing back."""

    IDLE = "idle"


IDLE: Final = Idle.IDLE


class Status(StrEnum):
    """How a row ended. A truncated, filtered, refused, empty or mismatched reply is never a `SUCCESS`."""

    SUCCESS = "success"
    ERROR = "error"
    INVALID_OUTPUT = "invalid_output"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether the row should have an answer but has none."""
        return self is not Status.SUCCESS and self is not Status.SKIPPED


_OK: Final = range(200, 300)


def is_ok(status: int) -> bool:
    """Returns whether an HTTP status says that a request succeeded (RFC 9110, section 15.3)."""
    return status in _OK


class Usage(NamedTuple):
    """Tokens as counted by the endpoint; `None` if it did not say, never zero instead."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None


class Reply(NamedTuple):
    """A final reply of the endpoint; a streamed one has been merged into the shape of a whole one.

    `status` is the HTTP status, `headers` the few that are kept (lower-case names), `latency_ms` the time of the
    successful attempt from the first byte sent to the last received, `cached` whether it came from the ledger, and
    `size` about how many bytes of memory a large one takes; 0 for others.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    latency_ms: int = 0
    attempts: int = 1
    cached: bool = False
    size: int = 0


class Answer(NamedTuple):
    """The content of a reply of any endpoint kind: the assembled text, why it ended, and its tokens.

    `status` is `SUCCESS` unless the reply itself shows that it is not; `problem` then says why in plain words.
    `called` has the names of the functions that it calls.
    """

    content: str | None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage = Usage()
    status: Status = Status.SUCCESS
    problem: str | None = None
    called: Sequence[str] = ()


class Failure(NamedTuple):
    """What went wrong with a row: `_llm.error`.

    `class_` is the name of the error's class, `message` is for the user, `content` is the reply's text, if it had any.
    """

    class_: str
    message: str
    http_status: int | None = None
    content: str | None = None


class Provenance(NamedTuple):
    """What is known about the call behind a row: `_llm`. Names follow OpenAI's API if it has one.

    The column and its schema are derived from these fields; see `connector.run.provenance`. `cached` says that another
    row or an earlier run has paid for the reply; `latency_ms` and `attempts` are those of the row's call.
    """

    status: Status
    error: Failure | None = None
    attempts: int = 0
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: int | None = None
    request_id: str | None = None
    prompt_hash: str | None = None
    cached: bool = False


class Outcome(NamedTuple):
    """The result of a `Record`, exactly one for each, and the columns that the row gains.

    `columns` are the mapped ones, null if the row failed; `provenance` is all that is known about the call, and `group`
    the requested part of it as a column (`{"_llm": {…}}`, or nothing).
    """

    record: Record
    status: Status
    columns: dict[str, Any]
    group: dict[str, Any]
    provenance: Provenance

    @property
    def row(self) -> dict[str, Any]:
        """The output row: the input's columns, then the mapped ones, then the provenance."""
        return merged(self.record.data, {**self.columns, **self.group})


Item: TypeAlias = Record | Message | Checkpoint | Idle
"""What goes in, in the order of the input."""

Result: TypeAlias = Outcome | Message | Checkpoint | Idle
"""What comes out."""
