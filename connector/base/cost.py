"""What a reply cost: as the gateway reports it, else by the config's prices, else unknown (never zero)."""

from __future__ import annotations

import math
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from connector.base.errors import BudgetError
from connector.base.records import Outcome, Reply, Status, Usage

COST_HEADER: Final = "x-litellm-response-cost"
"""The header in which LiteLLM reports what a reply cost, in USD."""

_MILLION: Final = 1_000_000


class Prices(BaseModel):
    """Prices in USD per 1,000,000 tokens."""

    model_config = ConfigDict(frozen=True, title="Prices")

    input: float = Field(default=0, ge=0, title="Input", description="USD per 1M input tokens.")
    cached_input: float | None = Field(
        default=None, ge=0, title="Cached input", description="USD per 1M input tokens that the endpoint had cached."
    )
    output: float = Field(default=0, ge=0, title="Output", description="USD per 1M output tokens.")


def cost_of(reply: Reply, usage: Usage, prices: Prices | None) -> float | None:
    """Returns what a reply cost in USD: OpenRouter's `usage.cost`, LiteLLM's header, or the prices times its tokens."""
    usage_body = reply.body.get("usage")
    reported = usd(usage_body.get("cost")) if isinstance(usage_body, dict) else None
    if reported is None:
        reported = usd(reply.headers.get(COST_HEADER))
    if reported is not None:
        return reported
    if prices is None or usage.input_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.input_tokens)
    cached_price = prices.input if prices.cached_input is None else prices.cached_input
    fresh = (usage.input_tokens - cached) * prices.input
    return (fresh + cached * cached_price + (usage.output_tokens or 0) * prices.output) / _MILLION


def usd(reported: object) -> float | None:
    """Returns a cost that an endpoint reports, in USD; `None` for what is not an amount, never 0 instead."""
    if reported is None or isinstance(reported, bool) or not isinstance(reported, int | float | str):
        return None
    try:
        cost = float(reported)
    except (ValueError, OverflowError):
        return None
    return cost if 0 <= cost < math.inf else None


class Budget:
    """What a run has spent, and what it may spend.

    Args:
        max_cost_usd: USD; `None` for no limit.
        max_total_tokens: Input and output tokens together; `None` for no limit.
    """

    def __init__(self, max_cost_usd: float | None = None, max_total_tokens: int | None = None) -> None:
        self._max_cost = max_cost_usd
        self._max_tokens = max_total_tokens
        self.cost_usd = 0.0
        self.tokens = 0

    def spend(self, outcome: Outcome) -> BudgetError | None:
        """Counts a paid reply. Returns the reason to stop once a limit is reached, or cannot be kept."""
        provenance = outcome.provenance
        is_answer = outcome.status not in (Status.ERROR, Status.FILTERED)
        cost, tokens = provenance.cost_usd, provenance.input_tokens
        self.cost_usd += cost or 0.0
        self.tokens += (tokens or 0) + (provenance.output_tokens or 0)
        again = "raise it, then run the same command again; what is paid for is kept"
        if self._max_cost is not None:
            if cost is None and is_answer:
                return BudgetError(
                    "max_cost_usd: the limit cannot be kept, since the endpoint does not report costs: set prices"
                )
            if self.cost_usd >= self._max_cost:
                return BudgetError(f"max_cost_usd: {self.cost_usd:.6g} of {self._max_cost:.6g} USD are spent: {again}")
        if self._max_tokens is not None:
            if tokens is None and is_answer:
                return BudgetError(
                    "max_total_tokens: the limit cannot be kept, since the endpoint counts no tokens: remove it"
                )
            if self.tokens >= self._max_tokens:
                return BudgetError(
                    f"max_total_tokens: {self.tokens:,} of {self._max_tokens:,} tokens are used: {again}"
                )
        return None
