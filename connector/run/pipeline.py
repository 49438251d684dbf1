"""The path of a record, whole: it enters at the top of `run` and leaves at its end as an outcome.

    items → entered (render, look up, share) → answered (engine: call, retry, pace) → settled (ledger, map) → released

Every stage is a generator, and all of them run in the one thread that iterates; only the calls are made elsewhere.
State is in band: a checkpoint comes out behind the outcomes that it covers, and `IDLE` says that nothing more is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from connector.base.cost import Budget
from connector.base.errors import StorageError, TemplateError
from connector.base.records import IDLE, Checkpoint, Idle, Message, Outcome, Record, Reply, Status
from connector.calls.fallbacks import Concessions
from connector.engines import Call, Control, Done, Engine, Stop
from connector.ledger.sqlite import Ledger
from connector.run.checkpoint import Watermark
from connector.run.plan import Plan
from connector.run.resolution import Resolver, standing
from connector.run.sharing import Packer, Waiting

_BATCH: Final = 200  # records that are looked up in the ledger at once
_BATCH_BYTES: Final = 2**24  # and bytes of their requests, some of which hold images
_WAITING: Final = 20_000  # records that may wait for replies in flight, where many rows are the same
_COMMIT: Final = 500  # replies, or
_COMMIT_SECONDS: Final = (
    0.05  # seconds, after which replies are committed: what a kill may cost besides calls in flight
)

Item = Record | Message | Checkpoint | Idle
Result = Outcome | Message | Checkpoint | Idle
Ready = list[Outcome | Message]
"""What needs no call goes through the stages together, since there may be much of it."""
PlanOf = Callable[[Record], Plan]
"""The plan that a record is treated by; one for all, or by the record's stream."""


def run(
    items: Iterable[Item],
    plan_of: PlanOf,
    send: Callable[[bytes], Reply],
    ledger: Ledger,
    engine: Engine,
    control: Control,
    *,
    budget: Budget | None = None,
    concessions: Concessions | None = None,
    retry_failed: bool = False,
) -> Generator[Result, None, None]:
    """Yields exactly one `Outcome` for each `Record`, in the order in which they are finished.

    Each `Checkpoint` comes out once all records before it have. When the run has to stop, whatever is in flight is
    finished, stored and yielded first. A consumer that closes the generator ends it the same way.

    Args:
        budget: What the run may spend; it is asked to stop once that is reached.
        concessions: What is known of how the endpoint wants to be asked.
        retry_failed: Calls again for rows whose reply in the ledger was no success.

    Raises:
        FatalError: The endpoint, the budget or the ledger ended the run.
        Exception: Whatever else `control.stop` was given as the reason, or a stage did not expect.
    """
    resolver = Resolver(plan_of, concessions or Concessions({}))
    control = control._replace(stop=Stop(control.stop), resolve=resolver)
    waiting = Waiting()
    watermark = Watermark()
    entered = _entered(iter(items), plan_of, ledger, control, waiting, watermark, retry_failed=retry_failed)
    answered = engine.run(entered, send, control)
    settled = _settled(answered, plan_of, ledger, control, waiting, budget or Budget())
    with closing(settled):
        yield from _released(settled, watermark)
    if control.stop.reason is not None:
        raise control.stop.reason


def _entered(
    items: Iterator[Item],
    plan_of: PlanOf,
    ledger: Ledger,
    control: Control,
    waiting: Waiting,
    watermark: Watermark,
    *,
    retry_failed: bool,
) -> Iterator[Call | Ready | Idle]:
    """Renders records and looks them up: a known reply is an outcome at once, an unknown one a call, made only once.

    Nothing is yielded between looking a batch up and joining its records to the calls on their way: else a reply that
    came in between would be in neither, and paid for again.
    """
    asked_again: set[bytes] = set()
    packer = Packer(plan_of)
    while batch := _rendered(items, plan_of, watermark):
        while waiting.records >= _WAITING:
            yield from packer.flush()
            yield IDLE
        known = ledger.get([key for _, _, key, _ in batch.rendered])
        calls: list[Call] = []
        for record, plan, key, body in batch.rendered:
            if waiting.joins(key, record):
                continue
            if key in known:
                outcome = plan.outcome(record, known[key], key)
                if outcome.status is Status.SUCCESS or not retry_failed or key in asked_again:
                    if outcome.status is Status.SUCCESS:
                        control.breaker.judged(outcome)
                    batch.ready.append(outcome)
                    continue
                asked_again.add(key)
            calls.append(waiting.begin(Call(key, body, [record])))
        if batch.ready:
            yield batch.ready
        for call in calls:
            yield from packer.add(call)
        if batch.has_paused:
            yield from packer.flush()
            yield IDLE
    yield from packer.flush()
    yield IDLE  # all that is left is to wait for the last replies


class _Batch(NamedTuple):
    """Records to look up at once: what needs no look-up, what does (with plan, key and body), and why it ended."""

    ready: Ready
    rendered: list[tuple[Record, Plan, bytes, bytes]]
    has_paused: bool = False


def _rendered(items: Iterator[Item], plan_of: PlanOf, watermark: Watermark) -> _Batch | None:
    """The next batch; the input's pauses end it early, so that nothing is held back. `None` at the input's end."""
    batch, count, size = _Batch([], []), 0, 0
    for item in items:
        count += 1
        if isinstance(item, Record):
            watermark.enter(item.index)
            plan = plan_of(item)
            try:
                body = plan.request(item.data)
            except TemplateError as error:
                batch.ready.append(plan.failed(item, error))
            else:
                batch.rendered.append((item, plan, plan.key(body), body))
                size += len(body)
        elif isinstance(item, Message):
            watermark.enter(item.index)
            batch.ready.append(item)
        elif isinstance(item, Checkpoint):
            watermark.hold(item)
        else:
            return batch._replace(has_paused=True)
        if count >= _BATCH or size >= _BATCH_BYTES:
            return batch
    return batch if count else None


def _settled(
    answered: Generator[Any], plan_of: PlanOf, ledger: Ledger, control: Control, waiting: Waiting, budget: Budget
) -> Generator[Outcome | Ready | Idle, None, None]:
    """Stores replies before anything of them is seen, then maps them: one outcome for each record that waits."""
    batch: list[Done] = []
    firsts: list[Outcome] = []
    due = control.clock.monotonic() + _COMMIT_SECONDS

    def settle() -> Iterator[Outcome]:
        nonlocal batch, firsts, due
        _store(batch, ledger)
        settled, batch, firsts = zip(batch, firsts, strict=True), [], []
        due = control.clock.monotonic() + _COMMIT_SECONDS
        for done, first in settled:
            waiting.end(done.call)
            yield first
            for record in done.call.records[1:]:
                yield _outcome(plan_of(record), record, done, cached=True)

    try:
        for item in answered:
            if isinstance(item, Done):
                batch.append(item)
                record = item.call.records[0]
                firsts.append(item.outcome or _outcome(plan_of(record), record, item))
                reason = budget.spend(firsts[-1]) or control.breaker.judged(firsts[-1])
                if reason is not None:
                    control.stop.request(reason)
            elif item is not IDLE:
                yield item
            if batch and (item is IDLE or len(batch) >= _COMMIT or control.clock.monotonic() >= due):
                yield from settle()
            if item is IDLE:
                yield IDLE
                ledger.rest()
    except StorageError:  # what cannot be stored must not be paid for
        answered.close()
        raise
    except BaseException as ended:  # a consumer that closes this generator above all: what is in flight is paid for
        control.stop.request(ended)
        _store([*batch, *(item for item in answered if isinstance(item, Done)), *_standing(waiting)], ledger)
        raise
    yield from settle()
    _store(_standing(waiting), ledger)


def _standing(waiting: Waiting) -> list[Done]:
    """The replies that were to be bettered when the run was stopped: they are paid for."""
    return [Done(call, reply) for call in waiting if (reply := standing(call)) is not None]


def _store(done: list[Done], ledger: Ledger) -> None:
    replies = [(each.call.key, each.result) for each in done if isinstance(each.result, Reply)]
    if replies:
        ledger.put(replies)


def _outcome(plan: Plan, record: Record, done: Done, *, cached: bool = False) -> Outcome:
    if isinstance(done.result, Reply):
        return plan.outcome(record, done.result, done.call.key, cached=cached)
    return plan.failed(record, done.result, key=done.call.key, attempts=done.call.tries)


def _released(settled: Iterator[Outcome | Ready | Idle], watermark: Watermark) -> Iterator[Result]:
    """Lets each checkpoint through behind the last outcome that it covers."""
    for item in settled:
        if isinstance(item, Idle):
            yield item
            continue
        for each in item if isinstance(item, list) else (item,):
            yield each
            watermark.leave(each.index if isinstance(each, Message) else each.record.index)
            if watermark.holds:
                yield from watermark.release()
    yield from watermark.release()
