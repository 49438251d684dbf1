"""The path of a record, whole: one outcome for each, one call for identical ones, and nothing paid for twice."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import engines
from connector.base.clock import Clock
from connector.base.cost import Budget, Prices
from connector.base.errors import (
    APIConnectionError,
    AuthenticationError,
    BudgetError,
    OutageError,
    ServerError,
    StorageError,
)
from connector.base.records import IDLE, Checkpoint, Item, Message, Outcome, Record, Reply, Result, Status
from connector.base.stop import Stop
from connector.calls.breaker import SAME, Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.config.config import Config
from connector.engines import Control, Done, Gauge, threads
from connector.engines._dispatch import dispatch
from connector.ledger import Found, Ledger
from connector.ledger.sqlite import SqliteLedger
from connector.run import pipeline
from connector.run.plan import Plan
from connector.run.runtime import patience
from tests.patience import PATIENCE
from tests.simulation import Time, Workers

PLAN = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}", prices=Prices(input=1e6)))
Send = Callable[[bytes], Reply]


def answered(body: bytes) -> Reply:
    choice = {"message": {"role": "assistant", "content": body.decode()}, "finish_reason": "stop"}
    return Reply(200, {"choices": [choice], "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 0}}, {})


def refused(_body: bytes) -> Reply:
    return Reply(400, {"error": {"message": "too long"}}, {})


class Endpoint:
    """Answers, and counts what it was asked."""

    def __init__(self, answer: Send = answered) -> None:
        self.calls: Counter[bytes] = Counter()
        self._answer = answer
        self._lock = threading.Lock()

    def __call__(self, body: bytes) -> Reply:
        with self._lock:
            self.calls[body] += 1
        return self._answer(body)


def control(concurrency: int = 8, breaker: Breaker | None = None) -> Control:
    clock = Clock(random=lambda: 0.01)
    return Control(Limits(concurrency), Backoff(), breaker or Breaker(), Stop(), Gauge(), clock)


def records(texts: Iterable[object]) -> list[Record]:
    return [Record(index, {"text": str(text)}) for index, text in enumerate(texts)]


def run(
    items: Iterable[Item],
    send: Send = answered,
    ledger: Ledger | None = None,
    *,
    steered: Control | None = None,
    **options: Any,
) -> list[Result]:
    """Runs to the end; without a ledger, one in memory."""
    with ledger or SqliteLedger(None) as own:
        results = pipeline.run(
            items, lambda _: PLAN, send, own, engines.load("threads"), steered or control(), **options
        )
        return list(results)


def outcomes(results: Iterable[Result]) -> list[Outcome]:
    return sorted((each for each in results if isinstance(each, Outcome)), key=lambda outcome: outcome.record.index)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ledger"


# One outcome each


@pytest.mark.parametrize("rows", [0, 1, 199, 200, 201, 1000])
def test_each_record_has_exactly_one_outcome(rows: int) -> None:
    results = outcomes(run(records(range(rows))))
    assert [outcome.record.index for outcome in results] == list(range(rows))
    assert all(f'"{outcome.record.data["text"]}"' in outcome.columns["content"] for outcome in results)


def test_rows_whose_replies_are_stored_together_leave_in_the_order_of_the_input() -> None:
    class Backwards:
        WAITING = 20_000

        @staticmethod
        def run(items: Iterator[Any], send: Send, control: Control) -> Generator[Any]:  # noqa: ARG004 - a contract
            calls = [item for item in items if isinstance(item, Call)]
            yield from (Done(call, send(call.body)) for call in reversed(calls))

    steered = control()._replace(clock=Clock(monotonic=lambda: 7.0))
    with SqliteLedger(None) as ledger:
        rows = records([*range(150), *range(50)])  # the last of them share the first ones' calls
        found = list(pipeline.run(rows, lambda _: PLAN, answered, ledger, Backwards(), steered))
    assert [each.record.index for each in found if isinstance(each, Outcome) and each.record.index < 150] == [
        *range(150)
    ]


def test_however_rows_end_each_has_exactly_one_outcome() -> None:
    def answer(body: bytes) -> Reply:
        number = int(body.split(b'"content":"')[1].split(b'"')[0])
        if number % 5 == 1:
            return refused(body)
        if number % 5 == 2:
            raise APIConnectionError("reset")
        return answered(body)

    items = [*records(range(500)), Record(500, {"other": 1})]
    results = outcomes(run(items, answer, steered=control(breaker=Breaker(tries=100))))
    assert [outcome.record.index for outcome in results] == list(range(501))
    for outcome in results[:500]:
        failed = outcome.record.index % 5 in {1, 2}
        assert outcome.status is (Status.ERROR if failed else Status.SUCCESS)
    assert (error := results[500].provenance.error) is not None
    assert error.class_ == "TemplateError"
    assert results[2].provenance.attempts == 5


def test_items_other_than_records_pass_through() -> None:
    results = run([Message(0, b"a"), IDLE, Record(1, {"text": "x"}), Message(2, b"b")])
    assert [each for each in results if isinstance(each, Message)] == [Message(0, b"a"), Message(2, b"b")]
    assert IDLE in results
    assert len(outcomes(results)) == 1


def test_a_run_whose_replies_are_all_known_does_not_wait_at_its_end(path: Path) -> None:
    run(records(range(500)), ledger=SqliteLedger(path))
    steered = control()._replace(clock=Clock(monotonic=lambda: 7.0))
    results = run(records(range(500)), ledger=SqliteLedger(path), steered=steered)
    assert len(outcomes(results)) == len(results) == 500


@pytest.mark.parametrize(("rows", "concurrency"), [(1, 1), (1, 8), (3, 1), (9, 8)])
def test_a_run_ends_with_its_last_reply(rows: int, concurrency: int) -> None:
    time = Time()

    class Simulated:
        WAITING = 20_000

        @staticmethod
        def run(items: Iterator[Any], send: Send, control: Control) -> Generator[Any]:
            yield from dispatch(items, Workers(concurrency, time, lambda _, body: (0.2, send(body))), control)

    steered = control(concurrency)._replace(clock=time.clock)
    began = time.now
    with SqliteLedger(None) as ledger:
        found = list(pipeline.run(records(range(rows)), lambda _: PLAN, answered, ledger, Simulated(), steered))
    assert len(outcomes(found)) == rows
    assert time.now - began == pytest.approx(0.2 * math.ceil(rows / concurrency))


# One call for identical rows


@pytest.mark.parametrize("concurrency", [1, 8])
def test_identical_rows_share_one_call_however_far_apart_they_are(concurrency: int) -> None:
    endpoint = Endpoint()
    texts = [number % 7 for number in range(2000)]
    results = outcomes(run(records(texts), endpoint, steered=control(concurrency)))
    assert set(endpoint.calls.values()) == {1}
    assert len(endpoint.calls) == 7
    assert len(results) == 2000
    assert sum(not outcome.provenance.cached for outcome in results) == 7


def test_identical_rows_share_a_call_that_is_still_on_its_way() -> None:
    """They come while it is, in later batches; it is answered only once they all have come."""
    all_came = threading.Event()

    def items() -> Iterator[Item]:
        yield from records(["same"] * 1000)
        all_came.set()

    def answer(body: bytes) -> Reply:
        assert all_came.wait(PATIENCE)
        return answered(body)

    endpoint = Endpoint(answer)
    results = outcomes(run(items(), endpoint))
    assert list(endpoint.calls.values()) == [1]
    assert len(results) == 1000


def test_rows_that_wait_for_one_reply_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WAITING", 1000)
    taken = 0
    go_on = threading.Event()

    def items() -> Iterator[Item]:
        nonlocal taken
        for record in records(["same"] * 5000):
            taken += 1
            yield record

    def answer(body: bytes) -> Reply:
        assert go_on.wait(PATIENCE)
        return answered(body)

    done = 0
    results = pipeline.run(items(), lambda _: PLAN, answer, SqliteLedger(None), engines.load("threads"), control())
    for result in results:
        if result is IDLE and not go_on.is_set():
            assert taken < 1500
            go_on.set()
        done += isinstance(result, Outcome)
    assert done == 5000


def test_a_failed_row_fails_the_rows_that_share_its_call() -> None:
    def answer(_body: bytes) -> Reply:
        raise ServerError("broken", http_status=500)

    results = outcomes(run(records(["same"] * 3), answer))
    assert [outcome.status for outcome in results] == [Status.ERROR] * 3


# The ledger


def test_no_call_is_made_for_a_reply_in_the_ledger(path: Path) -> None:
    first, second = Endpoint(), Endpoint()
    run(records(range(300)), first, SqliteLedger(path))
    results = outcomes(run(records(range(400)), second, SqliteLedger(path)))
    assert len(first.calls) == 300
    assert len(second.calls) == 100
    assert [outcome.provenance.cached for outcome in results] == [True] * 300 + [False] * 100


def test_a_stored_reply_is_mapped_like_a_new_one(path: Path) -> None:
    new = outcomes(run(records("ab"), answered, SqliteLedger(path)))
    known = outcomes(run(records("ab"), answered, SqliteLedger(path)))
    assert [outcome.columns for outcome in new] == [outcome.columns for outcome in known]


def test_refused_rows_are_called_for_again_only_on_request(path: Path) -> None:
    def answer(body: bytes) -> Reply:
        return refused(body) if b'"odd' in body else answered(body)

    rows = records(["odd", "even"] * 150)
    run(rows, answer, SqliteLedger(path))
    not_again, again = Endpoint(), Endpoint()
    assert outcomes(run(rows, not_again, SqliteLedger(path)))[0].status is Status.ERROR
    assert not not_again.calls
    results = outcomes(run(rows, again, SqliteLedger(path), retry_failed=True))
    assert [outcome.status for outcome in results] == [Status.SUCCESS] * 300
    assert list(again.calls.values()) == [1]


def test_a_row_that_fails_again_is_called_for_once_all_the_same(path: Path) -> None:
    rows = records(["odd"] * 1000)
    run(rows, refused, SqliteLedger(path))
    again = Endpoint(refused)
    run(rows, again, SqliteLedger(path), retry_failed=True, steered=control(1))
    assert list(again.calls.values()) == [1]


def test_a_row_whose_reply_is_deleted_while_it_is_called_for_again_is_called_for(path: Path) -> None:
    class Pruned(SqliteLedger):
        def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
            if renew:
                self.prune(keys=keys)
            return super().claim(keys, renew=renew)

    rows, again = records(["odd", "even"]), Endpoint()
    run(rows, refused, SqliteLedger(path))
    results = outcomes(run(rows, again, Pruned(path), retry_failed=True))
    assert [outcome.status for outcome in results] == [Status.SUCCESS] * 2
    assert list(again.calls.values()) == [1, 1]


def test_a_run_that_is_stopped_waits_for_its_ledger_as_long_as_for_calls_in_flight() -> None:
    now = 100.0
    steered = control()._replace(clock=Clock(monotonic=lambda: now), grace=30.0)
    told: list[str] = []
    waiting = patience(steered, told.append)
    waiting("it does not answer")
    steered.stop.request(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiting("it does not answer")  # before the first call there is nothing to store
    steered.gauge.calls = 1
    waiting("it does not answer")
    now += 29
    waiting("it does not answer")
    now += 1
    with pytest.raises(KeyboardInterrupt):
        waiting("it does not answer")
    assert len(told) == 3


def test_a_reply_is_stored_before_its_outcome_is_seen(path: Path) -> None:
    """Another connection would see it, so a kill at this moment would not lose it."""
    with SqliteLedger(path) as ledger:
        stored: set[bytes] = set()
        put = ledger.put

        def watched(replies: Iterable[tuple[bytes, Reply]]) -> None:
            listed = list(replies)
            put(listed)
            stored.update(key for key, _ in listed)

        ledger.put = watched  # type: ignore[method-assign]
        for result in pipeline.run(
            records(range(500)), lambda _: PLAN, answered, ledger, engines.load("threads"), control()
        ):
            if isinstance(result, Outcome):
                assert bytes.fromhex(result.provenance.prompt_hash or "") in stored


def test_replies_are_stored_and_seen_soon_though_others_take_long(path: Path) -> None:
    go_on = threading.Event()

    def answer(body: bytes) -> Reply:
        if b'"9"' in body:
            assert go_on.wait(PATIENCE)
        return answered(body)

    seen = 0
    with SqliteLedger(path) as ledger:
        for result in pipeline.run(
            records(range(10)), lambda _: PLAN, answer, ledger, engines.load("threads"), control()
        ):
            seen += isinstance(result, Outcome)
            if seen == 9:
                go_on.set()
    assert seen == 10


# The end


def stopped_by(error: type[BaseException], items: Iterable[Item], send: Send, **options: Any) -> list[Outcome]:
    """Runs until it raises `error`, and returns the outcomes until then."""
    seen: list[Result] = []
    with SqliteLedger(options.pop("path", None)) as ledger:
        steered = options.pop("steered", None) or control()
        results = pipeline.run(items, lambda _: PLAN, send, ledger, engines.load("threads"), steered, **options)
        with pytest.raises(error):
            seen.extend(results)
        return outcomes(seen)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a run has been asked to stop."""
    event, request = threading.Event(), Stop.request

    def requested(stop: Stop, reason: BaseException) -> None:
        request(stop, reason)
        event.set()

    monkeypatch.setattr(Stop, "request", requested)
    return event


def test_a_fatal_error_yields_what_is_in_flight_and_is_raised_then(path: Path, stopping: threading.Event) -> None:
    all_begun = threading.Barrier(4)

    def answer(body: bytes) -> Reply:
        all_begun.wait(PATIENCE)
        if b'"0"' in body:
            raise AuthenticationError("wrong key")
        assert stopping.wait(PATIENCE)
        return answered(body)

    seen = stopped_by(AuthenticationError, records(range(1000)), answer, steered=control(4), path=path)
    assert [outcome.record.index for outcome in seen] == [1, 2, 3]
    with SqliteLedger(path) as ledger:
        keys = [PLAN.requests.key(PLAN.requests.body({"text": str(number)})) for number in range(1000)]
        assert len(ledger.get(keys).known) == 3


def test_an_error_of_the_input_loses_nothing_that_was_paid_for(path: Path) -> None:
    endpoint = Endpoint()

    def items() -> Iterator[Item]:
        yield from records(range(500))
        raise ValueError("line 501 is not JSON")

    seen = stopped_by(ValueError, items(), endpoint, path=path)
    assert len(seen) == len(endpoint.calls) > 0
    again = Endpoint()
    run(records(range(500)), again, SqliteLedger(path))
    assert not endpoint.calls.keys() & again.calls.keys()


def test_an_error_nobody_expected_loses_nothing_that_was_paid_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint()
    outcome_of = PLAN.outcomes.of

    def faulty(record: Record, *arguments: Any, **options: Any) -> Outcome:
        if record.index == 100:
            raise ZeroDivisionError
        return outcome_of(record, *arguments, **options)

    monkeypatch.setattr(PLAN.outcomes, "of", faulty)
    stopped_by(ZeroDivisionError, records(range(500)), endpoint, path=path)
    monkeypatch.undo()
    again = Endpoint()
    run(records(range(500)), again, SqliteLedger(path))
    assert not endpoint.calls.keys() & again.calls.keys()


def test_a_budget_stops_the_run_and_the_next_one_goes_on_from_there(path: Path) -> None:
    first, second = Endpoint(), Endpoint()
    seen = stopped_by(
        BudgetError, records(range(1000)), first, steered=control(4), path=path, budget=Budget(max_cost_usd=100)
    )
    assert 100 <= len(seen) == len(first.calls) < 200
    results = outcomes(run(records(range(1000)), second, SqliteLedger(path), budget=Budget()))
    assert len(results) == 1000
    assert not first.calls.keys() & second.calls.keys()


def test_what_earlier_runs_of_a_job_spent_counts_for_its_budget(path: Path) -> None:
    first, second, third = Endpoint(), Endpoint(), Endpoint()
    outcomes(run(records(range(200)), first, SqliteLedger(path)))
    budget = Budget(max_cost_usd=230)
    stopped_by(BudgetError, records(range(2000)), second, steered=control(1), path=path, budget=budget)
    assert 30 <= budget.cost_usd == len(second.calls) < 300, "and what lay ready for the worker"
    stopped_by(BudgetError, records(range(2000)), third, path=path, budget=Budget(max_cost_usd=230))
    assert not third.calls


def test_a_job_whose_budget_is_spent_and_that_needs_no_call_ends_well(path: Path) -> None:
    run(records(range(200)), answered, SqliteLedger(path))
    found = outcomes(run(records(range(200)), answered, SqliteLedger(path), budget=Budget(max_cost_usd=100)))
    assert len(found) == 200


def test_a_reply_that_answers_many_rows_counts_once(path: Path) -> None:
    rows = [record for _ in range(3) for record in records(range(150))]
    numbered = [Record(index, record.data) for index, record in enumerate(rows)]
    budget = Budget(max_cost_usd=151)
    assert len(outcomes(run(numbered, answered, SqliteLedger(path), budget=budget))) == 450
    assert budget.reached() is None


def test_a_slow_input_does_not_keep_outcomes_back() -> None:
    """Each row takes as long as the clock says: outcomes come between them, and not after two hundred."""
    now = [0.0]
    taken = 0

    def slowly() -> Iterator[Record]:
        nonlocal taken
        for record in records(range(400)):
            now[0] += 0.2
            taken += 1
            threading.Event().wait(0.001)  # lets the workers answer
            yield record

    steered = control(4)._replace(clock=Clock(monotonic=lambda: now[0]))
    results = pipeline.run(slowly(), lambda _: PLAN, Endpoint(), SqliteLedger(None), engines.load("threads"), steered)
    assert isinstance(next(item for item in results if isinstance(item, Outcome)), Outcome)
    assert taken < 10
    results.close()


def test_an_outage_stops_the_run_and_the_next_one_goes_on_from_there(path: Path) -> None:
    left = iter(range(50))

    def breaks(body: bytes) -> Reply:
        if next(left, None) is None:
            raise APIConnectionError("refused")
        return answered(body)

    first, second = Endpoint(breaks), Endpoint()
    steered = control(4, Breaker(tries=1))
    seen = stopped_by(OutageError, records(range(1000)), first, steered=steered, path=path)
    assert [outcome.status for outcome in seen] == [Status.SUCCESS] * 50
    assert len(outcomes(run(records(range(1000)), second, SqliteLedger(path)))) == 1000
    assert len(second.calls) == 950


def test_rows_that_are_all_refused_stop_the_run() -> None:
    endpoint = Endpoint(refused)
    seen = stopped_by(OutageError, records(range(1000)), endpoint)
    assert SAME <= len(seen) == len(endpoint.calls) < 200


def test_a_ledger_that_cannot_be_written_stops_the_run_at_once() -> None:
    endpoint = Endpoint()

    class Full(SqliteLedger):
        def put(self, _replies: Iterable[tuple[bytes, Reply]]) -> None:
            raise StorageError("the disk is full")

    with Full(None) as ledger, pytest.raises(StorageError):
        list(pipeline.run(records(range(10_000)), lambda _: PLAN, endpoint, ledger, engines.load("threads"), control()))
    assert len(endpoint.calls) < 2000


def test_when_answers_cannot_be_stored_no_call_begins_any_more() -> None:
    gate = threading.Event()
    begun: list[bytes] = []
    workers: set[threading.Thread] = set()

    def send(body: bytes) -> Reply:
        workers.add(threading.current_thread())
        begun.append(body)
        if len(begun) > 20:
            gate.wait(PATIENCE)  # in flight while the ledger fails, with other calls queued behind
        return answered(body)

    class Full(SqliteLedger):
        at_failure = 0

        def put(self, _replies: Iterable[tuple[bytes, Reply]]) -> None:
            self.at_failure = len(begun)
            raise StorageError("the disk is full")

    clock = Clock(monotonic=lambda: float(len(begun) > 20))  # so long are replies collected
    steered = control(4)._replace(clock=clock)
    with Full(None) as ledger, pytest.raises(StorageError) as failure:
        list(pipeline.run(records(range(500)), lambda _: PLAN, send, ledger, engines.load("threads"), steered))
    gate.set()
    for worker in workers:
        worker.join(PATIENCE)
    assert failure.value.message == "the disk is full"
    assert not any(worker.is_alive() for worker in workers)
    assert 20 < ledger.at_failure <= len(begun) <= ledger.at_failure + 4


def test_closing_it_early_stores_what_is_in_flight(path: Path, stopping: threading.Event) -> None:
    begun = threading.Barrier(4)

    def answer(body: bytes) -> Reply:
        if int(body.split(b'"content":"')[1].split(b'"')[0]) in range(1, 5):
            begun.wait(PATIENCE)
            stopping.wait(PATIENCE)
        return answered(body)

    endpoint = Endpoint(answer)
    with SqliteLedger(path) as ledger:
        results = pipeline.run(
            records(range(1000)), lambda _: PLAN, endpoint, ledger, engines.load("threads"), control(4)
        )
        next(result for result in results if isinstance(result, Outcome))
        results.close()
        known = ledger.get([PLAN.requests.key(body) for body in endpoint.calls]).known
    assert len(known) == len(endpoint.calls) >= 1


def test_a_run_that_ended_early_does_not_stop_the_next_one() -> None:
    steered = control()
    results = pipeline.run(
        records(range(100)), lambda _: PLAN, answered, SqliteLedger(None), engines.load("threads"), steered
    )
    next(results)
    results.close()
    assert steered.stop.reason is None
    assert len(outcomes(run(records(range(100)), steered=steered))) == 100


def test_a_request_to_stop_is_raised_once_everything_is_out() -> None:
    steered = control(2)

    def answer(body: bytes) -> Reply:
        steered.stop.request(KeyboardInterrupt())
        return answered(body)

    endpoint = Endpoint(answer)
    seen = stopped_by(KeyboardInterrupt, records(range(1000)), endpoint, steered=steered)
    assert len(seen) == len(endpoint.calls) <= 2


# Checkpoints


def engine_in_any_order(random: Random) -> Any:
    """An engine that finishes calls in any order, so that every order is tried without threads."""

    class Shuffling:
        WAITING = 20_000

        @staticmethod
        def run(items: Iterator[Any], send: Send, _control: Control) -> Iterator[Any]:
            on_their_way: list[Call] = []
            for item in items:
                if isinstance(item, Call):
                    on_their_way.append(item)
                else:
                    yield item
                while on_their_way and random.random() < 0.4:
                    call = on_their_way.pop(random.randrange(len(on_their_way)))
                    yield Done(call, send(call.body))
                if random.random() < 0.2:
                    yield IDLE
            random.shuffle(on_their_way)
            yield from (Done(call, send(call.body)) for call in on_their_way)

    return Shuffling()


@given(st.lists(st.sampled_from(["row", "same", "bad", "message", "checkpoint", "idle"]), max_size=80), st.randoms())
@settings(deadline=None)
def test_no_checkpoint_overtakes_a_record_before_it(kinds: list[str], random: Random) -> None:
    items: list[Item] = []
    index = 0
    for kind in kinds:
        if kind == "checkpoint":
            items.append(Checkpoint(index))
        elif kind == "idle":
            items.append(IDLE)
        else:
            data = {"row": {"text": str(index)}, "same": {"text": "same"}}.get(kind, {})
            items.append(Message(index, b"") if kind == "message" else Record(index, data))
            index += 1
    seen: set[int] = set()
    checkpoints = []
    steered = control()._replace(clock=Clock(monotonic=float))  # stands, so that no checkpoint comes for its age
    with SqliteLedger(None) as ledger:
        for result in pipeline.run(items, lambda _: PLAN, answered, ledger, engine_in_any_order(random), steered):
            if isinstance(result, Outcome):
                assert result.record.index not in seen
                seen.add(result.record.index)
            elif isinstance(result, Message):
                seen.add(result.index)
            elif isinstance(result, Checkpoint):
                assert set(range(result.state)) <= seen
                checkpoints.append(result)
    assert seen == set(range(index))
    assert checkpoints == [item for item in items if isinstance(item, Checkpoint)]


def test_a_checkpoint_is_not_let_through_while_the_consumer_holds_the_outcome_before_it() -> None:
    results = run([Record(0, {"text": "a"}), Checkpoint(1), Record(1, {"text": "b"}), Checkpoint(2)])
    kinds = [type(result).__name__ for result in results if result is not IDLE]
    assert kinds.index("Checkpoint") > kinds.index("Outcome")
    assert kinds[-1] == "Checkpoint"


# kill -9

_LATENCY = 0.002
_CONCURRENCY = 4


def killed_run() -> None:
    """In another process: 3,000 rows, each call written down and told before it is answered. Calls move the clock."""
    journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sent: list[bytes] = []
    clock = Clock(monotonic=lambda: len(sent) * _LATENCY / _CONCURRENCY)

    def send(body: bytes) -> Reply:
        sent.append(body)
        os.write(journal, body + b"\n")
        os.write(sys.stdout.fileno(), b".")
        return answered(body)

    with SqliteLedger(Path(sys.argv[1])) as ledger:
        for _ in pipeline.run(
            records(range(3000)),
            lambda _: PLAN,
            send,
            ledger,
            engines.load("threads"),
            control(_CONCURRENCY)._replace(clock=clock),
        ):
            pass


@pytest.mark.parametrize("seed", range(2))
def test_after_a_kill_only_what_was_in_flight_or_not_yet_committed_is_called_for_again(path: Path, seed: int) -> None:
    random, journal = Random(seed), path.with_name("journal")
    program = "from tests.run.test_pipeline import killed_run; killed_run()"
    command = [sys.executable, "-c", program, str(path), str(journal)]
    kills = 2
    for moment in [random.randrange(1, 1200) for _ in range(kills)]:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert len(process.stdout.read(moment)) == moment
            process.send_signal(signal.SIGKILL)
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=PATIENCE, check=False).returncode == 0
    calls = Counter(journal.read_bytes().splitlines())
    assert len(calls) == 3000
    given = _CONCURRENCY + 64  # calls that workers have, made or not: once before the clock is read, once while stored
    collected = 0.05 / _LATENCY * _CONCURRENCY
    assert calls.total() - 3000 <= kills * (collected + 2 * (given + 1))
