"""What only the engine of threads has to do: start few of them, and leave none behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from connector.base.errors import AuthenticationError, FatalError
from connector.base.records import IDLE, Record, Reply
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.engines import Control, Done, Gauge
from connector.engines.threads import run
from tests.patience import PATIENCE

ANSWER = Reply(200, {}, {})


def control(concurrency: int) -> Control:
    return Control(Limits(concurrency), Backoff(), Breaker(), Stop(), Gauge())


def calls(number: int) -> Iterator[Call]:
    return (Call(b"%d" % row, b"%d" % row, [Record(row, {})]) for row in range(number))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("call-")]


def have_ended() -> bool:
    """Whether all workers come to an end by themselves."""
    for worker in workers():
        worker.join(PATIENCE)
    return not workers()


@pytest.fixture(autouse=True)
def _no_worker_is_left_behind() -> Iterator[None]:
    assert have_ended()
    yield
    assert have_ended()


def test_it_starts_no_more_threads_than_there_are_calls() -> None:
    begun = threading.Barrier(3)
    seen: set[str] = set()

    def send(_body: bytes) -> Reply:
        begun.wait(PATIENCE)
        seen.add(threading.current_thread().name)
        return ANSWER

    assert len(list(run(calls(3), send, control(256)))) == 3
    assert len(seen) == 3


def test_closing_it_early_ends_the_threads_and_begins_nothing() -> None:
    sent: list[bytes] = []

    def send(body: bytes) -> Reply:
        sent.append(body)
        return ANSWER

    running = run(calls(10_000), send, control(4))
    next(item for item in running if isinstance(item, Done))
    running.close()
    assert have_ended()
    assert len(sent) < 200


def test_closing_it_before_it_began_is_nothing_special() -> None:
    running = run(calls(10), lambda _body: ANSWER, control(4))
    running.close()


def test_a_consumer_that_forgets_it_leaves_no_thread_behind() -> None:
    running = run(calls(10_000), lambda _body: ANSWER, control(4))
    next(running)
    del running
    assert have_ended()


def test_an_error_in_the_consumer_leaves_no_thread_behind() -> None:
    def consume() -> None:
        for _ in run(calls(10_000), lambda _body: ANSWER, control(4)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert have_ended()


def test_with_a_wrong_key_no_more_calls_are_made_than_were_on_their_way() -> None:
    """Though further calls lie ready: a worker does not take one of them once another has met a fatal error."""
    sent: list[bytes] = []
    begun = threading.Barrier(8)

    def send(body: bytes) -> Reply:
        sent.append(body)
        begun.wait(PATIENCE)
        raise AuthenticationError("wrong key")

    steered = control(8)
    assert [item for item in run(calls(1000), send, steered) if isinstance(item, Done)] == []
    assert isinstance(steered.stop.reason, AuthenticationError)
    assert len(sent) <= 15


def test_where_no_more_threads_can_be_started_those_that_there_are_make_all_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = 0
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        nonlocal starts
        starts += 1
        if starts > 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    done = [item for item in run(calls(300), lambda _body: ANSWER, control(64)) if isinstance(item, Done)]
    assert len(done) == 300
    assert starts == 3


def test_where_not_one_thread_can_be_started_the_reason_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(FatalError, match="no thread can be started"):
        list(run(calls(3), lambda _body: ANSWER, control(64)))


@pytest.mark.parametrize(("rows", "ahead"), [(1, 64), (2, 16)])
def test_workers_have_few_calls_of_many_rows_ahead_whose_replies_are_large(rows: int, ahead: int) -> None:
    taken, most, concurrency = 0, 0, 4

    def counted() -> Iterator[Call]:
        nonlocal taken
        for call in calls(500):
            taken += 1
            parts = [call] * rows if rows > 1 else []
            yield Call(call.key, call.body, call.records, parts)

    for done, _ in enumerate(
        item for item in run(counted(), lambda _: ANSWER, control(concurrency)) if item is not IDLE
    ):
        most = max(most, taken - done)
    assert taken == 500
    assert most == concurrency + ahead
