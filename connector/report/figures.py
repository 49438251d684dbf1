"""The figures of a run, as one record of plain values: the JSON and the page both come from it alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

VERSION: Final = 1
"""The version of the JSON. Fields may be added to it; none changes its meaning."""

Kind = Literal["values", "numbers", "texts", "lists", "other", "nothing"]
"""What a column is shown by: how often each value comes, its numbers, the lengths of its texts or lists, only its nulls
and types, or nothing at all."""


@dataclass(frozen=True)
class Run:
    """What ran. `config` has no secrets; `started` and `ended` are ISO 8601, in UTC.

    Made of an output, a report does not know the input.
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
    """Rows by status. `cached` ones were answered without a new call; `None` where that is not known."""

    rows: int
    failed: int
    cached: int | None
    statuses: dict[str, int]


@dataclass(frozen=True)
class Spending:
    """Calls, tokens and USD of this run alone. `None` where nobody has said it, never zero instead.

    `calls` and `retries` are the engine's. A report that is made of an output counts the tries of its rows instead, if
    the config says that none share a call, and does not know the retries. `costly_rows` says for how many of the paid
    rows the cost is known; `saved_usd` is what the replies to the cached rows cost when they were paid for;
    `cost_source` whose estimate the cost is, empty where it is the endpoint's or by the config's prices, and where an
    output does not tell.
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
    """How many values are at least `low` and less than `high`; in the last bin also those that are `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Distribution:
    """Numbers: how many, their extremes and mean, quantiles, and a histogram.

    Quantiles and bins come from a random sample of `sampled` numbers where there are more. `beyond` numbers are larger
    than the last bin, which counts them: few large ones would flatten all others.
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
    """A value, as text, and in how many rows it is."""

    value: str
    count: int


@dataclass(frozen=True)
class Column:
    """A column, over the rows that were answered. `values` are the most frequent ones, `other_values` the rest.

    `distinct` is `None` where there are too many different values to count, `unit` is what `distribution` measures.
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
    """A stretch of the run: seconds since its start, new answers and failures, and their latency in milliseconds."""

    start: float
    seconds: float
    answered: int
    failed: int
    median_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Row:
    """A row as an example: its number, from 1, what is known of its call, and the beginnings of its values.

    `place` is its number as people read it: with the file before it, where the input is several.
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
    """Another way in which the endpoint was asked, since it refused the usual one."""

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
        """Returns them as JSON values, the version first."""
        return {"version": self.version, **asdict(self)}
