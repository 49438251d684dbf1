"""The figures of a run, as one record of plain values from which both the JSON and the page are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

VERSION: Final = 1
"""The version of the JSON. Fields may be added; none changes its meaning."""

Kind = Literal["values", "numbers", "texts", "lists", "other", "nothing"]
"""What is shown of a column: how often each value occurs, its numbers, the lengths of its texts or lists, only nulls
and types, or nothing."""


@dataclass(frozen=True)
class Run:
    """What ran. `config` has no secrets; `started` and `ended` are ISO 8601, in UTC.

    `input` is `None` in a report that is made from an output.
    """

    program: str
    input: str | None
    output: str
    url: str | None
    models: dict[str, int]
    config: dict[str, Any]
    started: str | None
    ended: str | None
    seconds: float | None
    stopped_by: str | None = None


@dataclass(frozen=True)
class Outcomes:
    """Rows by status. `cached` counts those answered without a new call; `None` if that is unknown."""

    rows: int
    failed: int
    cached: int | None
    statuses: dict[str, int]


@dataclass(frozen=True)
class Spending:
    """Calls, tokens and USD of this run alone. What is unknown is `None`, never zero.

    `calls` and `retries` come from the engine. A report that is made from an output adds up the attempts of its rows
    instead, if the config says that none share a call, and does not know the retries. `costly_rows` is the number of
    paid rows whose cost is known. `saved_usd` is what the replies of cached rows cost when they were paid for.
    `cost_source` names the source of an estimate; it is empty if the cost comes from the endpoint or the config's
    prices, or if an output does not say.
    """

    calls: int | None = None
    retries: int | None = None
    paid_rows: int | None = None
    costly_rows: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    cost_source: str = ""


@dataclass(frozen=True)
class Bin:
    """How many values are at least `low` and less than `high`; the last bin includes `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Distribution:
    """The distribution of numbers: count, extremes, mean, quantiles, and a histogram.

    If there are more than `sampled` numbers, quantiles and bins come from a random sample of so many. The last bin also
    counts the `beyond` numbers that are larger than its edge, as a few large ones would flatten all other bars.
    """

    count: int
    minimum: float
    maximum: float
    mean: float
    median: float
    p95: float
    sampled: int
    beyond: int
    bins: list[Bin]


@dataclass(frozen=True)
class ValueCount:
    """A value as text, and how many rows have it."""

    value: str
    count: int


@dataclass(frozen=True)
class Column:
    """A column in the answered rows. `values` are the most frequent ones; `other_values` counts the rows of the others.

    `distinct` is `None` if there are too many different values to count; `unit` is what `distribution` measures.
    """

    name: str
    kind: Kind
    rows: int
    nulls: int
    types: dict[str, int]
    distinct: int | None = None
    values: list[ValueCount] = field(default_factory=list)
    other_values: int = 0
    unit: str = ""
    distribution: Distribution | None = None


@dataclass(frozen=True)
class Interval:
    """An interval of the run: seconds since its start, new answers and failures, and their latency in milliseconds."""

    start: float
    seconds: float
    answered: int
    failed: int
    median_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Row:
    """A row as an example: its number (from 1), what is known about its call, and the beginnings of its values.

    `place` is its number for people, with the file before it if the input has several.
    """

    number: int
    place: str
    status: str
    error: str | None
    latency_ms: int | None
    cost_usd: float | None
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    input: dict[str, str]
    output: dict[str, str]
    reply: str | None


@dataclass(frozen=True)
class Cause:
    """Why rows failed, with examples; see `connector.run.summary.Cause`."""

    count: int
    status: str
    error: str
    reason: str
    change: str
    rows: list[int]
    places: list[str]
    stream: str
    examples: list[Row]


@dataclass(frozen=True)
class Concession:
    """A fallback: another form of request, used because the endpoint refused the usual one."""

    name: str
    model: str


@dataclass(frozen=True)
class Figures:
    """All figures of a run.

    `attempts` counts the paid rows by how often their call was tried; `timing` says where `timeline` comes from, and
    `notes` what the figures leave out.
    """

    run: Run
    outcomes: Outcomes
    spending: Spending
    columns: list[Column]
    causes: list[Cause]
    timeline: list[Interval]
    timing: str
    latency_ms: Distribution | None
    slowest: list[Row]
    dearest: list[Row]
    attempts: dict[str, int]
    concessions: list[Concession]
    notes: list[str] = field(default_factory=list)
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON values, the version first."""
        return {"version": self.version, **asdict(self)}
