"""The tokens and costs of replies, summed over the attempts of a row or divided among the rows of a call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from connector.base.cost import COST_HEADER, usd
from connector.base.records import JSON, Reply


def summed(replies: Sequence[Reply]) -> Reply:
    """Returns the last of several replies to the same row, with the summed `usage` and cost of all."""
    last = replies[-1]
    if len(replies) == 1:
        return last
    usage: JSON = None
    for reply in replies:
        usage = _sum(usage, reply.body.get("usage"))
    body = last.body if usage is None else {**last.body, "usage": usage}
    costs = [cost for reply in replies if (cost := usd(reply.headers.get(COST_HEADER))) is not None]
    headers = {**last.headers, COST_HEADER: repr(sum(costs))} if costs else last.headers
    return last._replace(body=body, headers=headers, latency_ms=sum(reply.latency_ms for reply in replies))


def shared(reply: Reply, weights: Sequence[int]) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Divides a reply among rows by weight: returns for each an object with its `usage` (or empty), and its headers.

    Integers are divided so that they add up to the reply's own.
    """
    usage, cost = reply.body.get("usage"), usd(reply.headers.get(COST_HEADER))
    weights = weights if any(weights) else [1] * len(weights)
    total = sum(weights)
    result, before = [], 0
    for weight in weights:
        after = before + weight
        headers = (
            reply.headers if cost is None else {**reply.headers, COST_HEADER: repr(cost * (after - before) / total)}
        )
        result.append(({} if usage is None else {"usage": _share(usage, before, after, total)}, headers))
        before = after
    return result


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(one: JSON, other: JSON) -> JSON:
    """Returns the sum of two numbers, or of two objects key by key; of anything else, the later one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {name: _sum(one.get(name), value) for name, value in other.items()}
    if _is_number(one) and _is_number(other):
        with suppress(OverflowError):  # an endpoint may report any number
            return one + other
    return one if other is None else other


def _share(usage: JSON, before: int, after: int, total: int) -> JSON:
    if type(usage) is int:
        return usage * after // total - usage * before // total
    if type(usage) is float:
        return usage * (after - before) / total
    if type(usage) is dict:
        return {name: _share(value, before, after, total) for name, value in usage.items()}
    return usage
