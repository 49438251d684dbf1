"""Adding up what attempts used, and sharing out what rows used together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Reply
from connector.base.usage import shared, summed

COST = "x-litellm-response-cost"


def reply(usage: Any = None, cost: str | None = None, **changes: Any) -> Reply:
    body = {"id": "x"} if usage is None else {"id": "x", "usage": usage}
    return Reply(200, body, {} if cost is None else {COST: cost}, **changes)


def test_one_reply_stands_for_itself() -> None:
    assert summed([one := reply({"prompt_tokens": 1})]) is one


def test_the_last_reply_speaks_and_all_are_counted() -> None:
    first = reply(
        {"prompt_tokens": 3, "completion_tokens": 1, "details": {"cached_tokens": 2}, "cost": 0.5}, latency_ms=5
    )
    last = Reply(200, {"id": "y", "usage": {"prompt_tokens": 4, "details": {"cached_tokens": 1}, "cost": 0.25}}, {}, 7)
    total = summed([first, last])
    assert total.body["id"] == "y"
    assert total.body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 1,
        "details": {"cached_tokens": 3},
        "cost": 0.75,
    }
    assert total.latency_ms == 12


def test_a_gateway_s_costs_are_added() -> None:
    assert float(summed([reply(cost="0.5"), reply(cost="0.25")]).headers[COST]) == 0.75
    assert float(summed([reply(cost="0.5"), reply()]).headers[COST]) == 0.5
    assert COST not in summed([reply(), reply()]).headers


@pytest.mark.parametrize("usage", [None, "many", [], {"prompt_tokens": None}])
def test_what_is_not_a_count_is_kept_as_it_is(usage: Any) -> None:
    assert summed([reply(usage), reply(usage)]).body.get("usage") == usage


def test_who_did_not_count_adds_nothing() -> None:
    assert summed([reply({"prompt_tokens": 3}), reply()]).body["usage"] == {"prompt_tokens": 3}
    assert summed([reply(), reply({"prompt_tokens": 3})]).body["usage"] == {"prompt_tokens": 3}


@given(tokens=st.integers(0, 10**6), weights=st.lists(st.integers(0, 1000), min_size=1, max_size=50))
def test_shares_add_up_to_the_whole(tokens: int, weights: list[int]) -> None:
    shares = shared(reply({"prompt_tokens": tokens, "details": {"cached_tokens": tokens // 2}}), weights)
    assert len(shares) == len(weights)
    assert sum(usage["usage"]["prompt_tokens"] for usage, _ in shares) == tokens
    assert sum(usage["usage"]["details"]["cached_tokens"] for usage, _ in shares) == tokens // 2


def test_who_asked_for_more_has_the_larger_share() -> None:
    (small, _), (large, _) = shared(reply({"prompt_tokens": 100}), [10, 30])
    assert (small["usage"]["prompt_tokens"], large["usage"]["prompt_tokens"]) == (25, 75)


def test_costs_are_shared_too() -> None:
    shares = shared(reply({"cost": 0.4}, cost="0.8"), [1, 3])
    assert [usage["usage"]["cost"] for usage, _ in shares] == pytest.approx([0.1, 0.3])
    assert [float(headers[COST]) for _, headers in shares] == pytest.approx([0.2, 0.6])


def test_of_nothing_there_is_no_share() -> None:
    assert shared(reply(), [1, 1]) == [({}, {}), ({}, {})]
