"""Rows that share a call: whatever becomes of the call, each row has exactly one outcome, and it is its own."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connector import engines
from connector.base.clock import Clock
from connector.base.errors import ServerError
from connector.base.records import IDLE, Outcome, Record, Reply, Status
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.config.config import Config
from connector.engines import Control, Gauge
from connector.ledger.sqlite import SqliteLedger
from connector.run import pipeline
from connector.run.plan import Plan
from connector.run.sharing import Packer, halves

NOW = Clock(random=lambda: 0.0)


def plan(rows_per_call: int = 4) -> Plan:
    return Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}", rows_per_call=rows_per_call))


def call(asked: Plan, text: str, index: int = 0) -> Call:
    return asked.requests.call(Record(index, {"text": text}))


def answered(content: str) -> Reply:
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return Reply(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}, {})


class Endpoint:
    """Answers alone or together; rows of some names are refused, left out, fail for a while, or break the reply."""

    def __init__(self) -> None:
        self.failures: dict[bytes, int] = {}

    def __call__(self, body: bytes) -> Reply:
        content = json.loads(body)["messages"][-1]["content"]
        _, is_packed, inputs = content.partition("come alone. Reply with JSON only, with one entry for each id:")
        if "flaky" in content and self.failures.setdefault(body, 0) < 1:
            self.failures[body] += 1
            raise ServerError("busy", http_status=503)
        if "refused" in content:
            return Reply(400, {"error": {"message": "refused"}}, {})
        if not is_packed:
            return answered(f"to {content}")
        if "breaking" in content:
            return answered('{"answers": [')
        asked = json.loads(inputs.partition("\n\n")[2])
        given_up = [each for each in asked if "missing" not in each["input"]]
        return answered(
            json.dumps({"answers": [{"id": each["id"], "answer": f"to {each['input']}"} for each in given_up]})
        )


names = st.sampled_from(["fine", "refused", "missing", "flaky", "breaking"])


@settings(deadline=None, max_examples=60)
@given(kinds=st.lists(names, max_size=25), most=st.integers(2, 8), pauses=st.sets(st.integers(0, 24), max_size=4))
def test_each_row_has_one_outcome_and_it_is_its_own(kinds: list[str], most: int, pauses: set[int]) -> None:
    asked = plan(most)
    items: list[Any] = []
    for index, kind in enumerate(kinds):
        items += [IDLE] * (index in pauses)
        items.append(Record(index, {"text": f"{kind} {index}"}))
    control = Control(Limits(4), Backoff(base=0.001), Breaker(tries=100), Stop(), Gauge(), NOW)
    with SqliteLedger(None) as ledger:
        results = list(pipeline.run(iter(items), lambda _: asked, Endpoint(), ledger, engines.load("threads"), control))
    outcomes = sorted((each for each in results if isinstance(each, Outcome)), key=lambda each: each.record.index)
    assert [outcome.record.index for outcome in outcomes] == list(range(len(kinds)))
    for outcome, kind in zip(outcomes, kinds, strict=True):
        if kind == "refused":
            assert outcome.status is Status.ERROR
        else:
            assert outcome.columns["content"] == f"to {outcome.record.data['text']}"


def test_a_shared_request_has_all_digits_of_its_numbers() -> None:
    asked = Plan(
        Config(
            url="http://localhost/v1/embeddings",
            request_format={"model": "m", "input": "{{ text }}", "seed": 2**64 + 1},
            batch_size=2,
        )
    )
    packer = Packer(lambda _: asked)
    (shared,) = [each for text in "ab" for each in packer.add([call(asked, text)])]
    assert b'"seed":18446744073709551617' in shared.body


def test_calls_wait_until_there_are_enough_or_somebody_flushes() -> None:
    asked = plan(3)
    packer = Packer(lambda _: asked)
    assert [list(packer.add([call(asked, str(number))])) for number in range(2)] == [[], []]
    (shared,) = packer.add([call(asked, "2")])
    assert len(shared.parts) == 3
    assert not list(packer.flush())
    alone = call(asked, "3")
    assert list(packer.add([alone])) == []
    assert list(packer.flush()) == [alone]


def test_a_shared_call_holds_no_more_bytes_than_it_may() -> None:
    asked = plan(1000)
    packer = Packer(lambda _: asked)
    text = "x" * 20_000
    shared = [each for number in range(20) for each in packer.add([call(asked, f"{number} {text}")])]
    shared += packer.flush()
    assert sum(len(each.parts) or 1 for each in shared) == 20
    packing = asked.requests.packing
    assert packing is not None
    assert all(sum(len(part.body) for part in each.parts) <= packing.most_bytes for each in shared)


def test_a_row_that_is_too_large_to_share_goes_alone() -> None:
    asked = plan(10)
    packer = Packer(lambda _: asked)
    large = call(asked, "x" * 200_000)
    assert not list(packer.add([call(asked, "small")]))
    assert [each.body != large.body for each in packer.add([large])] == [True]
    assert list(packer.flush()) == [large]


def test_without_packing_every_call_goes_at_once() -> None:
    asked = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}"))
    one = call(asked, "a")
    packer = Packer(lambda _: asked)
    assert list(packer.add([one])) == [one]
    assert not list(packer.flush())


def test_halves_hold_every_row_once_and_single_ones_go_as_they_are() -> None:
    asked = plan()
    packing = asked.requests.packing
    assert packing is not None
    calls = [call(asked, str(number), number) for number in range(5)]
    first, second = halves(packing, calls)
    assert [*first.parts, *second.parts] == calls
    assert halves(packing, calls[:2]) == calls[:2]
    assert halves(packing, calls[:1]) == calls[:1]
    assert halves(packing, []) == []
