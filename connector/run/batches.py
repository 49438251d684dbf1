"""What a run needs to go through the Batch API: its terms, its connections, and what may be submitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from connector.base.clock import Clock
from connector.base.cost import BATCH_TIER, Budget, Pricing
from connector.base.errors import BudgetError
from connector.base.masking import Masker
from connector.base.records import Usage
from connector.calls.batch_api import HttpBatchAPI
from connector.calls.batch_needs import Needs, Terms
from connector.calls.fallbacks import Fallbacks
from connector.config.batch_providers import provider_of
from connector.config.config import Config
from connector.http.transport import Settings, Transport
from connector.ledger import Ledger
from connector.run.plan import Plan

_BYTES_PER_TOKEN: Final = 4  # of a request: OpenAI's rule of thumb
_OUTPUT: Final = 500  # tokens of a reply, where the request sets no limit
_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def api_of(config: Config, settings: Settings, mask: Masker, clock: Clock) -> HttpBatchAPI:
    """Opens the files and batches of a config's server; the caller closes it."""
    return HttpBatchAPI(Transport(settings), config.server_url, mask, settings.timeout, clock)


def terms_of(config: Config) -> Terms:
    """Returns the terms of a config: its own, and else those of the provider."""
    provider = provider_of(urlsplit(config.endpoint_url).hostname or "")
    given = config.batch
    return Terms(
        _path_of(config),
        given.completion_window,
        min(given.max_batch_requests or provider.max_requests, provider.max_requests),
        given.max_batch_bytes or provider.max_bytes,
        given.poll_seconds,
        given.fallback == "live",
        math.inf if given.max_wait is None else given.max_wait,
    )


def _path_of(config: Config) -> str:
    """Returns the path of the endpoint as the provider's batches name it, such as `/v1/chat/completions`."""
    prefix = provider_of(urlsplit(config.endpoint_url).hostname or "").prefix
    return prefix + urlsplit(config.endpoint_url).path.removeprefix(urlsplit(config.base_url).path)


def needs_of(
    plan: Plan,
    api: HttpBatchAPI,
    ledger: Ledger,
    mask: Masker,
    fallbacks: Fallbacks,
    budget: Budget,
    job: str,
) -> Needs:
    """Returns what the engine of batches needs for a plan; `job` is what its budget is for."""
    return Needs(
        api,
        ledger,
        plan.url,
        plan.endpoint,
        mask,
        terms_of(plan.config),
        fallbacks.fitted,
        Reserve(plan, budget).admits,
        job,
        api.max_response_bytes,
    )


class Reserve:
    """Holds back what would cost more than the budget has left: a batch is paid for once it is submitted.

    What a request costs is estimated by its length and by the limit of its reply.
    """

    def __init__(self, plan: Plan, budget: Budget) -> None:
        self._pricing: Pricing = plan.pricing
        self._model = plan.requests.model
        self._budget = budget
        self._most_output = _output_of(plan)
        self._submitted = 0.0

    def admits(self, size: int, requests: int, elsewhere: Sequence[tuple[int, int]] = ()) -> BudgetError | None:
        """Returns why so many requests, of so many bytes, must not be submitted; counts them in any case.

        Those that an earlier run has submitted go on whatever this says: the batches of this run come on top of them,
        and of those that other runs wait for `elsewhere`, in bytes and requests.
        """
        limit, cost = self._budget.max_cost_usd, self._cost(size, requests)
        if limit is None or cost is None:
            return None  # the run has told that the limit may not hold
        spent = max(self._budget.spent_usd, self._submitted + self._budget.earlier_usd)
        spent += sum(self._cost(*each) or 0.0 for each in elsewhere)
        self._submitted += cost
        if spent + cost > limit:
            return BudgetError(
                f"max_cost_usd: {spent:.6g} of {limit:.6g} USD are spent or submitted, and the next batch of "
                f"{requests:,} requests may cost {cost:.6g}: raise it, or set a limit of tokens for the replies; the "
                "same command then goes on"
            )
        return None

    def _cost(self, size: int, requests: int) -> float | None:
        """Returns what so many requests, of so many bytes, may cost in USD; `None` where no price is known."""
        usage = Usage(round(size / _BYTES_PER_TOKEN / max(1, requests)), self._most_output)
        each = self._pricing.cost(usage, self._model, BATCH_TIER)
        return None if each is None else each * requests


def _output_of(plan: Plan) -> int:
    """Returns the most tokens of a reply, by the request's own limit."""
    if not plan.endpoint.HAS_OUTPUT_TOKENS:
        return 0
    structure = plan.requests.structure
    limits = [structure.get(name) for name in _LIMITS] if isinstance(structure, dict) else []
    return next((limit for limit in limits if type(limit) is int), _OUTPUT)
