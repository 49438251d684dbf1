"""What a reply cost: as the gateway reports it, or else by the config's prices, or else unknown (never zero)."""

from __future__ import annotations

from functools import cached_property
from os import urandom
from typing import Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from connector.base.errors import BudgetError
from connector.base.records import Outcome, Provenance, Reply, Status, Usage

COST_HEADER: Final = "x-litellm-response-cost"
"""The header in which LiteLLM reports what a reply cost, in USD."""

BATCH_HEADER: Final = "x-batch-id"
"""Our own header, which holds the ID of the batch of a reply."""

BATCH_TIER: Final = "batch"
"""The tier of replies from a batch: replies name their own tier only for live calls."""

FLEX_TIER: Final = "flex"
"""The tier of replies that may take minutes, for half the price."""

_MILLION: Final = 1_000_000
_ROUNDING: Final = 1e-9  # USD
_MOST: Final = 100_000  # USD: no call costs more


class Rates(NamedTuple):
    """The price of tokens, in USD per 1,000,000, and of the call itself, in USD.

    `None` for cache reads or writes: they cost as much as other input; for output: it has no price.
    """

    input: float
    cached_input: float | None = None
    cache_write: float | None = None
    output: float | None = 0
    call: float = 0

    def cost(self, usage: Usage) -> float | None:
        """Returns what a reply cost in USD; `None` if that is unknown."""
        sent, made = usage.input_tokens, usage.output_tokens or 0
        if sent is None or (made and self.output is None):
            return None
        cached = min(usage.cached_tokens or 0, sent)
        written = min(usage.cache_write_tokens or 0, sent - cached)
        total = (sent - cached - written) * self.input
        total += cached * (self.input if self.cached_input is None else self.cached_input)
        total += written * (self.input if self.cache_write is None else self.cache_write)
        return (total + made * (self.output or 0)) / _MILLION + self.call


class Pricing(Protocol):
    """A source of prices for replies."""

    def cost(self, usage: Usage, model: str | None = None, tier: str | None = None) -> float | None:
        """Returns what a reply cost in USD; `None` if that is unknown, never zero instead.

        Args:
            usage: The tokens of the reply.
            model: The model that the reply names.
            tier: The service tier that the reply names, such as `flex`.
        """

    def knows(self, model: str | None) -> bool:
        """Returns whether it has a price for a model; `None` for a model that only replies will name."""

    @property
    def source(self) -> str:
        """Whose estimates its costs are, for people; empty if they are the user's own."""


class Prices(BaseModel):
    """Prices in USD per 1,000,000 tokens."""

    model_config = ConfigDict(frozen=True, title="Prices", defer_build=True)

    input: float = Field(default=0, ge=0, title="Input", description="USD per 1M input tokens.")
    cached_input: float | None = Field(
        default=None, ge=0, title="Cached input", description="USD per 1M input tokens that the endpoint had cached."
    )
    cache_write: float | None = Field(
        default=None,
        ge=0,
        title="Cache writes",
        description="USD per 1M input tokens that the endpoint adds to its cache.",
    )
    output: float = Field(default=0, ge=0, title="Output", description="USD per 1M output tokens.")
    batch: float = Field(
        default=0.5, ge=0, title="Batch", description="The share of these prices that the Batch API takes."
    )
    flex: float = Field(
        default=0.5,
        ge=0,
        title="Flex",
        description="The share of these prices that the tier flex takes, where replies name it.",
    )

    def knows(self, model: str | None) -> bool:
        """See `Pricing.knows`."""
        del model
        return True

    def scaled(self, share: float) -> Prices:
        """Returns a share of these prices."""
        scaled = {
            name: None if value is None else value * share
            for name, value in self.model_dump(include={"input", "cached_input", "cache_write", "output"}).items()
        }
        return self.model_copy(update=scaled)

    @property
    def source(self) -> str:
        """See `Pricing.source`."""
        return ""

    @cached_property
    def rates(self) -> Rates:
        """The same for every reply."""
        return Rates(self.input, self.cached_input, self.cache_write, self.output)

    def cost(self, usage: Usage, model: str | None = None, tier: str | None = None) -> float | None:
        """See `Pricing.cost`: these prices apply to every model."""
        del model
        cost = self.rates.cost(usage)
        return None if cost is None else cost * self.share(tier)

    def share(self, tier: str | None) -> float:
        """Returns the share of these prices that a tier costs."""
        return {BATCH_TIER: self.batch, FLEX_TIER: self.flex}.get(tier or "", 1.0)


def cost_of(reply: Reply, usage: Usage, prices: Pricing | None) -> float | None:
    """Returns what a reply cost in USD: OpenRouter's `usage.cost`, LiteLLM's header, or the prices times its tokens."""
    usage_body = reply.body.get("usage")
    reported = usd(usage_body["cost"]) if isinstance(usage_body, dict) and "cost" in usage_body else None
    if reported is None and COST_HEADER in reply.headers:
        reported = usd(reply.headers[COST_HEADER])
    if reported is not None or prices is None:
        return reported
    model, tier = reply.body.get("model"), reply.body.get("service_tier")
    tier = BATCH_TIER if BATCH_HEADER in reply.headers else tier
    return prices.cost(usage, model if isinstance(model, str) else None, tier if isinstance(tier, str) else None)


def usd(reported: object) -> float | None:
    """Returns a cost that an endpoint reports, in USD; `None` for an implausible value, never 0 instead."""
    if reported is None or isinstance(reported, bool) or not isinstance(reported, int | float | str):
        return None
    try:
        cost = float(reported)
    except (ValueError, OverflowError):
        return None
    return cost if 0 <= cost <= _MOST else None


class Together(Protocol):
    """What all runs of a job together have spent: see `connector.ledger.Spending`."""

    @property
    def cost_usd(self) -> float:
        """The cost in USD."""

    @property
    def tokens(self) -> int:
        """Input and output tokens."""

    def add(self, key: bytes, cost_usd: float, tokens: int) -> None:
        """Counts the reply to a request once, whichever run pays for it or finds it again."""


class Budget:
    """The spending of a run, and the limits of its job, which includes earlier runs whose replies are found again.

    If the endpoint reports a cost and the config has prices, the higher one counts, since gateways report 0 for what
    they do not know.

    Args:
        max_cost_usd: The limit in USD; `None` for no limit.
        max_total_tokens: The limit of input and output tokens together; `None` for no limit.
        prices: The prices of the config.

    Attributes:
        cost_usd: What this run has spent, in USD.
        tokens: The tokens that this run has used.
    """

    def __init__(
        self,
        max_cost_usd: float | None = None,
        max_total_tokens: int | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._max_cost = max_cost_usd
        self._max_tokens = max_total_tokens
        self._prices = prices
        self._is_limited = max_cost_usd is not None or max_total_tokens is not None
        self._counted: set[int] = set()  # replies, by prefixes of their keys
        self._earlier_cost = 0.0
        self._earlier_tokens = 0
        self._together: Together | None = None
        self.cost_usd = 0.0
        self.tokens = 0

    @property
    def max_cost_usd(self) -> float | None:
        """What the job may spend; `None` for no limit."""
        return self._max_cost

    @property
    def earlier_usd(self) -> float:
        """What earlier runs spent on the replies found again, plus what other runs of the job spent, if known."""
        return self.spent_usd - self.cost_usd

    @property
    def spent_usd(self) -> float:
        """What the job has spent."""
        return self.cost_usd + self._earlier_cost if self._together is None else self._together.cost_usd

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit to keep."""
        return self._is_limited

    def share(self, together: Together) -> None:
        """Includes what other runs of the same job spend."""
        self._together = together

    def recall(self, outcome: Outcome) -> None:
        """Counts a reply that an earlier run has paid for, once, however many rows it answers."""
        if self._is_limited and self._is_new(outcome.provenance):
            cost, tokens = self._used(outcome.provenance)
            self._earlier_cost += cost or 0.0
            self._earlier_tokens += tokens
            self._tell(outcome.provenance, cost, tokens)

    def spend(self, outcome: Outcome) -> BudgetError | None:
        """Counts a paid reply. Returns the reason to stop once a limit is reached, or cannot be kept."""
        provenance = outcome.provenance
        is_answer = outcome.status not in (Status.ERROR, Status.FILTERED)
        cost, used = self._used(provenance)
        self.cost_usd += cost or 0.0
        self.tokens += used
        if not self._is_limited:
            return None
        is_again = not self._is_new(provenance)  # its row was called again, so it has been paid for twice
        self._tell(provenance, cost, used, is_again=is_again)
        if self._max_cost is not None and cost is None and is_answer:
            return BudgetError(
                "max_cost_usd: the limit cannot be kept, because the endpoint does not report costs: set prices"
            )
        if self._max_tokens is not None and provenance.input_tokens is None and is_answer:
            return BudgetError(
                "max_total_tokens: the limit cannot be kept, because the endpoint does not report tokens: remove it"
            )
        return self.reached()

    def reached(self) -> BudgetError | None:
        """Returns the reason to make no more calls, once the job has spent its budget."""
        cost, tokens = self.cost_usd + self._earlier_cost, self.tokens + self._earlier_tokens
        others_cost, others_tokens, whose = self._earlier_cost, self._earlier_tokens, "earlier"
        if self._together is not None:
            cost, tokens, whose = self._together.cost_usd, self._together.tokens, "other"
            others_cost, others_tokens = cost - self.cost_usd, tokens - self.tokens
        again = "raise it, then run the same command again; what is paid for is kept"
        if self._max_cost is not None and cost >= self._max_cost:
            others = f" ({others_cost:.6g} by {whose} runs)" if others_cost > _ROUNDING else ""
            return BudgetError(f"max_cost_usd: {cost:.6g} of {self._max_cost:.6g} USD are spent{others}: {again}")
        if self._max_tokens is not None and tokens >= self._max_tokens:
            others = f" ({others_tokens:,} by {whose} runs)" if others_tokens else ""
            return BudgetError(f"max_total_tokens: {tokens:,} of {self._max_tokens:,} tokens are used{others}: {again}")
        return None

    def _tell(self, provenance: Provenance, cost: float | None, tokens: int, *, is_again: bool = False) -> None:
        if self._together is not None:
            name = None if is_again else provenance.prompt_hash
            self._together.add(bytes.fromhex(name) if name else urandom(16), cost or 0.0, tokens)

    def _is_new(self, provenance: Provenance) -> bool:
        """Returns whether a reply was not counted before, and records it as counted."""
        key = int((provenance.prompt_hash or "0")[:16], 16)
        is_new = not key or key not in self._counted
        self._counted.add(key)
        return is_new

    def _used(self, provenance: Provenance) -> tuple[float | None, int]:
        """Returns the cost of a reply, the higher one if there are two, and its tokens."""
        sent, made = provenance.input_tokens, provenance.output_tokens
        by_prices = self._prices.cost(Usage(sent, made, provenance.cached_tokens)) if self._prices else None
        cost = provenance.cost_usd
        if cost is None or (by_prices is not None and by_prices > cost):
            cost = by_prices
        return cost, (sent or 0) + (made or 0)
