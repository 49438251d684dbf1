"""Batches: calls are gathered into files that the endpoint answers within a day, for half the price.

A file of requests, its batch and its answers are a `Part`, and each of its stages is stored before the next one begins:
whenever a run ends, the same command continues from there. `_dispatch` decides, as for calls, what a reply means and
whether a request is repeated: this engine is another kind of `Workers`.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any, Final, cast

from connector.base.amounts import counted, duration
from connector.base.errors import (
    BadRequestError,
    ConnectorError,
    ReplyError,
    RetryableError,
)
from connector.base.numbers import loads
from connector.base.records import IDLE, Reply
from connector.base.spool import Spool
from connector.calls.batch_api import Batch
from connector.calls.batch_lines import Reader, Storing, unanswered, written
from connector.calls.batch_needs import Needs
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.in_flight import InFlight
from connector.calls.limits import Limits, Ticket
from connector.calls.retry import Backoff
from connector.engines import Control, Done, Engine
from connector.engines._batch_live import LiveCalls
from connector.engines._batch_parts import Ident, Jobs, Part, Stage, ident_of
from connector.engines._batch_stages import Stages
from connector.engines._dispatch import Ended, dispatch
from connector.ledger import Ledger, Url

_LOG = logging.getLogger(__name__)
_TICKET: Final = Ticket()
_WAITING: Final = 5_000_000
_LIVE: Final = 1_000  # waiting live calls at which the judging of answers pauses
_YOUNG: Final = 3600.0  # seconds for which another run may still be working on a part without a batch
_LEFT: Final = (Stage.GATHERING, Stage.JUDGED)


def opened(needs: Needs) -> Engine:
    """Returns the engine; see `connector.engines.load`."""
    return _Batches(needs)


def forget(ledger: Ledger, batch: str) -> bool:
    """Gives up a batch that the endpoint has lost: its rows will be asked for again. Returns whether it was known."""
    return Jobs(ledger, "").forget_batch(batch)


class _Batches:
    """See `connector.engines.Engine`."""

    WAITING = _WAITING

    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    def run(self, items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Generator[Any, None, None]:
        """See `connector.engines.Engine.run`."""
        workers = _BatchWorkers(self._needs, send, control)
        patience = Backoff(control.backoff.max_retries, math.inf, math.inf, base=0.0)
        steered = control._replace(limits=_NoLimits(_WAITING), backoff=patience, breaker=_NoOutage())
        try:
            for item in dispatch(workers.noting(items), workers, steered):
                if isinstance(item, Done):
                    workers.settled(item.call)
                now = control.clock.monotonic()
                yield item
                if item is IDLE:
                    workers.stored(now)
            if workers.has_parts and control.stop.reason is None:  # else answers may be left that there was no time for
                workers.finish()
                control.gauge.in_flight = 0  # so that the consumer stores all of these rows at once
                yield IDLE
                workers.stored(math.inf)
        finally:
            workers.close()


class _NoLimits(Limits):
    """No limits: requests are only gathered, and the provider paces the batch."""

    def room(self, now: float) -> int:
        """Returns how many may be gathered."""
        del now
        return self.most

    def delay(self, now: float) -> float:
        """Returns that nothing has to wait."""
        del now
        return 0.0

    def started(self, now: float, size: int, others: int = 0) -> Ticket:
        """Does nothing."""
        del now, size, others
        return _TICKET

    def answered(self, now: float, ticket: Ticket, size: int, reply: Reply) -> None:
        """Does nothing."""

    def failed(self, now: float, ticket: Ticket, in_flight: int, wait: float, error: RetryableError) -> None:
        """Does nothing."""


class _NoOutage(Breaker):
    """Never opens: lines that fail one after another belong to one batch."""

    def failed(self, error: ConnectorError, started: float, now: float, in_flight: int, *, is_first: bool) -> None:
        """Records that the endpoint was reached."""
        del error, started, now, in_flight, is_first
        self.is_reached = True


class _BatchWorkers:
    """Gathers calls into parts and advances each part; implements `connector.engines._dispatch.Workers`."""

    def __init__(self, needs: Needs, send: Callable[[bytes], Reply], control: Control) -> None:
        self._needs = needs
        self._terms = needs.terms
        self._send = send
        self._control = control
        self._now = control.clock.monotonic
        self._jobs = Jobs(needs.ledger, needs.url, needs.job)
        self._reader = Reader(needs.endpoint, needs.mask, control.clock, needs.most)
        self._calls = control.in_flight or InFlight()
        self._live: LiveCalls | None = None
        self._stages = Stages(needs, control, self._jobs, self._give_up)
        self._parts: list[Part] = self._jobs.parts()
        self._gathering: dict[str, Part] = {}  # by model
        self._asked = Spool()  # requests of earlier runs: the place of the part, by identity
        self._by_place: dict[int, Part] = {}
        self._given_up: set[str] = set()  # the names of parts that have no batch
        self._ended: deque[Ended] = deque()  # calls that need no batch to end
        self._orphans = Storing(needs.ledger)  # replies for rows that this run does not have
        self._has_ended = False  # whether the input has
        self._is_dry = False
        self._last_call = self._now()
        self._refusal: ConnectorError | None = None  # why no more requests may be sent
        self._started: tuple[float, int] | None = None  # when the first answers were seen, and how many
        self.outstanding = 0
        control.gauge.words = self.words
        for part in self._parts:
            self._take_on(part)
        self._inherited()

    # --- What `dispatch` asks for ---

    @property
    def in_flight(self) -> int:
        """See `Workers.in_flight`."""
        return self.outstanding

    @property
    def has_parts(self) -> bool:
        """Whether there are any parts left."""
        return bool(self._parts)

    def noting(self, items: Iterator[Any]) -> Iterator[Any]:
        """Passes on the items, once existing batches are known, and records when the items end."""
        while any(part.stage is Stage.SEARCHING for part in self._parts):
            yield IDLE
        for item in items:
            self._is_dry = item is IDLE
            yield item
            while self._refusal is not None:
                self._is_dry = True
                yield IDLE
        self._has_ended = self._is_dry = True

    def start(self, call: Call) -> bool:
        """See `Workers.start`."""
        self.outstanding += 1
        self._last_call = self._now()
        body = self._needs.fitted(call.body)
        ident = ident_of(call.key, body)
        if (part := self._inherited_by(ident)) is not None:
            if call.key in part.passed:
                self._orphans.flush()
                self._ended.append((call, self._needs.ledger.get([call.key]).known[call.key]))
                return True
            self._park(call, part)
            return False
        is_next = bool(call.attempts or call.revisions)
        if call.parts or (is_next and self._terms.is_live_next):
            self._call_live(call)
            return True
        return self._gather(call, ident, body)

    def next(self, timeout: float) -> Ended | None:
        """See `Workers.next`."""
        if (ended := self._judged()) is not None:
            self.outstanding -= 1
            return ended
        self._advance()
        live = self._live if self._live is not None and self._live.outstanding else None
        while self._stages.wait(0.0 if live else timeout):
            timeout = 0.0
        if live is None:
            return None
        ended = live.next()
        self.outstanding -= live.outstanding if live.has_ended else ended is not None
        live.outstanding *= not live.has_ended
        return ended

    def recall(self) -> list[Call]:
        """See `Workers.recall`: returns none, and waits for no batch. Answers that have arrived are still judged."""
        self._parts += self._gathering.values()  # they are never closed
        self._gathering.clear()
        for part in self._parts:
            if part.stage is not Stage.FETCHED:
                self.outstanding -= part.waiting
                part.waiting = 0
        return []

    # --- What the engine tells ---

    def settled(self, call: Call) -> None:
        """Records that a call is done."""
        for part in map(self._by_place.__getitem__, call.origins):
            part.unsettled -= 1
            part.settled_at = self._now()

    def finish(self) -> None:
        """Records that every call is done: the remaining answers belong to no row."""
        if self._judged() is not None:
            raise AssertionError("only calls that wait have results")

    def stored(self, now: float) -> None:
        """Deletes the parts whose rows all have outcomes, once their replies are stored.

        They are stored when `Ledger.commit_seconds` have passed at an `IDLE` at `now`. A run that ends early stores the
        rest after this engine has ended, and the next run deletes the part.
        """
        if self._control.stop.reason is not None:
            return
        stored_until = now - self._needs.ledger.commit_seconds
        for part in [part for part in self._parts if part.stage is Stage.JUDGED and not part.unsettled]:
            if part.settled_at <= stored_until:
                self._jobs.forget(part)
                self._parts.remove(part)
                self._by_place.pop(part.place, None)

    def close(self) -> None:
        """Ends. Batches go on at the endpoint, and a later run finds them."""
        if self._live is not None:
            self._live.close()
        self._stages.close(self._parts)
        left = [part for part in self._parts if part.stage in (Stage.RUNNING, Stage.FETCHING) and part.batch_id]
        if left:
            names = ", ".join(part.batch_id for part in left[:3]) + (", …" if len(left) > 3 else "")  # noqa: PLR2004 - as shown
            verb = "go on" if len(left) > 1 else "goes on"
            _LOG.warning(
                "%s %s without this run (%s): the same command fetches what they answer; "
                "`openai-compatible batch` lists and cancels them",
                counted(len(left), "batch", "batches"),
                verb,
                names,
            )
        for part in (*self._parts, *self._gathering.values()):
            if not part.is_busy:
                part.drop()
        self._asked.close()
        if self._control.in_flight is None:
            self._calls.close()

    def words(self) -> str:
        """Returns the progress of the batches, for people; empty if there are none."""
        parts = [part for part in self._parts if part.stage is not Stage.JUDGED or part.unsettled]
        made = [part for part in self._parts if part.batch is not None]
        if not parts:
            return ""
        total = sum(part.requests for part in self._parts)
        done = sum(_answered(part) for part in self._parts)
        over = sum(part.batch is not None and part.batch.has_ended for part in self._parts)
        told = f"{over:,} of {counted(len(self._parts), 'batch', 'batches')}: {done:,} of {total:,} requests"
        states = sorted({part.batch.state for part in made if part.batch is not None and not part.batch.has_ended})
        if states and not done:
            told += f" ({', '.join(states)})".replace("_", " ")
        now = self._now()
        if self._started is None and done:
            self._started = now, done
        if self._started is not None and done > self._started[1] and now > self._started[0]:
            rate = (done - self._started[1]) / (now - self._started[0])
            told += f", about {duration((total - done) / rate)} at this rate" if total > done else ""
        return told

    # --- Gathering ---

    def _park(self, call: Call, part: Part) -> None:
        """Parks a call until the answers of a part arrive."""
        self._calls.park(call, part.place)
        self._by_place[part.place] = part
        part.waiting += 1

    def _taken(self, key: bytes, part: Part) -> Call | None:
        """Removes and returns the call of a key if it waits for the answers of this part; else `None`."""
        call = self._calls.take(key, part.place) if part.waiting else None
        part.waiting -= call is not None
        return call

    def _gather(self, call: Call, ident: Ident, body: bytes) -> bool:
        """Adds a call to the part being filled, unless it is too large for any; returns the same as `start`."""
        line = written(call.key, self._terms.path, body)
        model, inputs = _read(body)
        if len(line) > self._terms.max_bytes or inputs > self._terms.max_requests:
            told = f"the request is larger than a batch may be ({len(line):,} bytes): raise batch.max_batch_bytes"
            self._ended.append((call, BadRequestError(told)))
            return True
        part = self._gathering.get(model)
        if part is not None and (
            part.size + len(line) > self._terms.max_bytes or part.inputs + inputs > self._terms.max_requests
        ):
            self._close(model)
            part = None
        if part is None:
            part = self._gathering[model] = Part()
        part.add(ident, line, inputs)
        self._park(call, part)
        if part.inputs >= self._terms.max_requests:
            self._close(model)
        return False

    def _close(self, model: str) -> None:
        """Closes a part, and stores it before anything of it is sent."""
        part = self._gathering[model]
        elsewhere = self._leave_to_others()
        if not part.requests:
            part.drop()
            del self._gathering[model]
            return
        self._refusal = self._refusal or self._needs.admits(part.size, part.requests, elsewhere)
        del self._gathering[model]
        self._parts.append(part)
        if self._refusal is not None:
            return  # it stays as it is
        part.close(self._control.clock.time())
        self._jobs.begin(part)
        part.due = self._now()

    def _leave_to_others(self) -> list[tuple[int, int]]:
        """Leaves requests to the batches of other runs that were created since this run began, if these have them.

        Returns the bytes and requests of other batches of the same job.
        """
        if not isinstance(self._needs.ledger.path, Url):
            return []  # no other run has it
        elsewhere: list[tuple[int, int]] = []
        for other in self._jobs.parts(self._given_up.union(each.name for each in self._parts)):
            asked, taken = set(self._jobs.idents(other)), set[Ident]()
            for part in self._gathering.values():
                if same := asked.intersection(part.idents):
                    asked -= same
                    taken |= same
                    for ident in same:
                        if (call := self._taken(ident.key, part)) is not None:
                            self._park(call, other)
                    part.leave(same)
            if other.waiting:
                other.due = self._now()
                self._parts.append(other)
                self._take_on(other, without=taken)
            elif other.is_of_job:
                elsewhere.append((other.size, other.requests))
        return elsewhere

    def _close_what_is_due(self, now: float) -> None:
        """Closes parts that are not full, once no more requests can be expected for a while."""
        if not self._gathering or not self._is_dry or self._control.stop.reason is not None:
            return
        is_quiet = now - self._last_call >= self._terms.quiet
        more_may_come = (
            self._control.gauge.held
            or self._ended
            or any(part.stage is Stage.FETCHED for part in self._parts)
            or (self._live is not None and self._live.outstanding)
        )
        if (self._has_ended and not more_may_come) or is_quiet:
            for model in list(self._gathering):
                self._close(model)

    # --- Going on ---

    def _take_on(self, part: Part, without: Collection[Ident] = ()) -> None:
        """Records the requests in a part of another run, except those that already wait for it."""
        self._by_place[part.place] = part
        part.requests = 0
        for ident in self._jobs.idents(part):
            part.requests += 1
            if ident not in without:
                self._asked.put(b"".join(ident), part.place)
        if part.stage is not Stage.SEARCHING:
            self._stages.count(part)

    def _inherited_by(self, ident: Ident) -> Part | None:
        """Returns the part of another run that contains a request, once for each time that it does."""
        name = b"".join(ident)
        places = [place for place, _ in self._asked.get(name)]
        if not places:
            return None
        self._asked.take(name, places[0])
        parts = [self._by_place[place] for place in places if place in self._by_place]
        parts = [part for part in parts if part.stage is not Stage.JUDGED]
        for part in parts[1:]:
            self._asked.put(name, part.place)
        return parts[0] if parts else None

    def _inherited(self) -> None:
        """Continues the parts of earlier runs; searches for batches that are not known."""
        now = self._now()
        for part in self._parts:
            part.due = now
        if self._parts:
            self._stages.tell(f"{counted(len(self._parts), 'batch', 'batches')} of an earlier run: going on with them")

    def _advance(self) -> None:
        """Begins whatever is due."""
        now = self._now()
        self._close_what_is_due(now)
        if self._refusal is not None and all(part.stage in _LEFT for part in self._parts):
            self._control.stop.request(self._refusal)
        self._stages.begin(self._parts)

    def _give_up(self, part: Part) -> None:
        """Has the calls of a part gathered again: an earlier run ended before its batch was made."""
        self._given_up.add(part.name)
        self._ended += ((call, unanswered(None, 0)) for _, call in self._left(part))
        is_young = self._control.clock.time() - part.at < _YOUNG
        if is_young and isinstance(self._needs.ledger.path, Url):  # its run may still be about to make it
            self._parts.remove(part)

    # --- Judging ---

    def _judged(self) -> Ended | None:
        """Returns the next call that has a result."""
        if self._ended:
            return self._ended.popleft()
        if not (self._is_dry or self._control.stop.reason is not None):
            return None  # later rows may be waiting for these answers
        if self._live is not None and self._live.outstanding >= _LIVE:
            return None  # calls in memory come first
        for part in self._parts:
            if part.stage is Stage.FETCHED:
                part.results = part.results or self._results(part)
                for ended in part.results:
                    return cast("Ended", ended)
                part.results, part.stage = None, Stage.JUDGED
                part.passed = set()  # later rows are looked up in the ledger first
                part.drop_answers()
        return None

    def _results(self, part: Part) -> Iterator[Ended]:
        """Yields the results in the lines of a part, then the requests for which there is no line.

        Replies for rows that this run does not have are stored at once, as their run has ended.
        """
        batch = part.batch or Batch(part.batch_id, "expired")
        orphans = {ident.key for ident in self._jobs.idents(part)} if part.is_inherited else set()
        strange = 0
        for _, file in part.answers:
            for raw in self._reader.lines(file):
                line = self._reader.read(raw)
                call = None if line is None else self._taken(line.key, part)
                if line is None:
                    strange += 1
                elif call is not None:
                    orphans.discard(line.key)
                    yield self._ended_as(part, call, self._reader.result(line, batch))
                elif line.key in orphans:
                    result = self._reader.result(line, batch)
                    if isinstance(result, Reply):
                        self._orphans.add(line.key, result)
                        part.passed.add(line.key)
        self._orphans.flush()
        if strange:
            _LOG.warning("the batch %s: %s cannot be read", batch.id, counted(strange, "line"))
        for number, call in self._left(part):
            yield self._ended_as(part, call, unanswered(part.batch, number))

    def _left(self, part: Part) -> Iterator[tuple[int, Call]]:
        """Yields the calls that still wait for the answers of a part, with their line numbers, from 1."""
        for number, ident in enumerate(self._jobs.idents(part) if part.waiting else (), 1):
            if (call := self._taken(ident.key, part)) is not None:
                yield number, call
        for key in self._calls.keys_at(part.place) if part.waiting else ():  # another run has deleted the part
            if (call := self._taken(key, part)) is not None:
                yield 0, call

    def _ended_as(self, part: Part, call: Call, result: Reply | ConnectorError) -> Ended:
        if part.is_late and isinstance(result, RetryableError) and not self._terms.is_live_next:
            told = f"the batch {part.batch_id} took longer than batch.max_wait"
            result = ReplyError(f"{told}: run the same command again, or set batch.fallback to live")
        part.unsettled += 1
        call.origins = (*call.origins, part.place)
        return call, result

    def _call_live(self, call: Call) -> None:
        self._live = self._live or LiveCalls(self._send, self._control)
        self._live.add(call)


def _answered(part: Part) -> int:
    """Returns how many requests of a part the endpoint has answered."""
    if part.batch is None:
        return 0
    counts = part.batch.completed + part.batch.failed
    return min(part.requests, part.requests if part.batch.has_ended else counts)


def _read(body: bytes) -> tuple[str, int]:
    """Returns the model of a request and its number of texts, since one for embeddings may have a list."""
    request = loads(body)
    if not isinstance(request, dict):
        return "", 1
    given = request.get("input")
    texts = len(given) if isinstance(given, list) and given and not isinstance(given[0], dict) else 1
    return str(request.get("model")), texts
