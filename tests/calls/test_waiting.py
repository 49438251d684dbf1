"""What a run waits for can be read at any time, in words (`tests.simulation`: virtual time)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    ConnectorError,
    CutError,
    RateLimitError,
    RetryableError,
    ServerError,
)
from connector.base.records import Reply
from connector.calls.breaker import Breaker
from connector.calls.limits import Limits
from connector.calls.waiting import Waiting, kind_of
from connector.engines import Control
from tests.simulation import Ending, admits, answers, down, refills, run

ANSWER = Reply(200, {}, {})


def told(seen: list[str]) -> Callable[[Control], None]:
    """Notes each thing that a run waits for, once while it lasts."""

    def watch(control: Control) -> None:
        text = str(control.waiting())
        if not seen or seen[-1] != text:
            seen.append(text)

    return watch


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (Waiting("429: next call", 17.2), "429: next call in 18 s"),
        (Waiting("paced to 500 requests a minute"), "paced to 500 requests a minute"),
        (
            Waiting("endpoint unreachable for 12 s: trying again", 4.0),
            "endpoint unreachable for 12 s: trying again in 4 s",
        ),
    ],
)
def test_a_wait_reads_as_a_sentence(waiting: Waiting, text: str) -> None:
    assert str(waiting) == text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RateLimitError("x", http_status=429), "429"),
        (RateLimitError("x"), "rate limit"),
        (ServerError("x", http_status=503), "503"),
        (ServerError("x"), "the endpoint failed"),
        (APITimeoutError("x"), "no answer in time"),
        (APIConnectionError("x"), "endpoint unreachable"),
        (CutError("x"), "a reply broke off"),
    ],
)
def test_a_failure_goes_by_its_status_or_a_few_words(error: ConnectorError, words: str) -> None:
    assert kind_of(error) == words


def test_nothing_is_reported_while_calls_are_answered() -> None:
    seen: list[str] = []
    run(200, answers(0.5), concurrency=8, watch=told(seen))
    assert seen == ["None"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RateLimitError("slow down", http_status=429, wait=18), "429: next call in 18 s"),
        (ServerError("overloaded", http_status=503, wait=5), "503: trying again in 5 s"),
        (APIConnectionError("refused"), "endpoint unreachable: trying again in 1 s"),
    ],
)
def test_a_row_that_waits_alone_says_for_what(error: RetryableError, text: str) -> None:
    """One row, so no outage is suspected yet."""
    seen: list[str] = []
    run(1, down([(0, 0.01)], answers(0.2), error=error), concurrency=8, watch=told(seen))
    assert text in seen
    assert seen[-1] == "None"


def test_an_outage_says_since_when_and_when_it_is_tried_again() -> None:
    seen: list[str] = []
    run(50, down([(0.3, 6.3)], answers(0.2)), concurrency=8, watch=told(seen))
    outage = [text for text in seen if text.startswith("endpoint unreachable for ")]
    assert outage[0] == "endpoint unreachable for 1 s: trying again in 1 s"
    assert outage[-1] == "endpoint unreachable for 7 s: trying again", "which is on its way"
    assert seen[-1] == "None"


def test_an_outage_that_is_a_rate_limit_says_when_the_next_call_starts() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(RateLimitError("slow down", http_status=429, wait=18), 0.0, 1.0, 0, is_first=True)
    assert str(breaker.waiting(3.0)) == "429: next call in 16 s"
    breaker.answered()
    assert breaker.waiting(3.0) is None


def test_a_probe_in_flight_has_no_seconds() -> None:
    breaker = Breaker()
    breaker.answered()
    for _ in range(10):
        breaker.failed(APIConnectionError("refused"), 0.0, 1.0, 0, is_first=True)
    assert breaker.waiting(13.0) == Waiting("endpoint unreachable for 12 s: trying again")


@pytest.mark.parametrize(
    ("requests", "tokens", "text"),
    [
        (600, None, "paced to 600 requests a minute"),
        (6, None, "paced to 6 requests a minute: next call in 10 s"),
        (None, 90_000, "paced to 90,000 tokens a minute"),
    ],
)
def test_a_pace_is_reported(requests: float | None, tokens: float | None, text: str) -> None:
    reply = Reply(200, {"usage": {"total_tokens": 1000}}, {})
    seen: list[str] = []
    run(
        30,
        answers(0.2, reply),
        concurrency=8,
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        watch=told(seen),
    )
    assert text in seen


def test_a_pace_is_not_reported_if_a_run_waits_for_calls_in_flight() -> None:
    seen: list[str] = []
    run(30, answers(20), concurrency=2, requests_per_minute=60, watch=lambda control: busy(control, seen))
    assert set(seen) == {"None"}


def busy(control: Control, seen: list[str]) -> None:
    """Notes what is waited for while no further call may be in flight."""
    if control.gauge.in_flight == control.limits.concurrency:
        seen.append(str(control.waiting()))


def test_an_empty_bucket_is_reported() -> None:
    limits = Limits(8)
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    limits.answered(1.0, limits.started(0.0, 10), 10, Reply(200, {}, headers))
    assert str(limits.waiting(2.0)) == "the endpoint's rate limit is used up: next call in 29 s"
    assert limits.waiting(31.0) is None


def test_a_learned_rate_is_reported() -> None:
    seen: list[str] = []
    run(600, refills(30 * 60, 8, answers(0.02), tells=False), concurrency=8, watch=told(seen))
    assert any("calls a second, as learned from refused calls" in text for text in seen)


def test_a_learned_concurrency_is_not_a_wait() -> None:
    seen: list[str] = []
    run(2000, admits(lambda _: 8, answers(0.2)), concurrency=64, watch=told(seen))
    assert seen[-1] == "None"
    assert not any("paced" in text for text in seen)


def ages(control: Control, into: list[float | None]) -> None:
    into.append(control.gauge.oldest(control.clock.monotonic()))


def test_the_age_of_the_oldest_call_in_flight_is_known() -> None:
    def arrive(_now: float, body: bytes) -> Ending:
        return (40.0 if body == b"3" else 0.2), ANSWER

    seen: list[float | None] = []
    run(100, arrive, concurrency=4, body=lambda row: b"%d" % row, watch=lambda control: ages(control, seen))
    assert max(age for age in seen if age is not None) == pytest.approx(40.0, abs=0.3)
    assert seen[-1] is None


def test_a_call_that_waits_for_a_worker_has_no_age() -> None:
    """Calls are given to workers ahead; the oldest counts from when it began."""
    seen: list[float | None] = []
    run(80, answers(10.0), concurrency=1, watch=lambda control: ages(control, seen))
    assert max(age for age in seen if age is not None) <= 10.0


def rows_of(seen: Iterable[str]) -> list[str]:
    return [text for text in seen if text != "None"]


def test_the_common_wait_is_reported_if_each_row_is_asked_to_wait() -> None:
    """Fewer rows than make an outage, all turned away: nothing is in flight until the first may come back."""
    seen: list[str] = []
    run(
        5,
        down([(0, 1)], answers(0.2), error=RateLimitError("slow", http_status=429, wait=9)),
        concurrency=8,
        watch=told(seen),
    )
    assert rows_of(seen)[0] == "429: next call in 10 s", "and a little, so that not all come back at once"
    assert rows_of(seen)[-1] == "429: next call in 1 s"
