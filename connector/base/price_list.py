"""Prices from the library genai-prices (extra `prices`), used if neither the endpoint nor the config has any.

The library is imported at the first reply whose cost is unknown, and only for endpoints that it may know. A model's
prices are converted to `Rates` once: asking the library for each reply would take longer than all else for a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from connector.base.cost import BATCH_TIER, Rates
from connector.base.records import Usage
from connector.base.regex import regex

EXTRA: Final = 'pip install "openai-compatible-connector[prices]"'
"""The command that installs the library."""

MAY_BE_KNOWN: Final = regex(r"https://[^/?#]*\.[a-z0-9-]*[a-z]\.?(:[0-9]*)?([/?#]|$)", re.IGNORECASE)
"""The URLs of endpoints that may have a public price: they have TLS, and are on a domain, not at an IP address."""

_LIBRARY: Final = "genai_prices"
_NAMES: Final = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
_CALLS: Final = "requests_kcount"
_THOUSAND: Final = 1000
_BATCH: Final = 0.5  # the share of a live call's price at every known provider: the library has no batch prices


class PriceList:
    """The prices of one endpoint's models. Thread-safe, since what it caches is always the same.

    Args:
        url: The endpoint's URL, which identifies the provider: the same model may cost less elsewhere.
        model: The model that requests name, for replies that name none or one that the library does not know.
    """

    def __init__(self, url: str, model: str | None = None) -> None:
        self._url = url
        self._model = model
        self._known: dict[tuple[str | None, str | None], tuple[tuple[int, Rates], ...]] = {}
        self._was_used = False

    def cost(self, usage: Usage, model: str | None = None, tier: str | None = None) -> float | None:
        """See `connector.base.cost.Pricing.cost`."""
        if usage.input_tokens is None:
            return None
        if tier == BATCH_TIER:
            cost = self.cost(usage, model)
            return None if cost is None else cost * _BATCH
        key = (model, tier)
        steps = self._known.get(key)
        if steps is None:
            steps = self._known[key] = _steps(self._url, model, tier) or _steps(self._url, self._model, tier)
        if not steps:
            return None
        rates = next((rates for above, rates in steps if usage.input_tokens > above), None)
        cost = None if rates is None else rates.cost(usage)
        self._was_used = self._was_used or cost is not None
        return cost

    def knows(self, model: str | None) -> bool:
        """See `connector.base.cost.Pricing.knows`."""
        return bool(_steps(self._url, model, None))

    @property
    def source(self) -> str:
        """See `connector.base.cost.Pricing.source`: the library, its version, and the day of its newest price."""
        return _source() if self._was_used else ""


@cache
def _library() -> ModuleType | None:
    try:
        return import_module(_LIBRARY)
    except ImportError:
        return None


@cache
def _steps(url: str, model: str | None, tier: str | None) -> tuple[tuple[int, Rates], ...]:
    """Returns the rates of a model, each with the number of input tokens above which it applies, highest first.

    Empty if they are unknown.
    """
    if model is None or not MAY_BE_KNOWN.match(url):
        return ()
    library = _library()
    if library is None:
        return ()
    context = None if tier is None else {"service_tier": tier}
    try:
        price: Any = library.calc_price(
            library.Usage(input_tokens=0), model, provider_api_url=url, price_context=context
        ).model_price
    except (LookupError, ValueError):
        return ()
    found = [getattr(price, name, None) for name in _NAMES]
    if found[0] is None:
        return ()
    starts = {0} | {tier.start for each in found for tier in getattr(each, "tiers", ())}
    calls = _at(getattr(price, _CALLS, None), 0) or 0.0

    def rates(start: int) -> Rates:
        read, cached, written, made = (_at(each, start) for each in found)
        return Rates(read or 0, cached, written, made, calls / _THOUSAND)

    # A tier applies above its start, and the lowest rates from the first token on, or without any.
    return tuple((start or -1, rates(start)) for start in sorted(starts, reverse=True))


def _at(price: Any, start: int) -> float | None:
    """Returns a price for input above `start` tokens, as it may depend on the number of input tokens."""
    if price is None:
        return None
    if not hasattr(price, "tiers"):
        return float(price)
    return float(next((tier.price for tier in reversed(price.tiers) if tier.start <= start), price.base))


@cache
def _source() -> str:
    version = getattr(_library(), "__version__", "")
    newest = max(filter(None, _dates()), default=None)
    return f"estimated by genai-prices {version}{f', prices up to {newest}' if newest else ''}"


def _dates() -> Iterator[date | None]:
    """Yields the dates from which prices in the library apply, up to today: it does not say when it was made."""
    today = datetime.now(UTC).date()
    providers: Any = import_module(f"{_LIBRARY}.data_snapshot").get_snapshot().providers
    for provider in providers:
        for model in provider.models:
            conditional = model.prices if isinstance(model.prices, list) else ()
            for each in (*conditional, *(model.price_variants or ())):
                day = getattr(each.constraint, "start_date", None)
                yield day if day is not None and day <= today else None
