"""What happens when call after call fails: the run stops soon, no row fails for it, and what passes is waited for."""

from __future__ import annotations

from random import Random

import pytest

from connector import Connector
from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ConnectorError,
    FatalError,
    NotFoundError,
    OutageError,
    PermissionDeniedError,
    RateLimitError,
    RetryableError,
    ServerError,
)
from connector.base.records import Failure, Outcome, Provenance, Record, Reply, Status
from connector.calls.breaker import SAME, Breaker
from connector.calls.retry import Backoff
from tests.endpoint import Endpoint, refused
from tests.simulation import Ending, answers, down, run

KINDS = {
    "refused": APIConnectionError("connection refused"),
    "500": ServerError("internal error", http_status=500),
    "503": ServerError("overloaded", http_status=503),
    "429": RateLimitError("slow down", http_status=429),
    "429 with Retry-After": RateLimitError("slow down", http_status=429, wait=1.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("took", [0.0, 0.2])
@pytest.mark.parametrize("concurrency", [1, 16, 64, 256])
@pytest.mark.parametrize("rows", [100, 1000, 10_000])
def test_a_total_outage_stops_the_run_after_few_calls_and_fails_no_row(
    kind: str, took: float, concurrency: int, rows: int
) -> None:
    simulated = run(rows, lambda _now, _body: (took, KINDS[kind]), concurrency=concurrency)
    assert isinstance(simulated.stop.reason, OutageError)
    assert simulated.done == []
    assert len(simulated.sent) <= min(1.5 * rows, 2 * concurrency + 20)
    assert simulated.seconds < 150


@pytest.mark.parametrize("concurrency", [1, 16, 64, 256])
def test_an_endpoint_that_never_answers_in_time_stops_the_run_too(concurrency: int) -> None:
    simulated = run(100, lambda _now, _body: (30.0, APITimeoutError("no answer")), concurrency=concurrency)
    assert isinstance(simulated.stop.reason, OutageError)
    assert simulated.done == []
    assert len(simulated.sent) <= 150


@pytest.mark.parametrize("max_retries", [0, 1])
def test_in_an_outage_no_row_fails_even_where_it_may_not_be_tried_again(max_retries: int) -> None:
    error = KINDS["refused"]
    simulated = run(1000, lambda _now, _body: (0.1, error), concurrency=8, backoff=Backoff(max_retries))
    assert isinstance(simulated.stop.reason, OutageError)
    assert simulated.done == []


UNREACHED = {
    "refused": KINDS["refused"],
    "late": APITimeoutError("no connection within 5 s"),
}
UNREACHED["late"].is_connected = False


@pytest.mark.parametrize("kind", UNREACHED)
@pytest.mark.parametrize("took", [0.0, 0.2, 5.0])
@pytest.mark.parametrize("concurrency", [1, 16, 256])
@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.parametrize("max_retries", [0, 4])
def test_where_no_call_ever_had_a_connection_the_run_ends_in_about_a_second(
    kind: str, took: float, concurrency: int, rows: int, max_retries: int
) -> None:
    error = UNREACHED[kind]
    simulated = run(rows, lambda _now, _body: (took, error), concurrency=concurrency, backoff=Backoff(max_retries))
    assert isinstance(simulated.stop.reason, OutageError)
    assert simulated.stop.reason.message == f"no call could reach the endpoint: {error.message}"
    assert simulated.done == []
    assert len(simulated.sent) <= min(concurrency, rows) + 1
    assert simulated.seconds <= max(took, 1.0) + took + 0.1


@pytest.mark.parametrize("took", [0.0, 0.2])
@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("rows", [1, 1000])
def test_a_moment_without_a_connection_is_waited_for_even_where_nothing_may_be_tried_again(
    took: float, concurrency: int, rows: int
) -> None:
    endpoint = down([(0.0, 0.9)], answers(0.2), error=KINDS["refused"], took=took)
    simulated = run(rows, endpoint, concurrency=concurrency, backoff=Backoff(max_retries=0))
    assert simulated.stop.reason is None
    assert (len(simulated.done), simulated.failed) == (rows, [])


@pytest.mark.parametrize("max_retries", [0, 1])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_what_was_closed_without_an_answer_is_sent_again_only_as_often_as_it_may_be(
    concurrency: int, max_retries: int
) -> None:
    """It may have been carried out, and paid for."""
    closed = APIConnectionError("closed the connection without an answer")
    closed.was_closed = True
    simulated = run(
        5, lambda _now, _body: (0.1, closed), concurrency=concurrency, backoff=Backoff(max_retries=max_retries)
    )
    assert len(simulated.sent) <= 5 * (1 + max_retries)


def test_calls_that_may_have_a_connection_are_waited_for() -> None:
    """A queue of connections that is full lets some in and others not: a slow answer shows that somebody is there."""

    def arrive(now: float, body: bytes) -> Ending:
        if body == b"0":
            return 30.0, Reply(200, {}, {})
        return (5.0, UNREACHED["late"]) if now < 1030 else (0.2, Reply(200, {}, {}))

    simulated = run(64, arrive, concurrency=8, body=lambda row: b"%d" % row)
    assert simulated.stop.reason is None
    assert (len(simulated.done), simulated.failed) == (64, [])


def test_an_endpoint_that_starts_up_is_waited_for_as_in_any_outage() -> None:
    endpoint = down([(0.0, 5.0)], answers(0.2), error=ServerError("loading model", http_status=503), took=0.1)
    simulated = run(100, endpoint, concurrency=8)
    assert (len(simulated.done), simulated.stop.reason) == (100, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("took", [0.0, 0.2])
@pytest.mark.parametrize("concurrency", [1, 8, 64, 256])
@pytest.mark.parametrize("span", [(0.0, 5.0), (3.0, 6.0)], ids=["from the start", "in the middle"])
def test_an_outage_that_passes_loses_no_row_and_little_time(
    kind: str, took: float, concurrency: int, span: tuple[float, float]
) -> None:
    if kind in UNREACHED and span[0] == 0:
        return  # the run ends after a second
    rows = 40 * concurrency
    endpoint = down([span], answers(0.2), error=KINDS[kind], took=took)
    simulated = run(rows, endpoint, concurrency=concurrency)
    assert simulated.stop.reason is None
    assert (len(simulated.done), simulated.failed) == (rows, [])
    assert simulated.seconds < span[1] + 25


def test_a_run_of_few_rows_ends_with_their_errors() -> None:
    error = KINDS["500"]
    simulated = run(2, lambda _now, _body: (0.1, error), concurrency=8, backoff=Backoff(max_retries=2))
    assert simulated.failed == [error, error]
    assert simulated.stop.reason is None


def test_a_row_that_always_fails_does_so_alone() -> None:
    def arrive(_now: float, body: bytes) -> Ending:
        return 0.1, ServerError("poison", http_status=500) if body in {b"0", b"50"} else Reply(200, {}, {})

    simulated = run(100, arrive, concurrency=4, body=lambda row: b"%d" % row)
    assert [error.message for error in simulated.failed] == ["poison", "poison"]
    assert (len(simulated.done), simulated.stop.reason) == (100, None)


def test_an_endpoint_that_asks_to_come_back_in_hours_is_not_waited_for() -> None:
    error = RateLimitError("come back later", wait=3600.0)
    simulated = run(1000, lambda _now, _body: (0.1, error), concurrency=16)
    assert isinstance(simulated.stop.reason, OutageError)
    assert "come back later" in simulated.stop.reason.message
    assert simulated.done == []
    assert simulated.seconds < 5


def fail(breaker: Breaker, times: int, started: float, now: float, in_flight: int = 0) -> OutageError | None:
    error: RetryableError = KINDS["500"]
    reasons = [breaker.failed(error, started, now, in_flight, is_first=True) for _ in range(times)]
    return reasons[-1]


def test_it_opens_once_as_many_have_failed_as_were_in_flight() -> None:
    breaker = Breaker()
    fail(breaker, 31, 0.0, 1.0, in_flight=31)
    assert not breaker.is_open
    fail(breaker, 1, 0.0, 1.0)
    assert breaker.is_open


def test_a_few_failures_in_a_row_are_bad_luck() -> None:
    breaker = Breaker()
    fail(breaker, 9, 0.0, 1.0)
    assert not breaker.is_open
    breaker.answered()
    fail(breaker, 9, 0.0, 1.0)
    assert not breaker.is_open


def test_calls_that_began_before_it_opened_are_not_probes() -> None:
    breaker = Breaker(tries=1)
    assert fail(breaker, 10, 0.0, 1.0) is None
    assert fail(breaker, 100, 0.9, 1.2) is None
    assert breaker.try_at == 1.5
    assert isinstance(fail(breaker, 1, 1.5, 1.6), OutageError)


def test_while_it_is_open_each_probe_waits_longer_and_at_least_as_long_as_asked() -> None:
    breaker, now, waits = Breaker(tries=4), 0.0, []
    fail(breaker, 10, now, now)
    for _ in range(3):
        waits.append(breaker.try_at - now)
        now = breaker.try_at
        breaker.failed(RateLimitError("slow", wait=3.0), now, now, 0, is_first=True)
    waits.append(breaker.try_at - now)
    assert waits == [0.5, 3.0, 3.0, 4.0]


def test_one_answer_closes_it() -> None:
    breaker = Breaker()
    fail(breaker, 12, 0.0, 1.0)
    breaker.answered()
    assert not breaker.is_open
    assert breaker.failures == 0


def outcome(status: Status, message: str = "", http_status: int | None = 400, attempts: int = 1) -> Outcome:
    failure = Failure("BadRequestError", message, http_status) if message else None
    provenance = Provenance(status, failure, attempts)
    return Outcome(Record(0, {}), status, {}, {}, provenance)


# Answers of 404 and 403

NOWHERE = NotFoundError("nothing answers at this URL", http_status=404)
FORBIDDEN = PermissionDeniedError("request blocked", http_status=403)


def test_a_404_before_any_answer_ends_the_run() -> None:
    assert Breaker().missed(NOWHERE)


def test_a_404_after_an_answer_is_its_row_s_own_unless_nothing_else_comes_any_more() -> None:
    breaker = Breaker()
    breaker.answered()
    assert [breaker.missed(NOWHERE) for _ in range(SAME)] == [False] * (SAME - 1) + [True]
    breaker.answered()
    assert not breaker.missed(NOWHERE)


def test_a_403_before_any_answer_may_be_one_row_s_own_but_three_are_not() -> None:
    breaker = Breaker()
    assert [breaker.missed(FORBIDDEN) for _ in range(3)] == [False, False, True]


def test_a_success_of_an_earlier_run_is_an_answer() -> None:
    breaker = Breaker()
    breaker.judged(outcome(Status.SUCCESS))
    assert not breaker.missed(NOWHERE)
    assert not breaker.missed(FORBIDDEN)


@pytest.mark.parametrize("error", [NOWHERE, FORBIDDEN], ids=["404", "403"])
@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("bad", [0, 1, 17, 300])
def test_one_row_that_a_firewall_or_a_404_stops_is_the_only_one_that_fails(
    error: ConnectorError, concurrency: int, bad: int
) -> None:
    if isinstance(error, NotFoundError) and bad < concurrency:
        return  # before any answer, a 404 ends the run

    def arrive(_now: float, body: bytes) -> Ending:
        return 0.1, error if body == b"%d" % bad else Reply(200, {}, {})

    simulated = run(500, arrive, concurrency=concurrency, body=lambda row: b"%d" % row)
    assert simulated.stop.reason is None
    assert (len(simulated.done), simulated.failed) == (500, [error])


@pytest.mark.parametrize("rows", [1, 2, 1000])
@pytest.mark.parametrize("error", [NOWHERE, FORBIDDEN], ids=["404", "403"])
def test_repeated_403_or_404_without_another_answer_end_the_run_and_fail_no_row(
    error: ConnectorError, rows: int
) -> None:
    simulated = run(rows, lambda _now, _body: (0.1, error), concurrency=2)
    assert simulated.stop.reason is error
    assert simulated.done == []


@pytest.mark.parametrize(
    "error", [NOWHERE, FORBIDDEN, BadRequestError("no"), ServerError("500", http_status=500)], ids=str
)
@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("begins", [0.0, 3.0])
def test_whatever_the_probe_of_an_outage_gets_the_run_goes_on(
    error: ConnectorError, concurrency: int, begins: float
) -> None:
    """A balancer without servers answers 503 to most and, now and then, something else."""
    random = Random(7)

    def arrive(now: float, _body: bytes) -> Ending:
        if begins <= now - 1000 < begins + 6:
            odd = now - 1000 > begins + 0.5 and random.random() < 0.7
            return 0.1, error if odd else ServerError("no servers", http_status=503)
        return 0.2, Reply(200, {}, {})

    simulated = run(60 * concurrency, arrive, concurrency=concurrency, body=lambda row: b"%d" % row)
    assert simulated.stop.reason is None or isinstance(simulated.stop.reason, OutageError | NotFoundError | FatalError)
    assert simulated.seconds < 600
    if simulated.stop.reason is None:
        assert len(simulated.done) == 60 * concurrency


def test_a_probe_that_is_recalled_before_it_began_is_made_again() -> None:
    """The workers are busy with slow calls of before, each of which fails while the single try waits for one."""

    def arrive(now: float, _body: bytes) -> Ending:
        if now < 1000.1:
            return 0.1 + random.random() * 5, ServerError("503", http_status=503)
        return 0.2, Reply(200, {}, {})

    random = Random(7)
    simulated = run(200, arrive, concurrency=16, body=lambda row: b"%d" % row)
    assert simulated.stop.reason is None
    assert len(simulated.done) == 200


def test_a_server_that_reports_a_single_failure_by_404_does_not_stop_other_rows(endpoint: Endpoint) -> None:
    config = {"url": endpoint.url, "model": "m", "prompt": "{{ text }}", "concurrency": 1}
    texts = ["one", "two [[fault:404-path]]", "three", "four [[fault:404-model]]", "five"]
    rows = list(Connector(config).enrich({"text": text} for text in texts))
    assert [row["_llm"]["status"] for row in rows] == ["success", "error", "success", "error", "success"]


def test_a_model_that_goes_away_in_the_middle_stops_the_run() -> None:
    with Endpoint(lambda call: refused(404, "404") if call.prompt > "row 020" else None) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "row {{ n }}", "concurrency": 1}
        with pytest.raises(NotFoundError):
            list(Connector(config).enrich({"n": f"{number:03}"} for number in range(1000)))
    assert len(endpoint.journal.calls) < 20 + SAME + 70, "and what lay ready for the worker"
