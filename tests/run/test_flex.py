"""The service tier that answers within minutes for half the price: patience, its price, and the way out of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from connector import Config
from connector.base.cost import BATCH_HEADER
from connector.base.errors import RateLimitError, RetryableError, ServerError
from connector.base.records import Record, Reply
from connector.calls.call import Call
from connector.calls.fallbacks import Fallbacks
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


CHAT = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 150},
}
RESPONSE = {
    "input_tokens": 1000,
    "output_tokens": 200,
    "input_tokens_details": {"cached_tokens": 400},
    "output_tokens_details": {"reasoning_tokens": 150},
}


@pytest.mark.parametrize(("usage", "kind"), [(CHAT, "chat"), (RESPONSE, "responses")], ids=["chat", "responses"])
@pytest.mark.parametrize(
    ("prices", "full"),
    [
        ({"input": 2, "output": 8}, "0.0036"),
        ({"input": 2, "cached_input": 0.5, "output": 8}, "0.003"),  # reasoning is output, and not counted twice
        ({"input": 0.15, "cached_input": 0.075, "output": 0.6}, "0.00024"),
    ],
)
@pytest.mark.parametrize(
    ("tier", "is_batch", "share"),
    [
        ("default", False, "1"),
        (None, False, "1"),
        ("flex", False, "0.5"),
        ("default", True, "0.4"),  # a batch is one, whatever tier its replies name
        ("flex", True, "0.4"),
        (None, True, "0.4"),
    ],
)
def test_costs_are_right_to_the_cent_by_tier_and_tokens(
    usage: dict[str, Any], kind: str, prices: dict[str, Any], full: str, tier: str | None, *, is_batch: bool, share: str
) -> None:
    chosen = plan(endpoint=kind, request_format={"model": "m"}, prices={**prices, "batch": 0.4})
    message = {"role": "assistant", "content": "x"}
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}]
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = {"choices": choices, "output": output, "status": "completed", "usage": usage, "service_tier": tier}
    reply = Reply(200, body, {BATCH_HEADER: "batch_1"} if is_batch else {})
    outcome = chosen.outcomes.of(Record(0, {}), reply)
    assert outcome.provenance.cost_usd == pytest.approx(float(Decimal(full) * Decimal(share)), rel=1e-12)
    assert (outcome.provenance.cached_tokens, outcome.provenance.reasoning_tokens) == (400, 150)


@pytest.mark.parametrize("rest", [b"18446744073709551617", b"1e400", b"[" * 200 + b"]" * 200])
def test_a_request_at_the_standard_tier_is_the_same_but_for_the_tier(rest: bytes) -> None:
    requests = plan(flex_fallback=True).requests
    assert requests.at_the_standard_tier(b'{"service_tier":"flex","x":' + rest + b"}") == b'{"x":' + rest + b"}"


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
