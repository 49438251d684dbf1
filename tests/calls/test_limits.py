"""How fast the engine goes, proven in virtual time against simulated endpoints (`tests.simulation`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from connector.base.errors import APITimeoutError, RateLimitError, RetryableError, ServerError
from connector.base.records import Reply
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from tests.simulation import Ending, Endpoint, Run, Time, admits, answers, busiest_minute, down, refills, run, window

ANSWER = Reply(200, {}, {})


def jittered(mean: float, seed: int = 7) -> Callable[[], float]:
    """Latencies spread evenly by half of their mean to either side."""
    random = Random(seed)
    return lambda: mean * random.uniform(0.5, 1.5)


# Pacing


@pytest.mark.parametrize(
    ("per_minute", "concurrency", "latency"), [(10, 1, 1), (60, 8, 5), (600, 64, 0.5), (6000, 256, 0.5)]
)
def test_no_minute_holds_more_calls_than_allowed_and_little_of_it_is_lost(
    per_minute: int, concurrency: int, latency: float
) -> None:
    simulated = run(4 * per_minute, answers(latency), concurrency=concurrency, requests_per_minute=per_minute)
    starts = [call.time for call in simulated.sent]
    assert busiest_minute((start, 1) for start in starts) <= per_minute
    assert len(starts) / (starts[-1] + 60 / per_minute) >= 0.97 * per_minute / 60


def test_calls_are_spread_evenly_over_the_minute() -> None:
    simulated = run(300, answers(jittered(1)), concurrency=64, requests_per_minute=60)
    starts = [call.time for call in simulated.sent]
    assert all(0.7 < later - earlier < 1.3 for earlier, later in pairwise(starts))


def test_a_pause_does_not_earn_a_burst() -> None:
    limits = Limits(8, requests_per_minute=60)
    limits.started(0.0, 10)
    started = 0
    while limits.delay(1000.0) <= 0:
        limits.started(1000.0, 10)
        started += 1
    assert started == 1


def replies_of(tokens: list[int], latency: float) -> Endpoint:
    random = Random(7)

    def arrive(_now: float, body: bytes) -> Ending:
        usage = {"total_tokens": tokens[int(body)]}
        return latency * random.uniform(0.8, 1.2), Reply(200, {"usage": usage}, {})

    return arrive


@pytest.mark.parametrize("per_call", [100, 1000, 5000])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_no_minute_holds_more_tokens_than_allowed_and_little_of_it_is_lost(per_call: int, spread: float) -> None:
    per_minute, random = per_call * 400, Random(7)
    tokens = [int(per_call * random.uniform(1 - spread, 1 + spread)) for _ in range(1600)]
    simulated = run(
        len(tokens),
        replies_of(tokens, latency=0.5),
        concurrency=64,
        tokens_per_minute=per_minute,
        body=lambda row: b"%06d" % row,
    )
    used = [(call.time, tokens[call.row]) for call in simulated.sent]
    assert busiest_minute(used) <= per_minute
    assert sum(tokens) / (used[-1][0] + 60 * per_call / per_minute) >= 0.97 * per_minute / 60


def test_the_first_call_is_alone_until_it_has_shown_what_calls_take() -> None:
    simulated = run(
        50, replies_of([10_000] * 50, 5), concurrency=50, tokens_per_minute=100_000, body=lambda row: b"%d" % row
    )
    assert [call.time for call in simulated.sent[:2]] == [0, pytest.approx(5, abs=1.5)]
    assert simulated.sent[1].in_flight == 1
    assert simulated.seconds == pytest.approx(49 * 6, rel=0.05)


def test_an_endpoint_that_counts_no_tokens_is_paced_by_the_size_of_requests() -> None:
    simulated = run(100, answers(1), concurrency=50, tokens_per_minute=2500, body=lambda _: b"x" * 400)
    assert simulated.seconds == pytest.approx(100 * 100 / 2500 * 60, rel=0.05)


def test_refused_calls_take_no_tokens() -> None:
    limits = Limits(8, tokens_per_minute=60)
    ticket = limits.started(0.0, 400)
    limits.failed(1.0, ticket, 0, 0.0, RateLimitError("slow down"))
    assert limits.delay(1.0) <= 0


# Concurrency that adapts


def capacity(simulated: Run, most: float, latency: float, begin: float | None = None) -> tuple[float, float]:
    """The share of the endpoint's capacity that was used, and of the calls that were refused.

    Measured from `begin` (after the first tenth) until the last row is sent for the first time: whoever is refused last
    has the end of the run for itself.
    """
    first = simulated.seconds * 0.1 if begin is None else begin
    last = max({call.row: call.time for call in reversed(simulated.sent)}.values())
    answered = sum(first < at <= last for at, _ in simulated.done)
    sent = [call for call in simulated.sent if first < call.time <= last]
    return answered / (last - first) / (most / latency), sum(call.is_refused for call in sent) / len(sent)


@pytest.mark.parametrize("most", [8, 32, 100])
@pytest.mark.parametrize("latency", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("wait", [None, 1.0])
def test_an_endpoint_that_admits_so_many_at_a_time_is_kept_busy_with_few_refusals(
    most: int, latency: float, wait: float | None
) -> None:
    rows = max(2000, int(6 * most / latency))
    simulated = run(rows, admits(lambda _: most, answers(jittered(latency)), wait=wait), concurrency=256)
    used, refused = capacity(simulated, most, latency)
    assert (len(simulated.done), simulated.failed) == (rows, [])
    assert used >= 0.95
    assert refused < 0.02


def test_refusals_that_take_as_long_as_answers_do_no_harm() -> None:
    simulated = run(4000, admits(lambda _: 32, answers(jittered(0.3)), refusal=0.3), concurrency=256)
    used, refused = capacity(simulated, 32, 0.3)
    assert used >= 0.95
    assert refused < 0.02
    assert not simulated.failed


def test_a_concurrency_below_what_is_admitted_is_never_reduced() -> None:
    simulated = run(2000, admits(lambda _: 100, answers(jittered(0.3))), concurrency=64)
    assert not any(call.is_refused for call in simulated.sent)
    assert capacity(simulated, 64, 0.3)[0] >= 0.98


@pytest.mark.parametrize(("before", "after"), [(100, 32), (32, 100), (8, 100), (100, 8), (8, 32), (32, 8)])
@pytest.mark.parametrize(("latency", "wait"), [(0.2, None), (0.2, 1.0), (1.0, 1.0)])
def test_a_change_of_what_is_admitted_is_followed(before: int, after: int, latency: float, wait: float | None) -> None:
    half = 75 * latency
    time = Time()
    changes = time.now + half
    endpoint = admits(lambda now: before if now < changes else after, answers(jittered(latency)), wait=wait)
    rows = int(half * (before + after) / latency)
    simulated = run(rows, endpoint, concurrency=256, time=time)
    used, _ = capacity(simulated, after, latency, half + max(25 * latency, 3))
    _, refused = capacity(simulated, after, latency)
    assert (len(simulated.done), simulated.failed) == (rows, [])
    assert used >= 0.95
    assert refused < 0.02


def test_calls_that_time_out_because_too_many_share_the_endpoint_are_reduced() -> None:
    """Twenty calls a second, whoever waits: beyond 100 in flight, each takes more than the five seconds that it may."""
    free_at = 0.0

    def arrive(now: float, _body: bytes) -> Ending:
        nonlocal free_at
        if free_at - now > 5:
            return 5.0, APITimeoutError("no answer within 5 s")
        free_at = max(free_at, now) + 0.05
        return free_at - now, ANSWER

    simulated = run(5000, arrive, concurrency=1000)
    late = [isinstance(call.ending, APITimeoutError) for call in simulated.sent if call.time > simulated.seconds / 2]
    assert not simulated.failed
    assert sum(late) / len(late) < 0.2
    assert simulated.seconds < 5000 * 0.05 * 1.1


def test_a_few_long_answers_that_time_out_reduce_nothing() -> None:
    random = Random(7)

    def arrive(_now: float, _body: bytes) -> Ending:
        return (5.0, APITimeoutError("late")) if random.random() < 0.03 else (0.2, ANSWER)

    simulated = run(5000, arrive, concurrency=64)
    assert max(call.in_flight for call in simulated.sent[-500:]) == 64


@pytest.mark.parametrize("error", [RateLimitError("429"), ServerError("503", http_status=503)], ids=str)
def test_refusals_that_pile_up_show_how_many_are_admitted(error: RetryableError) -> None:
    limits = Limits(64)
    tickets = [limits.started(0.0, 10) for _ in range(64)]
    for in_flight in range(63, 19, -1):
        limits.failed(1.0, tickets.pop(), in_flight, 0.5, error)
    assert limits.concurrency == 20


def test_refusals_that_fall_on_some_calls_whatever_is_in_flight_reduce_little() -> None:
    """As where one of several servers behind an address is overloaded."""
    random = Random(7)

    def arrive(_now: float, _body: bytes) -> Ending:
        return (0.05, RateLimitError("slow down")) if random.random() < 0.1 else (0.2, ANSWER)

    simulated = run(2000, arrive, concurrency=32)
    assert simulated.seconds < 1.5 * 2000 * 0.2 / 32
    assert len(simulated.failed) < 3


def test_other_failures_reduce_nothing() -> None:
    limits = Limits(64)
    limits.failed(1.0, limits.started(0.0, 10), 20, 0.5, ServerError("500", http_status=500))
    assert limits.concurrency == 64


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("per_minute", [60, 600])
@pytest.mark.parametrize("concurrency", [8, 256])
def test_an_endpoint_that_limits_the_rate_loses_no_row(per_minute: int, concurrency: int, tells: bool) -> None:
    endpoint = refills(per_minute, per_minute / 10, answers(jittered(0.3)), tells=tells)
    simulated = run(5 * per_minute, endpoint, concurrency=concurrency)
    assert (len(simulated.done), simulated.failed) == (5 * per_minute, [])
    assert simulated.seconds < 5 * 60 * 1.15


def after(simulated: Run, begin: float) -> tuple[float, float]:
    """Answers a second, and the share of calls that were refused, from `begin` until the last row is first sent."""
    last = max({call.row: call.time for call in reversed(simulated.sent)}.values())
    sent = [call for call in simulated.sent if begin < call.time <= last]
    answered = sum(begin < at <= last for at, _ in simulated.done)
    return answered / (last - begin), sum(call.is_refused for call in sent) / len(sent)


@pytest.mark.parametrize("latency", [0.005, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("concurrency", [8, 64, 256])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rate_that_is_limited_is_learned_from_plain_refusals(latency: float, concurrency: int, seed: int) -> None:
    """Thirty calls a second, eight at once, and 429 without a word on when to come back."""
    endpoint = refills(30 * 60, 8, answers(jittered(latency, seed)), tells=False)
    simulated = run(1800, endpoint, concurrency=concurrency, time=Time(seed))
    assert (len(simulated.done), simulated.failed) == (1800, [])
    rate, refused = after(simulated, 10)
    assert rate >= 0.95 * 30
    assert refused < 0.05


LIMITERS: dict[str, Callable[[float, Endpoint], Endpoint]] = {
    "a bucket without bursts": lambda rate, endpoint: refills(60 * rate, 1, endpoint, tells=False),
    "a bucket of eight": lambda rate, endpoint: refills(60 * rate, 8, endpoint, tells=False),
    "a bucket of three seconds": lambda rate, endpoint: refills(60 * rate, 3 * rate, endpoint, tells=False),
    "a second that begins anew": lambda rate, endpoint: window(int(rate), 1, endpoint, slides=False),
    "a second that slides": lambda rate, endpoint: window(int(rate), 1, endpoint, slides=True),
    "ten seconds that begin anew": lambda rate, endpoint: window(int(10 * rate), 10, endpoint, slides=False),
    "ten seconds that slide": lambda rate, endpoint: window(int(10 * rate), 10, endpoint, slides=True),
}

KNOWN_EXACTLY = ("a bucket of eight", "a bucket of three seconds")


@pytest.mark.parametrize("limiter", LIMITERS)
@pytest.mark.parametrize(
    ("per_second", "concurrency", "latency"),
    [(10, 8, 0.02), (10, 64, 0.02), (30, 8, 0.02), (30, 64, 0.02), (30, 64, 0.2), (100, 64, 0.2), (100, 256, 1.0)],
)
def test_however_an_endpoint_counts_its_rate_is_found(
    limiter: str, per_second: float, concurrency: int, latency: float
) -> None:
    """Measured once every row of the first wave has come back, and the second window has begun."""
    begin = 15 + concurrency / per_second + (10 if "ten" in limiter else 0)
    rows = int(per_second * (begin + 60))
    endpoint = LIMITERS[limiter](per_second, answers(jittered(latency)))
    simulated = run(rows, endpoint, concurrency=concurrency, time=Time())
    assert len(simulated.done) == rows
    assert len(simulated.failed) <= rows / 1000
    rate, refused = after(simulated, begin)
    assert rate >= (0.95 if limiter in KNOWN_EXACTLY else 0.7) * per_second
    assert refused < (0.05 if limiter in KNOWN_EXACTLY else 0.2)


def test_a_rate_that_is_no_longer_limited_is_forgotten() -> None:
    slow, fast = refills(30 * 60, 8, answers(0.02), tells=False), answers(0.02)
    simulated = run(6000, lambda now, body: (slow if now < 1020 else fast)(now, body), concurrency=8, time=Time())
    assert not simulated.failed
    assert simulated.seconds < 60


def any_endpoint(random: Random) -> Endpoint:
    """An endpoint with up to two limits, faults or outages, one within the other."""
    latency = random.choice([0.0, 0.001, 0.02, 0.2, 1.0])
    found = answers(lambda: latency * random.uniform(0.2, 2))
    per_second, calls = random.choice([1, 5, 30, 200]), random.choice([1, 3, 20])
    for _ in range(random.randrange(3)):
        found = random.choice(
            [
                refills(60 * per_second, random.choice([1, 8, 100]), found, tells=random.random() < 0.4),
                window(5 * per_second, 5, found, slides=random.random() < 0.5, refusal=random.choice([0, 0.005, 0.3])),
                admits(lambda _, calls=calls: calls, found, wait=random.choice([None, 1.0])),  # type: ignore[misc]
                down([(5.0, 9.0)], found, error=RateLimitError("down")),
                now_and_then(random, found),
            ]
        )
    return found


def now_and_then(random: Random, endpoint: Endpoint) -> Endpoint:
    error = random.choice(
        [RateLimitError("busy"), RateLimitError("wait", wait=0.5), ServerError("503", http_status=503)]
    )
    return lambda now, body: (0.0, error) if random.random() < 0.1 else endpoint(now, body)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_limits_an_endpoint_every_row_ends_within_its_means(seed: int) -> None:
    random = Random(seed)
    rows = random.choice([1, 5, 100, 400])
    simulated = run(rows, any_endpoint(random), concurrency=random.choice([1, 2, 8, 64, 256]), time=Time(seed))
    assert len(simulated.done) == rows or simulated.stop.reason is not None
    assert simulated.seconds < 60 + 5 * rows


@pytest.mark.parametrize("total", [10**15, 10**400, -5, True, "9", 1.5, None])
def test_an_impossible_token_count_does_not_stop_a_paced_run(total: object) -> None:
    reply = Reply(200, {"usage": {"total_tokens": total}}, {})
    simulated = run(100, answers(0.1, reply), concurrency=8, tokens_per_minute=100_000, body=lambda _: b"x" * 400)
    assert len(simulated.done) == 100
    assert simulated.seconds < 60


# Waits that the endpoint asks for


def test_no_row_is_tried_again_earlier_than_the_endpoint_allows() -> None:
    random = Random(7)

    def arrive(_now: float, _body: bytes) -> Ending:
        wait = random.uniform(0, 20)
        return (0.1, RateLimitError("slow down", wait=wait)) if random.random() < 0.2 else (0.2, ANSWER)

    simulated = run(500, arrive, concurrency=16)
    allowed: dict[int, float] = {}
    for call in simulated.sent:
        assert call.time >= allowed.get(call.row, 0.0)
        if isinstance(call.ending, RateLimitError):
            allowed[call.row] = call.time + 0.1 + (call.ending.wait or 0.0)


def test_a_row_that_is_asked_to_wait_for_hours_fails_with_the_reason_and_the_others_go_on() -> None:
    def arrive(_now: float, body: bytes) -> Ending:
        return 0.1, RateLimitError("come back tomorrow", wait=86400) if body == b"13" else ANSWER

    simulated = run(100, arrive, concurrency=4, body=lambda row: b"%d" % row)
    assert [error.message for error in simulated.failed] == ["come back tomorrow"]
    assert len(simulated.done) == 100
    assert simulated.seconds < 10


@pytest.mark.parametrize("per_minute", [0.1, 1, 6])
@pytest.mark.parametrize("wait", [None, 20.0, 29.0])
def test_a_row_has_its_time_whatever_the_pace(per_minute: float, wait: float | None) -> None:
    """A row that waits to be tried again fails once its time is over, and not when its turn comes."""

    def arrive(_now: float, body: bytes) -> Ending:
        return 0.1, RateLimitError("slow down", wait=wait) if body == b"1" else ANSWER

    simulated = run(
        8,
        arrive,
        concurrency=4,
        requests_per_minute=per_minute,
        backoff=Backoff(50, max_elapsed=30),
        body=lambda row: b"%d" % row,
    )
    (failed,) = simulated.failed
    assert failed.message == "slow down: not tried again, as max_row_seconds = 30 leaves no time"
    began = next(call.time for call in simulated.sent if call.row == 1)
    ended = next(at for at, done in simulated.done if isinstance(done.result, RateLimitError))
    assert ended - began < 31


@pytest.mark.parametrize("reset", ["999999h", "99999999999", "1e300", "-5", "nan", "1h" * 5000, "12h30m", "1735689600"])
def test_no_reset_time_of_a_bucket_stops_a_run_for_more_than_a_minute(reset: str) -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
    simulated = run(5, answers(0.1, Reply(200, {}, headers)), concurrency=1)
    assert len(simulated.done) == 5
    assert simulated.seconds < 61


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_bucket_that_is_always_reported_empty_is_waited_for_once(concurrency: int) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9999s"}
    simulated = run(200, answers(0.1, Reply(200, {}, headers)), concurrency=concurrency)
    assert len(simulated.done) == 200
    assert simulated.seconds < 60 + 200 * 0.1 / concurrency + 1


def test_a_bucket_that_is_truly_empty_is_waited_for_each_time() -> None:
    calls = 0

    def arrive(_now: float, _body: bytes) -> Ending:
        nonlocal calls
        calls += 1
        left = str(-calls % 10)
        return 0.1, Reply(200, {}, {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": "30s"})

    simulated = run(50, arrive, concurrency=1)
    assert simulated.seconds == pytest.approx(4 * 30 + 50 * 0.1, abs=1)


def test_an_empty_bucket_is_believed_again_after_a_refused_call() -> None:
    empty = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    limits, now = Limits(1), 0.0
    pauses = []
    for reply in (empty, empty, None, empty):
        ticket = limits.started(now, 10)
        if reply is None:
            limits.failed(now, ticket, 1, 0.0, RateLimitError("slow down"))
        else:
            limits.answered(now, ticket, 10, Reply(200, {}, reply))
        pauses.append(limits.waiting(now) is not None)
        now += 100
    assert pauses == [True, False, False, True]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_empty_bucket_holds_everything_until_it_is_filled(concurrency: int) -> None:
    def arrive(_now: float, body: bytes) -> Ending:
        left = "0" if body == b"4" else "5"
        return 1.0, Reply(200, {}, {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": "30s"})

    simulated = run(12, arrive, concurrency=concurrency, body=lambda row: b"%d" % row)
    emptied = simulated.sent[4].time + 1
    assert min(call.time for call in simulated.sent if call.time > emptied) == pytest.approx(emptied + 30, abs=0.1)
    assert len(simulated.done) == 12
