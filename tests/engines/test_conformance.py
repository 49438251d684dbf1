"""What every engine does, whatever happens to its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pkgutil import iter_modules
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest

from connector import engines
from connector.base.clock import Clock
from connector.base.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ConnectorError,
    NotFoundError,
    OutageError,
    RateLimitError,
    ReplyError,
    ServerError,
)
from connector.base.records import IDLE, Record, Reply
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.engines import Control, Done, Engine, Gauge
from tests.engines.local_batches import LocalEngine
from tests.patience import PATIENCE

ANSWER = Reply(200, {"usage": {"total_tokens": 3}}, {})
NAMES = [module.name for module in iter_modules(engines.__path__) if not module.name.startswith("_")]
Send = Callable[[bytes], Reply]


MEMBERS: dict[str, Callable[[], Engine]] = {"threads": engines.load, "batch": LocalEngine}


@pytest.fixture(params=MEMBERS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return MEMBERS[request.param]()


@pytest.fixture(params=["threads"])
def live(request: pytest.FixtureRequest) -> Engine:
    """An engine that makes calls at once."""
    return engines.load(request.param)


def test_every_member_is_held_to_the_contract() -> None:
    assert set(MEMBERS) == set(NAMES)


def control(concurrency: int = 8, *, grace: float = 10.0, backoff: Backoff | None = None) -> Control:
    clock = Clock(random=lambda: 0.01)
    return Control(Limits(concurrency), backoff or Backoff(), Breaker(), Stop(), Gauge(), clock, grace)


def calls(number: int, first: int = 0) -> list[Call]:
    return [Call(b"%d" % row, b"%d" % row, [Record(row, {})]) for row in range(first, first + number)]


def answer(_body: bytes) -> Reply:
    return ANSWER


def finished(engine: Engine, items: Iterator[Any], send: Send, steered: Control) -> list[Done]:
    return [item for item in engine.run(items, send, steered) if isinstance(item, Done)]


def rows(done: list[Done]) -> list[int]:
    return sorted(int(each.call.body) for each in done)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_each_call_is_made_once_and_yielded_once(engine: Engine, concurrency: int) -> None:
    sent: SimpleQueue[bytes] = SimpleQueue()

    def send(body: bytes) -> Reply:
        sent.put(body)
        return ANSWER

    steered = control(concurrency)
    done = finished(engine, iter(calls(500)), send, steered)
    assert rows(done) == list(range(500))
    assert sent.qsize() == steered.gauge.calls == 500
    assert all(isinstance(each.result, Reply) and each.result.body == ANSWER.body for each in done)
    assert steered.gauge.in_flight == 0


def test_without_calls_nothing_is_made(engine: Engine) -> None:
    assert list(engine.run(iter([]), answer, control())) == []


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_each_call_has_exactly_one_result(engine: Engine, seed: int) -> None:
    random = Random(seed)
    attempts: dict[bytes, int] = {}
    fates = {
        b"%d" % row: random.choices(["fine", "later", "refused", "junk", "never"], [60, 15, 10, 10, 5])[0]
        for row in range(300)
    }

    def send(body: bytes) -> Reply:
        attempts[body] = attempts.get(body, 0) + 1
        if fates[body] == "later" and attempts[body] == 1:
            raise RateLimitError("slow down")
        if fates[body] == "never" or (fates[body] == "later" and attempts[body] == 2):
            raise APIConnectionError("reset")
        if fates[body] == "refused":
            raise BadRequestError("too long", http_status=400)
        if fates[body] == "junk":
            raise ReplyError("not JSON")
        return ANSWER

    steered = control(16)
    done = finished(engine, iter(calls(300)), send, steered)
    assert rows(done) == list(range(300))
    assert steered.stop.reason is None
    refused = (BadRequestError, Reply)  # an error, or the reply that says so
    expected: dict[str, Any] = {
        "fine": Reply,
        "later": Reply,
        "refused": refused,
        "junk": ReplyError,
        "never": ConnectorError,
    }
    for call, result, _ in done:
        assert isinstance(result, expected[fates[call.body]])
        assert call.attempts == attempts[call.body] == {"later": 3, "never": 5}.get(fates[call.body], 1)
        if isinstance(result, Reply):
            assert result.attempts == call.attempts
    assert steered.gauge.calls == sum(attempts.values())
    assert steered.gauge.retries == sum(attempts.values()) - 300


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_no_more_than_so_many_are_sent_at_once(live: Engine, concurrency: int) -> None:
    lock = threading.Lock()
    full = threading.Barrier(concurrency)
    sending = most = 0

    def send(body: bytes) -> Reply:
        nonlocal sending, most
        with lock:
            sending += 1
            most = max(most, sending)
        if int(body) < concurrency:
            full.wait(PATIENCE)
        with lock:
            sending -= 1
        return ANSWER

    assert len(finished(live, iter(calls(10 * concurrency)), send, control(concurrency))) == 10 * concurrency
    assert most == concurrency


def test_a_straggler_delays_no_other(live: Engine) -> None:
    others_are_done = threading.Event()

    def send(body: bytes) -> Reply:
        if body == b"0":
            assert others_are_done.wait(PATIENCE)
        return ANSWER

    order = []
    for done in live.run(iter(calls(200)), send, control(2)):
        if isinstance(done, Done):
            order.append(int(done.call.body))
            if len(order) == 199:
                others_are_done.set()
    assert order[-1] == 0


def test_a_call_that_waits_to_be_tried_again_takes_no_worker(live: Engine) -> None:
    failed: set[bytes] = set()

    def send(body: bytes) -> Reply:
        if int(body) < 4 and body not in failed:
            failed.add(body)
            raise RateLimitError("slow down", wait=0.3)
        return ANSWER

    done = finished(live, iter(calls(50)), send, control(1))
    assert rows(done[-4:]) == [0, 1, 2, 3]


def test_what_is_not_a_call_passes_at_its_place(engine: Engine) -> None:
    """Before any item behind it is even taken."""
    taken: list[Any] = []

    def items() -> Iterator[Any]:
        for item in ["a", IDLE, *calls(1), "b", *calls(1, first=1), IDLE, "c"]:
            taken.append(item)
            yield item

    for item in engine.run(items(), answer, control()):
        if isinstance(item, str):
            assert taken[-1] is item
    assert [item for item in taken if isinstance(item, str)] == ["a", "b", "c"]


def test_a_pause_of_the_input_is_passed_on_and_holds_nothing_back(engine: Engine) -> None:
    """As in a pipe that waits for more: what was sent is answered before anything else is put in."""
    answered = 0

    def items() -> Iterator[Any]:
        for row in range(3):
            yield from calls(1, first=row)
            while answered <= row:
                yield IDLE

    for item in engine.run(items(), answer, control()):
        answered += isinstance(item, Done)
    assert answered == 3


def test_a_failed_call_is_not_held_back_while_the_input_pauses(engine: Engine) -> None:
    failed = False

    def send(_body: bytes) -> Reply:
        raise ServerError("busy", http_status=500)

    def items() -> Iterator[Any]:
        yield from calls(1)
        while not failed:
            yield IDLE

    for item in engine.run(items(), send, control(backoff=Backoff(max_retries=0))):
        failed = failed or isinstance(item, Done)
    assert failed


def test_an_endpoint_that_nobody_reaches_is_reported_while_the_input_pauses(live: Engine) -> None:
    def send(_body: bytes) -> Reply:
        raise APIConnectionError("refused")

    def items() -> Iterator[Any]:
        yield from calls(1)
        while True:
            yield IDLE

    steered = control()
    assert [item for item in live.run(items(), send, steered) if item is not IDLE] == []
    assert isinstance(steered.stop.reason, OutageError)


def test_it_says_when_nothing_is_finished_for_a_while(engine: Engine) -> None:
    seen = threading.Event()

    def send(_body: bytes) -> Reply:
        assert seen.wait(PATIENCE)
        return ANSWER

    items = []
    for item in engine.run(iter(calls(1)), send, control()):
        items.append(item)
        seen.set()
    assert items[0] is IDLE
    assert any(isinstance(item, Done) for item in items)


@pytest.mark.parametrize(
    "error", [AuthenticationError("wrong key"), ZeroDivisionError("a bug"), SystemExit(3)], ids=repr
)
def test_an_error_of_the_run_stops_it_and_keeps_what_is_in_flight(live: Engine, error: BaseException) -> None:
    all_begun = threading.Barrier(4)
    stopped = threading.Event()
    sent: SimpleQueue[bytes] = SimpleQueue()

    def send(body: bytes) -> Reply:
        sent.put(body)
        all_begun.wait(PATIENCE)
        if body == b"2":
            raise error
        assert stopped.wait(PATIENCE)
        return ANSWER

    steered = control(4)
    done = []
    for item in live.run(iter(calls(1000)), send, steered):
        if steered.stop.reason is not None:
            stopped.set()
        if isinstance(item, Done):
            done.append(item)
    assert steered.stop.reason is error
    assert rows(done) == [0, 1, 3]
    assert sent.qsize() == 4


def test_an_error_of_the_input_stops_the_run_and_keeps_what_is_in_flight(live: Engine) -> None:
    error = ValueError("line 3 is not JSON")
    all_begun = threading.Barrier(4)
    failed = threading.Event()

    def items() -> Iterator[Any]:
        yield from calls(3)
        all_begun.wait(PATIENCE)
        failed.set()
        raise error

    def send(_body: bytes) -> Reply:
        all_begun.wait(PATIENCE)
        assert failed.wait(PATIENCE)
        return ANSWER

    steered = control()
    assert rows(finished(live, items(), send, steered)) == [0, 1, 2]
    assert steered.stop.reason is error


def test_a_request_to_stop_finishes_what_is_in_flight_and_begins_nothing(live: Engine) -> None:
    begun = threading.Barrier(5)
    go_on = threading.Event()
    sent: SimpleQueue[bytes] = SimpleQueue()

    def send(body: bytes) -> Reply:
        sent.put(body)
        begun.wait(PATIENCE)
        assert go_on.wait(PATIENCE)
        return ANSWER

    steered = control(4)

    def interrupt() -> None:
        begun.wait(PATIENCE)
        steered.stop.request(KeyboardInterrupt())
        go_on.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = finished(live, iter(calls(1000)), send, steered)
    thread.join()
    assert rows(done) == sorted(int(sent.get()) for _ in range(sent.qsize())) == [0, 1, 2, 3]


def test_calls_that_wait_to_be_tried_again_are_left_when_the_run_is_stopped(live: Engine) -> None:
    steered = control(2)

    def send(body: bytes) -> Reply:
        if body == b"5":
            steered.stop.request(KeyboardInterrupt())
        if int(body) % 2:
            raise RateLimitError("slow down", wait=60.0)
        return ANSWER

    done = finished(live, iter(calls(1000)), send, steered)
    assert all(isinstance(each.result, Reply) for each in done)
    assert len(done) < 20


def test_the_end_of_a_stopped_run_is_not_waited_for_longer_than_the_grace(live: Engine) -> None:
    hangs, ended = threading.Event(), threading.Event()
    steered = control(2, grace=0.1)

    def send(body: bytes) -> Reply:
        if body == b"0":
            hangs.set()
            ended.wait(PATIENCE)
        else:
            assert hangs.wait(PATIENCE)
            steered.stop.request(KeyboardInterrupt())
        return ANSWER

    assert rows(finished(live, iter(calls(2)), send, steered)) == [1]
    assert not ended.is_set()
    ended.set()


def test_an_outage_stops_the_run_and_fails_no_row(live: Engine) -> None:
    steered = control()._replace(breaker=Breaker(tries=1))

    def send(_body: bytes) -> Reply:
        raise APIConnectionError("refused")

    assert finished(live, iter(calls(1000)), send, steered) == []
    assert isinstance(steered.stop.reason, OutageError)
    assert steered.gauge.calls < 200


def test_a_404_behind_an_answer_is_its_rows_however_late_the_answer_is_seen(live: Engine) -> None:
    missed = threading.Event()

    def send(body: bytes) -> Reply:
        if body == b"1":
            missed.set()
            raise NotFoundError("no such model", http_status=404)
        return ANSWER

    def items() -> Iterator[Call]:
        yield from calls(2)
        assert missed.wait(PATIENCE)  # until both have ended, nobody looks at what came of them
        threading.Event().wait(0.01)
        yield from calls(1, first=2)

    assert rows(finished(live, items(), send, control(1))) == [0, 1, 2]


def test_limits_hold_for_real_calls(live: Engine) -> None:
    """An endpoint that admits five at a time answers everybody, though sixty-four would call."""
    lock = threading.Lock()
    admitted = refused = 0

    def send(_body: bytes) -> Reply:
        nonlocal admitted, refused
        with lock:
            if admitted >= 5:
                refused += 1
                raise RateLimitError("slow down")
            admitted += 1
        threading.Event().wait(0.002)
        with lock:
            admitted -= 1
        return ANSWER

    done = finished(live, iter(calls(1000)), send, control(64))
    assert rows(done) == list(range(1000))
    assert all(isinstance(each.result, Reply) for each in done)
    assert refused < 400
