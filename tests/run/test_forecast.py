"""A forecast counts what a run would do, and what that takes, without a call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import Config
from connector.base.records import IDLE, Checkpoint, Record, Reply
from connector.base.stop import Stop
from connector.ledger.sqlite import SqliteLedger
from connector.run.forecast import Forecast, forecast, refusal, unsendable, warning
from connector.run.plan import Plan

CONFIG = {"model": "m", "prompt": "{{ text }}", "url": "http://localhost/v1"}


def plan(**options: Any) -> Plan:
    return Plan(Config.load({**CONFIG, **options}))


def records(*texts: object) -> list[object]:
    rows: list[object] = [Record(number, {"text": text}) for number, text in enumerate(texts)]
    return [*rows, IDLE, Checkpoint(None)]


def reply(content: str = "fine", status: int = 200) -> Reply:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    body = {"choices": [choice], "model": "m", "usage": usage} if status == 200 else {"error": {"message": "no"}}
    return Reply(status, body, {}, 2_000)


def found(made: Plan, texts: list[object], known: dict[object, Reply], **options: Any) -> Forecast:
    with SqliteLedger(None) as ledger:
        ledger.put((made.requests.key(made.requests.body({"text": text})), each) for text, each in known.items())
        return forecast(records(*texts), made, ledger, Stop(), **options)


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None, "skip"]), max_size=40), st.sets(st.sampled_from("abcd")))
def test_every_row_is_counted_once_and_equal_requests_are_one_call(texts: list[object], known: set[str]) -> None:
    made = plan(where="{{ text != 'skip' }}")
    told = found(made, texts, {text: reply() for text in known})
    assert (told.rows, told.skipped, told.unsendable) == (len(texts), texts.count("skip"), texts.count(None))
    assert told.known == sum(text in known for text in texts)
    assert told.calls == len({text for text in texts if text not in known} - {None, "skip"})
    assert told.rows == told.skipped + told.known + told.same + told.calls + told.unsendable


def test_what_the_known_replies_took_is_projected() -> None:
    made = plan(prices={"input": 1, "output": 2}, concurrency=2)
    told = found(made, ["a", "b", "c", "d", "e", "f"], {"a": reply(), "b": reply()})
    assert (told.calls, told.input_tokens, told.output_tokens, told.is_whole) == (4, 40, 20, True)
    assert told.cost_usd == pytest.approx(4 * (10 + 2 * 5) / 1e6)
    assert told.seconds == 2 * 2.0
    assert str(told) == "6 rows: 2 in the ledger, 4 calls, about $0.000080 and 4.0 s"


def test_without_a_reply_the_requests_are_all_that_is_known() -> None:
    told = found(plan(prices={"input": 1, "output": 2}), ["x" * 4_000_000], {})
    assert told.output_tokens is None
    assert not told.is_whole
    assert str(told).startswith("1 row: 1 call, about 1,000,0")
    assert "($1.00); no reply is known yet" in str(told)


def test_without_prices_the_cost_is_unknown_and_never_zero() -> None:
    told = found(plan(), ["a", "b"], {"a": reply()})
    assert told.cost_usd is None
    assert "cost unknown (set prices, or pip install" in str(told)
    assert str(told).endswith("and 2.0 s")


@pytest.mark.parametrize(
    ("limit", "seconds"), [({"max_requests_per_minute": 2}, 90.0), ({"max_tokens_per_minute": 15}, 180.0)]
)
def test_limits_of_the_config_count(limit: dict[str, int], seconds: float) -> None:
    assert found(plan(**limit), ["a", "b", "c", "d"], {"a": reply()}).seconds == pytest.approx(seconds)


def test_rows_that_share_a_call_are_counted_by_calls() -> None:
    assert found(plan(rows_per_call=3), list("abcdefg"), {}).calls == 3


@pytest.mark.parametrize(("retry_failed", "calls"), [(False, 0), (True, 1)])
def test_a_refusal_in_the_ledger_is_called_again_only_where_that_is_asked_for(retry_failed: bool, calls: int) -> None:
    told = found(plan(), ["a", "b"], {"a": reply(), "b": reply(status=400)}, retry_failed=retry_failed)
    assert (told.calls, told.known) == (calls, 2 - calls)


def test_rows_that_cannot_be_rendered_are_reported_with_their_cause_apart_from_unreadable_ones() -> None:
    rows: list[object] = [Record(0, {"text": None}), Record(1, {}, problem="line 2 is not JSON"), *records("a")]
    told = forecast(rows, plan(), None, Stop())
    assert (told.rows, told.unsendable, told.unreadable, told.calls) == (3, 1, 1, 1)
    assert str(told).splitlines()[1:] == [
        "1 row cannot be rendered:",
        '  1 × text is null in prompt → use {{ text | default("…") }} (row 1)',
    ]
    assert told.to_dict()["causes"][0]["rows"] == [1]


@pytest.mark.parametrize(
    ("nulls", "rows", "percent", "stops"),
    [
        *((1, 100, 1, False), (2, 100, 1, True), (1, 99, 1, True), (1, 1_000_000, 0, True)),
        *((0, 10, 0, False), (10, 10, 100, False), (10, 10, 99.9, True), (0, 0, 1, False)),
    ],
)
def test_more_than_the_admitted_share_stops_a_run(nulls: int, rows: int, percent: float, stops: bool) -> None:
    made = plan()
    _, causes = unsendable(records(*[None] * nulls), made, Stop())
    told = refusal(rows, causes, percent)
    assert (told is not None) is stops
    if told is not None:
        assert f"{nulls:,} of {rows:,} row" in told.message
    assert (warning(rows, causes) == "") is (nulls == 0)


def test_a_row_that_cannot_be_read_is_left_to_on_bad_input() -> None:
    assert unsendable([Record(0, {}, problem="broken")], plan(), Stop()) == (1, [])


@pytest.mark.parametrize("look", [unsendable, lambda *given: forecast(given[0], given[1], None, given[2])])
def test_a_forecast_ends_when_it_is_asked_to(look: Any) -> None:
    stop = Stop()
    stop.request(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        look(records("a"), plan(), stop)


def test_a_million_keys_are_counted_in_eight_bytes_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.run.forecast._SORTED_AT_ONCE", 7)
    texts = [str(number % 50) for number in range(100)]
    told = found(plan(), list(texts), {})
    assert (told.calls, told.same) == (50, 50)
