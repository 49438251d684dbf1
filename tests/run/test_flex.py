"""The service tier that answers within minutes for half the price: patience, its price, and the way out of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector import Config
from connector.base.errors import RateLimitError, RetryableError, ServerError
from connector.base.records import Record, Reply
from connector.calls.fallbacks import Fallbacks
from connector.engines import Call
from connector.run.plan import Plan
from connector.run.resolution import Resolver
from connector.run.runtime import Runtime

FLEX = {"model": "m", "messages": [{"role": "user", "content": "{{ t }}"}], "service_tier": "flex"}


def plan(**options: Any) -> Plan:
    given = {"url": "http://127.0.0.1:1/v1", "request_format": FLEX, "cache": "none", **options}
    return Plan(Config.load(given))


def test_a_run_at_the_flexible_tier_has_more_patience_and_says_where_its_time_out_is_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        Runtime(plan(config={"timeout": 31.5}), None) as patient,
        Runtime(plan(request_format={**FLEX, "service_tier": "auto"}), None) as usual,
    ):
        assert patient.control.backoff.max_retries > usual.control.backoff.max_retries
        assert patient.control.backoff.max_elapsed == 3600
        assert usual.control.backoff.max_elapsed == 600
    assert "service_tier flex may take minutes for a reply, and config.timeout is 31.5 s" in caplog.text
    with Runtime(plan(max_retries=0), None) as none:
        assert none.control.backoff.max_retries == 0


@pytest.mark.parametrize(("tier", "share"), [("flex", 0.5), ("default", 1), (None, 1)])
def test_a_reply_costs_what_the_tier_that_it_names_costs(tier: str | None, share: float) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}]
    reply = Reply(200, {"choices": choices, "usage": usage, "service_tier": tier}, {})
    outcome = plan(prices={"input": 3}).outcomes.of(Record(0, {"t": "x"}), reply)
    assert outcome.provenance.cost_usd == 3 * share


@pytest.mark.parametrize("error", [RateLimitError("no room", http_status=429), ServerError("no room", http_status=498)])
def test_a_row_goes_to_the_standard_tier_by_choice_once_there_was_no_room_three_times(error: RetryableError) -> None:
    for is_wanted in (True, False):
        chosen = plan(flex_fallback=is_wanted)
        resolver = Resolver(lambda _, chosen=chosen: chosen, Fallbacks({}))  # type: ignore[misc]  # its default
        call: Call = chosen.requests.call(Record(0, {"t": "x"}))
        call.attempts = 2
        assert resolver.otherwise(call, error) == ()
        call.attempts = 3
        others = resolver.otherwise(call, error)
        assert [("service_tier" in json.loads(each.body), each.revisions) for each in others] == [
            (False, ("standard",))
        ] * is_wanted
        assert resolver.otherwise(call, error) == ()
