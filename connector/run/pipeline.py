"""The path of a record, whole: it enters at the top of `run` and leaves at its end as an outcome.

    items → entered (render, look up, share) → answered (engine: call, retry, pace) → settled (map, store) → released

A plan has two halves, and each is met once: `requests` where a record enters, `outcomes` where its reply is settled.
Every stage is a generator, and all of them run in the one thread that iterates; only the calls are made elsewhere.
State is in band: a checkpoint comes out behind the outcomes that it covers, and `IDLE` says that nothing more is ready.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from connector.base.cost import Budget
from connector.base.errors import StorageError, TemplateError
from connector.base.records import IDLE, Checkpoint, Idle, Item, Message, Outcome, Record, Reply, Result, Status
from connector.base.room import LARGE
from connector.base.stop import Stop
from connector.calls.call import Call
from connector.calls.fallbacks import Fallbacks
from connector.calls.in_flight import InFlight
from connector.engines import Control, Done, Engine
from connector.ledger import Ledger
from connector.run.checkpoint import Watermark
from connector.run.elsewhere import Elsewhere
from connector.run.first_rows import FirstRows
from connector.run.outcomes import Outcomes
from connector.run.plan import Plan
from connector.run.resolution import Resolver, paid_reply
from connector.run.sharing import Packer

_BATCH: Final = 200  # records that are looked up in the ledger at once
_BATCH_SECONDS: Final = 0.02  # and seconds that the input may take for them
_BATCH_BYTES: Final = 2**24  # and bytes of their requests, some of which hold images
_COMMIT: Final = 500  # replies that are put at once, or those of `Ledger.commit_seconds`
_CHECKPOINT_SECONDS: Final = 10.0  # after which a checkpoint covers what has left, however little that is

Ready = list[Outcome | Message]
"""What needs no call passes through the stages in lists, since there may be a lot of it."""
PlanOf = Callable[[Record], Plan]
"""Returns the plan of a record: one for all, or by the record's stream."""


def run(
    items: Iterable[Item],
    plan_of: PlanOf,
    send: Callable[[bytes], Reply],
    ledger: Ledger,
    engine: Engine,
    control: Control,
    *,
    budget: Budget | None = None,
    fallbacks: Fallbacks | None = None,
    retry_failed: bool = False,
) -> Generator[Result, None, None]:
    """Yields exactly one `Outcome` for each `Record`, in the order in which they are finished.

    Each `Checkpoint` comes out once all records before it have, and others of what has come out so far every ten
    seconds, and at a stop. When the run has to stop, whatever is in flight is finished, stored and yielded first. A
    consumer that closes the generator ends it the same way.

    Args:
        budget: What the run may spend; it stops once that is reached.
        fallbacks: What is known of how the endpoint wants to be asked.
        retry_failed: Whether to call again for rows whose reply in the ledger was not a success.

    Raises:
        FatalError: The endpoint, the budget or the ledger ended the run.
        Exception: Whatever else `control.stop` was given as the reason, or a stage did not expect.
    """
    budget = budget or Budget()
    resolver = Resolver(plan_of, fallbacks or Fallbacks({}))
    breaker, in_flight = control.breaker, InFlight()
    control = control._replace(
        in_flight=in_flight,
        stop=Stop(control.stop),
        resolve=resolver,
        otherwise=resolver.otherwise,
        is_proven=lambda: breaker.has_succeeded,
    )
    context = _Context(plan_of, ledger, control, in_flight, budget, FirstRows())
    watermark = Watermark()
    entered = _entered(iter(items), watermark, _LookUp(context, retry_failed=retry_failed), engine.WAITING)
    settled = _Settling(context).all(engine.run(entered, send, control))
    with closing(in_flight), closing(settled):
        yield from _released(settled, watermark, control.clock.monotonic)
    context.first_rows.warn()
    if control.stop.reason is not None:
        raise control.stop.reason


class _Context(NamedTuple):
    """What the stages of one run share."""

    plan_of: PlanOf
    ledger: Ledger
    control: Control
    in_flight: InFlight
    budget: Budget
    first_rows: FirstRows

    def outcomes_of(self, record: Record) -> Outcomes:
        """Returns what makes the outcome of a record."""
        return self.plan_of(record).outcomes

    def judged(self, first: Outcome, result: object, reason: BaseException | None = None) -> None:
        """Notes what the first record of a call came to, and stops the run for a reason, its own if there is none."""
        self.control.breaker.judged(first)
        reason = reason or self.first_rows.judged(first, self.outcomes_of(first.record), result)
        if reason is not None:
            self.control.stop.request(reason)


def _entered(
    items: Iterator[Item], watermark: Watermark, look_up: _LookUp, waiting: int
) -> Iterator[Call | Ready | Idle]:
    """Renders records and looks them up: a known reply is an outcome at once, an unknown one a call, made only once.

    What the known replies cost counts for the budget: it is the job's, however many runs that takes.

    Nothing is yielded between looking calls up and joining their records to the calls in flight: a reply that came in
    between would be in neither, and paid for again. Calls that another run has in flight are in flight here, too, so
    that records of the same request join them; they are looked up again until that run's reply is there, or it is gone.
    """
    context = look_up.context
    control, in_flight = context.control, context.in_flight
    while batch := _rendered(items, context.plan_of, watermark, control.clock.monotonic):
        while in_flight.records >= waiting and control.stop.reason is None:
            yield from look_up.again()
        yield from look_up.all(batch.calls, batch.ready)
        if control.stop.reason is not None:
            return
        if batch.has_paused or look_up.elsewhere.is_due:
            yield from look_up.again()
    while look_up.elsewhere and control.stop.reason is None:
        yield from look_up.again()
    yield from look_up.packer.flush()
    if control.gauge.given:
        yield IDLE  # all that is left is to wait for the last replies


class _LookUp:
    """What becomes of calls by what the ledger knows of them: outcomes, calls to make, or calls of another run."""

    def __init__(self, context: _Context, *, retry_failed: bool) -> None:
        self.context = context
        self._ledger = context.ledger
        self._control = context.control
        self._in_flight = context.in_flight
        self._retry_failed = retry_failed
        self._asked_again: set[bytes] = set()
        self._failed: dict[bytes, Reply] = {}  # replies to calls that another run makes again
        self.packer = Packer(context.plan_of)
        self.elsewhere = Elsewhere(context.control.clock.monotonic)

    def all(self, calls: list[Call], ready: Ready) -> Iterator[Call | Ready]:
        """Yields what is ready, more of it included, and then the calls that are this run's to make.

        Large replies come a few at a time, and so do the outcomes and calls.
        """
        while calls or ready:
            calls = yield from self._some(calls, ready)
            if self._control.stop.reason is not None:
                return
            ready = []

    def _some(self, calls: list[Call], ready: Ready) -> Generator[Call | Ready, None, list[Call]]:
        """Does so for calls that are looked up together, and returns those that are left."""
        found = self._ledger.claim([call.key for call in calls])
        parked = self._in_flight.parked(calls)
        to_make: list[Call] = []
        failed: list[Call] = []
        left: list[Call] = []
        for call in calls:
            if self._in_flight.join(call, parked):
                continue
            if call.key in found.left:
                left.append(call)
                continue
            if call.key in found.known and self._is_answered(call, found.known[call.key], ready):
                continue
            self._in_flight.add(call)
            if call.key in found.known:
                failed.append(call)
            elif call.key in found.held:
                self.elsewhere.add(call)
            else:
                to_make.append(call)
        if failed:
            to_make += self._again(failed, found.known, ready)
        del found  # its replies may be large
        if ready:
            yield ready
        if to_make and (spent := self.context.budget.reached()) is not None:
            self._control.stop.request(spent)
            return left
        yield from self.packer.add(to_make)
        return left

    def _again(self, failed: list[Call], known: dict[bytes, Reply], ready: Ready) -> list[Call]:
        """Returns the calls that are this run's to make again, of those that have failed.

        Where another run is about to, or just has, its reply counts.
        """
        to_make = []
        while failed:
            found = self._ledger.claim([call.key for call in failed], renew=True)
            for call in failed:
                if call.key in found.left:
                    continue
                if call.key in found.held:
                    self._failed[call.key] = known[call.key]
                    self.elsewhere.add(call)
                    continue
                self._asked_again.add(call.key)
                self._failed.pop(call.key, None)
                reply = found.known.get(call.key, known[call.key])  # it may have been deleted meanwhile
                if reply == known[call.key]:
                    to_make.append(call)
                else:
                    self._in_flight.remove(call)
                    self._is_answered(call, reply, ready)
                    self._ledger.release([call.key])
            failed = [call for call in failed if call.key in found.left]
        return to_make

    def again(self) -> Iterator[Call | Ready | Idle]:
        """Does the same, when it is time, for the calls that other runs had in flight, and lets the engine go on."""
        due = self.elsewhere.due()
        if due:
            others = len(self.elsewhere)
            for call in due:
                self._in_flight.remove(call)
            yield from self.all(due, [])
            if len(self.elsewhere) < others + len(due):
                self.elsewhere.found()
        self._control.gauge.elsewhere = len(self.elsewhere)
        yield from self.packer.flush()
        yield IDLE

    def _is_answered(self, call: Call, reply: Reply, ready: Ready) -> bool:
        """Whether a known reply is what becomes of the records of a call; their outcomes are then ready."""
        outcomes = [self.context.outcomes_of(record).of(record, reply, call.key) for record in call.records]
        first = outcomes[0]
        self.context.budget.recall(first)
        if self._failed.get(call.key, reply) != reply:  # another run has made the call again
            del self._failed[call.key]
            self._asked_again.add(call.key)
        if first.status is Status.SUCCESS:
            self.context.judged(first, reply)
        elif self._retry_failed and call.key not in self._asked_again:
            return False
        ready += outcomes
        return True


class _Batch(NamedTuple):
    """What is looked up at once: what needs no look-up, the calls that do, and whether the input's pause ended it."""

    ready: Ready
    calls: list[Call]
    has_paused: bool = False


def _rendered(
    items: Iterator[Item], plan_of: PlanOf, watermark: Watermark, clock: Callable[[], float]
) -> _Batch | None:
    """Returns the next batch; an input that pauses, or is slow, ends it early, so that nothing is held back.

    `None` after the last.
    """
    batch, count, size = _Batch([], []), 0, 0
    ends = clock() + _BATCH_SECONDS
    for item in items:
        count += 1
        if isinstance(item, Record):
            watermark.enter_record(item)
            plan = plan_of(item)
            try:
                call = plan.requests.call(item) if plan.requests.wants(item) else None
            except TemplateError as error:
                batch.ready.append(plan.outcomes.of(item, error))
            else:
                if call is None:
                    batch.ready.append(plan.outcomes.skipped(item))
                else:
                    batch.calls.append(call)
                    size += len(call.body)
        elif isinstance(item, Message):
            watermark.enter(item.index)
            batch.ready.append(item)
        elif isinstance(item, Checkpoint):
            watermark.hold(item)
        else:
            return batch._replace(has_paused=True)
        if count >= _BATCH or size >= _BATCH_BYTES or clock() >= ends:
            return batch
    return batch if count else None


class _Settling:
    """Maps replies to outcomes, one for each record that waits; each leaves once its reply is stored.

    The first record of a call is mapped at once, so that a budget or an outage stops the run without delay. Those whose
    replies are stored together leave in the order of the input, so that a few rows come as they were read.
    """

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._ledger = context.ledger
        self._control = context.control
        self._in_flight = context.in_flight
        self._now = context.control.clock.monotonic
        self._batch: list[Done] = []  # to be stored together
        self._firsts: list[Outcome] = []
        self._size = 0  # bytes of memory that the large replies in it take
        self._due = math.inf  # until the first reply is there
        self._settled: deque[tuple[Done, Outcome]] = deque()  # stored, and not yet handed on

    def all(self, answered: Generator[Any]) -> Generator[Outcome | Ready | Idle, None, None]:
        """Yields the outcomes of the calls that are done, and everything else as it comes."""
        try:
            for item in answered:
                if isinstance(item, Done):
                    self._take(item)
                elif item is not IDLE:
                    yield item
                if self._batch and self._is_time(item):
                    yield from self._settle()
                if item is IDLE:
                    yield IDLE
                    self._ledger.rest()
                del item  # it may hold much, while the next one is waited for
        except StorageError:  # what cannot be stored must not be paid for
            answered.close()
            raise
        except BaseException as ended:  # mostly a consumer that closes this generator: what is in flight is paid for
            self._control.stop.request(ended)
            self._control.gauge.unfinished.extend(first.provenance for _, first in self._settled)
            done = [*self._batch, *(item for item in answered if isinstance(item, Done))]
            self._keep([*done, *_paid_for(self._in_flight, (*done, *(each for each, _ in self._settled)))])
            raise
        yield from self._settle()
        self._keep(_paid_for(self._in_flight))

    def _take(self, done: Done) -> None:
        """Judges a call that is done."""
        self._batch.append(done)  # before anything else: it is paid for, whatever its outcome is
        if self._due == math.inf:
            self._due = self._now() + self._ledger.commit_seconds
        if isinstance(done.result, Reply):
            self._size += done.result.size
        first = done.outcome or self._outcome(done.call.records[0], done)
        self._firsts.append(first)
        self._context.judged(first, done.result, self._context.budget.spend(first))

    def _is_time(self, item: object) -> bool:
        """Returns whether replies are stored now: there are many, or large ones, or there is nothing else to do."""
        return (
            len(self._batch) >= _COMMIT
            or self._size > LARGE
            or self._now() >= self._due
            or (item is IDLE and not self._control.gauge.in_flight)
        )

    def _settle(self) -> Iterator[Outcome | Idle]:
        """Stores replies, and hands their rows on."""
        is_large = self._size > LARGE
        _store(self._batch, self._ledger)
        self._settled.extend(sorted(zip(self._batch, self._firsts, strict=True), key=_place))
        self._batch, self._firsts, self._size = [], [], 0
        self._due = self._now() + self._ledger.commit_seconds
        while self._settled:
            done, first = self._settled.popleft()
            self._in_flight.remove(done.call)
            yield first
            for record in done.call.records[1:]:
                yield self._outcome(record, done, cached=True)
        if is_large:
            yield IDLE  # whoever still holds the last outcome holds this instead

    def _outcome(self, record: Record, done: Done, *, cached: bool = False) -> Outcome:
        call, outcomes = done.call, self._context.outcomes_of(record)
        return outcomes.of(record, done.result, call.key, call.total_attempts, cached=cached)

    def _keep(self, unfinished: list[Done]) -> None:
        """Stores the replies to rows that have no outcome yet."""
        _store(unfinished, self._ledger)
        outcomes = (self._outcome(done.call.records[0], done) for done in unfinished)
        self._control.gauge.unfinished.extend(outcome.provenance for outcome in outcomes)


def _place(settled: tuple[Done, Outcome]) -> int:
    """Returns the place of a call's first record in the input."""
    return settled[0].call.records[0].index


def _paid_for(in_flight: InFlight, done: Iterable[Done] = ()) -> list[Done]:
    """Returns the replies that a better one was asked for when the run was stopped: they are paid for.

    Calls that are `done` have it, although they have not left `in_flight`.
    """
    ended = {each.call for each in done}
    return [Done(call, reply) for call in in_flight if call not in ended and (reply := paid_reply(call)) is not None]


def _store(done: list[Done], ledger: Ledger) -> None:
    replies = [(each.call.key, each.result) for each in done if isinstance(each.result, Reply)]
    ledger.release([each.call.key for each in done if not isinstance(each.result, Reply)])
    if replies:
        ledger.put(replies)


def _released(
    settled: Iterator[Outcome | Ready | Idle], watermark: Watermark, now: Callable[[], float]
) -> Iterator[Result]:
    """Passes outcomes on, and lets each checkpoint through behind the last one that it covers.

    Where none comes for a while, and behind the last outcome, it makes one.
    """
    told = now()
    for item in settled:
        if isinstance(item, Idle):
            yield item
        for each in () if isinstance(item, Idle) else item if isinstance(item, list) else (item,):
            yield each
            watermark.leave(each.index if isinstance(each, Message) else each.record.index)
            if watermark.holds:
                for checkpoint in watermark.release():
                    told = now()
                    yield checkpoint
            del each
        del item  # and what was in it, as above
        if now() - told >= _CHECKPOINT_SECONDS and (made := watermark.reached()) is not None:
            told = now()
            yield made
    yield from watermark.release()
    if (made := watermark.reached()) is not None:
        yield made
