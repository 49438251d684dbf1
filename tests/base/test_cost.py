"""What a reply cost, and when a run has spent enough."""

from __future__ import annotations

import math
from typing import Any

import pytest

from connector.base.cost import Budget, Prices, cost_of
from connector.base.errors import BudgetError
from connector.base.records import Outcome, Provenance, Record, Reply, Status, Usage

PRICES = Prices(input=2.0, cached_input=0.5, output=8.0)


def reply(usage: Any = None, headers: dict[str, str] | None = None) -> Reply:
    return Reply(200, {"usage": usage}, headers or {})


@pytest.mark.parametrize(
    ("usage", "prices", "expected"),
    [
        (Usage(1_000_000, 500_000), PRICES, 6.0),
        (Usage(1_000_000, 0, cached_tokens=400_000), PRICES, 1.4),
        (Usage(1_000_000, 0, cached_tokens=400_000), Prices(input=2.0, output=8.0), 2.0),
        (Usage(100, 0, cached_tokens=1_000), PRICES, 0.00005),
        (Usage(8, None), PRICES, 0.000016),
        (Usage(), PRICES, None),
        (Usage(8, 8), None, None),
    ],
)
def test_tokens_cost_what_the_prices_say_and_otherwise_it_is_unknown(
    usage: Usage, prices: Prices | None, expected: float | None
) -> None:
    assert cost_of(reply(), usage, prices) == pytest.approx(expected)


def test_what_the_gateway_says_counts_before_the_prices() -> None:
    header = {"x-litellm-response-cost": "0.25"}
    assert cost_of(reply({"cost": 0.5}, header), Usage(8, 8), PRICES) == 0.5
    assert cost_of(reply({"cost": 0}), Usage(8, 8), PRICES) == 0.0
    assert cost_of(reply(None, header), Usage(8, 8), PRICES) == 0.25


@pytest.mark.parametrize("junk", ["nan", "inf", "-1", "free", "", None, True, [], {}, math.nan, -0.5, 10**15, 10**400])
def test_an_amount_that_is_none_leaves_it_to_the_prices(junk: Any) -> None:
    headers = {"x-litellm-response-cost": junk} if isinstance(junk, str) else {}
    assert cost_of(reply({"cost": junk}, headers), Usage(1_000_000, 0), PRICES) == 2.0


@pytest.mark.parametrize("usage", [None, [], "many", 3])
def test_a_usage_of_another_shape_tells_no_cost(usage: Any) -> None:
    assert cost_of(reply(usage), Usage(), None) is None


def outcome(
    cost: float | None = None, tokens: int | None = None, output: int | None = None, status: Status = Status.SUCCESS
) -> Outcome:
    provenance = Provenance(status, model="m", input_tokens=tokens, output_tokens=output, cost_usd=cost)
    return Outcome(Record(0, {}), status, {}, {}, provenance)


def test_without_a_bound_it_only_counts() -> None:
    budget = Budget()
    assert budget.spend(outcome(0.5, 10, 5)) is None
    assert budget.spend(outcome()) is None
    assert (budget.cost_usd, budget.tokens) == (0.5, 15)


def test_a_bound_in_usd_stops_the_run_once_it_is_reached() -> None:
    budget = Budget(max_cost_usd=1.0)
    assert budget.spend(outcome(0.6)) is None
    reason = budget.spend(outcome(0.6))
    assert isinstance(reason, BudgetError)
    assert "1.2 of 1 USD" in reason.message


@pytest.mark.parametrize(("reported", "counted"), [(0.0, 3.0), (0.5, 3.0), (5.0, 5.0), (None, 3.0)])
def test_of_a_reported_cost_and_the_configured_prices_the_higher_counts(reported: float | None, counted: float) -> None:
    budget = Budget(max_cost_usd=100, prices=Prices(input=1, output=2))
    assert budget.spend(outcome(reported, 1_000_000, 1_000_000)) is None
    assert budget.cost_usd == counted


def test_a_bound_in_tokens_stops_the_run_once_it_is_reached() -> None:
    budget = Budget(max_total_tokens=1000)
    assert budget.spend(outcome(tokens=900, output=99)) is None
    reason = budget.spend(outcome(tokens=1))
    assert isinstance(reason, BudgetError)
    assert "1,000 of 1,000" in reason.message


@pytest.mark.parametrize("budget", [Budget(max_cost_usd=1.0), Budget(max_total_tokens=10)])
def test_a_bound_that_cannot_be_watched_stops_the_run_rather_than_let_it_spend(budget: Budget) -> None:
    reason = budget.spend(outcome())
    assert isinstance(reason, BudgetError)
    assert "the limit cannot be kept" in reason.message


@pytest.mark.parametrize("status", [Status.ERROR, Status.FILTERED])
def test_rows_without_an_answer_cost_nothing_that_is_unknown(status: Status) -> None:
    assert Budget(max_cost_usd=1.0, max_total_tokens=10).spend(outcome(status=status)) is None


class Counted:
    """See `connector.base.cost.Together`: as a ledger keeps it."""

    def __init__(self) -> None:
        self.spent: dict[bytes, tuple[float, int]] = {}

    @property
    def cost_usd(self) -> float:
        return sum(cost for cost, _ in self.spent.values())

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.spent.values())

    def add(self, key: bytes, cost_usd: float, tokens: int) -> None:
        self.spent.setdefault(key, (cost_usd, tokens))


def test_a_row_that_is_called_again_counts_twice_also_where_runs_count_together() -> None:
    budgets, together = [Budget(max_total_tokens=100), Budget(max_total_tokens=100)], Counted()
    for budget in budgets:
        budget.share(together)
    found = outcome(tokens=10)
    found = found._replace(provenance=found.provenance._replace(prompt_hash="ab" * 16))
    budgets[0].spend(found)
    budgets[1].recall(found)
    assert together.tokens == 10
    budgets[1].spend(found)
    assert together.tokens == 20
