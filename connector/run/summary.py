"""The results of a run: its rows by status, their tokens and cost, and why rows failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from connector.base.amounts import counted, dollars, duration, pace
from connector.base.clock import Clock
from connector.base.cost import Pricing
from connector.base.records import Outcome, Part, Provenance, Result, Status
from connector.engines import Gauge
from connector.run.causes import Cause, Causes, failures


class Summary:
    """Counts outcomes as they pass. Its text is what a person is told at the end of a run.

    Args:
        gauge: What the engine counts; `None` where the outcomes are all that is known.
        parts: Which rows are of which file, where the input is several.

    Attributes:
        gauge: The same. It may come later than the summary.
        pricing: What says what replies cost, where the endpoint does not. It may come later, too.
        statuses: Rows by status.
        cached: Rows that were answered without a new call: by the ledger, or by the call of another row.
        attempts: Calls for the other rows, all tries counted.
        input_tokens, output_tokens, cached_tokens, reasoning_tokens: Those of the replies that this run has paid for.
        cost_usd: What they cost, in USD; `None` where no reply said so and there are no prices.
        saved_usd: What the replies to the cached rows cost when they were paid for, in USD; `None` as above.
        seconds: How long the run has taken.
    """

    def __init__(self, gauge: Gauge | None = None, clock: Clock | None = None, parts: Sequence[Part] = ()) -> None:
        self.gauge = gauge
        self.pricing: Pricing | None = None
        self._now = (clock or Clock()).monotonic
        self._began = self._now()
        self._ended: float | None = None
        self._causes = Causes(parts)
        self.statuses: Counter[Status] = Counter()
        self.cached = 0
        self._called = 0  # rows that calls of this run have answered: the others took no time
        self.attempts = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.reasoning_tokens = 0
        self.cost_usd: float | None = None
        self.saved_usd: float | None = None

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome; each row's once."""
        status, provenance = outcome.status, outcome.provenance
        self.statuses[status] += 1
        if provenance.cached:
            self.cached += 1
            if provenance.cost_usd is not None:
                self.saved_usd = (self.saved_usd or 0.0) + provenance.cost_usd
        else:
            self._called += provenance.attempts > 0
            self.pay(provenance)
        if status.is_failure:
            self._causes.add(outcome)

    def pay(self, paid: Provenance) -> None:
        """Counts what was paid for a row, also for one that has no outcome yet."""
        self.attempts += paid.attempts
        self.input_tokens += paid.input_tokens or 0
        self.output_tokens += paid.output_tokens or 0
        self.cached_tokens += paid.cached_tokens or 0
        self.reasoning_tokens += paid.reasoning_tokens or 0
        if paid.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + paid.cost_usd

    def watched(self, results: Iterator[Result]) -> Iterator[Result]:
        """Passes results on and counts the outcomes among them."""
        try:
            for result in results:
                if isinstance(result, Outcome):
                    self.add(result)
                yield result
        finally:
            self.end()

    def end(self) -> None:
        """Says that the run has ended: its time stands still."""
        self._ended = self._now()

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, or took."""
        return (self._now() if self._ended is None else self._ended) - self._began

    @property
    def rows(self) -> int:
        """Rows that have their outcome."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Rows that were to be answered and were not."""
        return sum(count for status, count in self.statuses.items() if status.is_failure)

    @property
    def nothing_answered(self) -> bool:
        """Whether rows were to be answered, and none of them was."""
        return self.failed > 0 and not self.statuses[Status.SUCCESS]

    @property
    def tokens(self) -> int:
        """Input and output tokens that this run has paid for."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_source(self) -> str:
        """Whose estimate the cost is; empty where it is the endpoint's, by the config's prices, or not known."""
        return self.pricing.source if self.cost_usd and self.pricing else ""

    @property
    def calls(self) -> int:
        """Calls that this run has made, retries included."""
        return self.gauge.calls if self.gauge else self.attempts

    @property
    def retries(self) -> int:
        """Calls that were made again."""
        return self.gauge.retries if self.gauge else 0

    @property
    def causes(self) -> list[Cause]:
        """Why rows failed, the cause of the most rows first."""
        return list(self._causes)

    @property
    def cause_counts(self) -> Causes:
        """The same, each with the key that tells the rows of one cause from those of another."""
        return self._causes

    def __bool__(self) -> bool:
        return self.rows > 0

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def lines(self) -> list[str]:
        """Returns what the run did, and why rows failed."""
        return [*self.totals().splitlines(), *self.failures()]

    def totals(self) -> str:
        """Returns what the run did, in two lines."""
        seconds, rows = self.seconds, self.rows
        rate = f" ({pace(self._called / seconds)})" if seconds > 0 and self._called else ""
        statuses = ", ".join(f"{count:,} {status}" for status, count in self.statuses.most_common())
        nothing = "no row was finished" if self.calls else "nothing to do"
        calls = [
            counted(self.calls, "call"),
            *([counted(self.retries, "retry", "retries")] if self.retries else ()),
            *([f"{counted(self.cached, 'row')} answered without a new call"] if self.cached else ()),
            *spent(self.tokens, self.cost_usd),
        ]
        if self.cost_source:
            calls[-1] += f" ({self.cost_source})"
        return f"{counted(rows, 'row')} in {duration(seconds)}{rate}: {statuses or nothing}\n{', '.join(calls)}"

    def failures(self) -> list[str]:
        """Returns why rows failed, as lines: how many did, then the causes of the most rows."""
        every = "all " if self.failed == self.rows > 1 else ""
        return failures(self.causes, f"{every}{counted(self.failed, 'row')} failed")

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values, for programs."""
        return {
            "rows": self.rows,
            "failed": self.failed,
            "statuses": {status.value: count for status, count in self.statuses.most_common()},
            "seconds": round(self.seconds, 3),
            "calls": self.calls,
            "retries": self.retries,
            "cached": self.cached,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cost_usd": self.cost_usd,
            "cost_source": self.cost_source,
            "saved_usd": self.saved_usd,
            "causes": [each.to_dict() for each in self._causes],
        }


def spent(tokens: int, cost_usd: float | None) -> list[str]:
    """Returns tokens and cost in words; nothing about what is not known."""
    parts = [counted(tokens, "token")] if tokens else []
    return [*parts, dollars(cost_usd)] if cost_usd else parts
