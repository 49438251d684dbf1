"""The deciding thread's part of an engine: when each call starts, and what its result means.

Workers only make calls. A call to be retried goes back to a heap until it is due, so it occupies no worker while it
waits, and a slow call delays no other.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import count
from typing import Any, Final, Protocol

from connector.base.errors import ConnectorError, FatalError, NotFoundError, PermissionDeniedError, RetryableError
from connector.base.records import IDLE, Reply
from connector.calls.call import Call
from connector.engines import Control, Done

_TICK: Final = 0.05  # seconds without a result after which `IDLE` releases whatever is ready downstream
_SOON: Final = 0.0005  # the shortest wait, in seconds
_AHEAD: Final = 64  # calls queued for workers beyond those in flight, so that no worker waits for the deciding thread
_FEW_AHEAD: Final = 16  # of calls that many rows share, as their large replies wait in memory

Ended = tuple[Call, Reply | BaseException | None]
"""An ended call and its result; `None` if the run was stopped before it began."""


class Workers(Protocol):
    """The workers that make the calls. All methods are called from the deciding thread."""

    outstanding: int
    """Calls given to them and not yet taken back."""

    @property
    def in_flight(self) -> int:
        """Outstanding calls that have begun."""

    def start(self, call: Call) -> bool:
        """Queues a call. The oldest begins as soon as a worker is free, and its `started` says when.

        Returns whether the call stays in memory; one that does not comes back as another object.
        """

    def next(self, timeout: float) -> Ended | None:
        """Returns a call that has ended; `None` if none ends within `timeout` seconds.

        The one that was returned before has been handed on, and nothing holds it any more.
        """

    def recall(self) -> list[Call]:
        """Takes back the calls that have not begun, and returns them."""


def dispatch(items: Iterator[Any], workers: Workers, control: Control) -> Iterator[Any]:
    """Implements `connector.engines.Engine.run`: makes every decision, and leaves the calls to `workers`."""
    return _Loop(items, workers, control).run()


class _Loop:
    """The state of the deciding thread: calls that wait for a retry, and failed ones that may be due to an outage."""

    def __init__(self, items: Iterator[Any], workers: Workers, control: Control) -> None:
        self._items = items
        self._workers = workers
        self._control = control
        self._given: dict[Call, None] = {}  # the calls that workers have, oldest first
        self._held: list[tuple[float, int, Call]] = []  # a heap by due time
        control.gauge.given, control.gauge.held = self._given, self._held
        self._ready: list[
            tuple[int, int, Call]
        ] = []  # a heap of due calls; those that have failed most often come first
        self._order = count()
        self._doomed: list[tuple[Call, ConnectorError]] = []
        self._try: Call | None = None  # the single call in flight while an outage is suspected
        self._has_ended = False
        self._is_dry = False
        self._is_slow = False  # the input took longer than a tick: finished calls go first
        self._ahead = _AHEAD

    def run(self) -> Iterator[Any]:
        workers, stop, clock = self._workers, self._control.stop, self._control.clock.monotonic
        ends, looked = math.inf, clock()
        quiet = looked + _TICK
        while True:
            now = clock()
            if stop.reason is not None:
                for call in workers.recall():
                    del self._given[call]
                ends = min(ends, now + self._control.grace)
                if not workers.outstanding or now >= ends:
                    return
            else:
                while not self._is_slow and self._has_room(now) and (item := self._next(now)) is not None:
                    now = clock()
                    self._is_slow = now - looked > _TICK
                    if isinstance(item, Call):
                        self._begin(item, now)
                        continue
                    yield item
                    now = clock()
                    if item is IDLE or stop.reason is not None:
                        break
                    del item  # it may hold much, while the next one is looked up
                if self._is_dry and not (self._held or self._ready or workers.outstanding):
                    if self._end_of_the_missed():
                        continue
                    yield from self._released()
                    if self._has_ended and not self._held:
                        return
            result = workers.next(_SOON if self._is_slow else self._patience(now))
            now = looked = clock()
            self._control.gauge.in_flight = workers.in_flight
            if result is not None:
                quiet = now + _TICK
                done = self._judged(*result, now)
                del result  # it may hold much, while the next one is waited for
                if done is not None:
                    yield from self._released()
                    yield from done
                del done
            elif self._is_slow or now >= quiet:
                quiet, self._is_slow = now + _TICK, False
                self._expire(now)
                if self._control.breaker.was_answered and not self._control.breaker.is_open:
                    yield from self._released()
                yield IDLE

    def _has_room(self, now: float) -> bool:
        breaker, limits = self._control.breaker, self._control.limits
        if breaker.is_open:
            return self._try is None and now >= breaker.try_at
        return self._workers.outstanding < self._room(now) and limits.delay(now) <= 0

    def _room(self, now: float) -> int:
        """Returns how many calls the workers may have: none in advance if these might not have to be made."""
        control, limits = self._control, self._control.limits
        room = limits.room(now)
        is_free = control.breaker.is_reached and control.is_proven() and room == limits.most and not limits.is_paced
        return room + (self._ahead if is_free else 0)

    def _next(self, now: float) -> Any:
        """Returns a call that is due for a retry, or else the next item; `None` if there is neither.

        In a suspected outage a call that has not failed yet comes first, the one with the fewest rows, since only such
        a call shows whether the outage is over.
        """
        while self._held and self._held[0][0] <= now:
            call = heapq.heappop(self._held)[2]
            heapq.heappush(self._ready, (-call.attempts, next(self._order), call))
        if self._control.limits.is_closed:
            return self._fresh() or self._again(least=True)  # another refusal would not be the row's fault
        if not self._control.breaker.is_open:
            return self._again() or self._fresh()
        fresh = (entry for entry in self._ready if entry[2].is_untried)
        untried = min(fresh, key=lambda entry: len(entry[2].parts), default=None)
        if untried is None:
            item = self._fresh()
            return item if item is not None and item is not IDLE else self._again() or item
        self._ready.remove(untried)
        heapq.heapify(self._ready)
        return untried[2]

    def _again(self, *, least: bool = False) -> Call | None:
        """Returns a call that is due for a retry: the one that has failed most often, or least often."""
        now = self._control.clock.monotonic()
        while self._ready:
            entry = max(self._ready) if least else self._ready[0]
            self._ready.remove(entry)
            heapq.heapify(self._ready)
            if not self._gave_up(entry[2], now):
                return entry[2]
        return None

    def _gave_up(self, call: Call, now: float) -> bool:
        """Returns whether a call that is due for a retry is given up because its row is out of time."""
        if call.error is None or now - call.first_started <= self._control.backoff.max_elapsed:
            return False
        self._doomed.append((call, self._too_late(call.error)))
        return True

    def _too_late(self, error: ConnectorError) -> ConnectorError:
        """Returns the error of a row that is out of time although it has retries left."""
        told = copy(error)
        told.message += f": not tried again, as max_row_seconds = {self._control.backoff.max_elapsed:g} leaves no time"
        return told

    def _expire(self, now: float) -> None:
        """Fails the rows that ran out of time while their calls could not start."""
        self._ready = [entry for entry in self._ready if not self._gave_up(entry[2], now)]
        heapq.heapify(self._ready)
        self._held = self._control.gauge.held = [entry for entry in self._held if not self._gave_up(entry[2], now)]
        heapq.heapify(self._held)

    def _fresh(self) -> Any:
        """Returns the next item, unless too many calls are already waiting."""
        if self._has_ended or len(self._held) > 2 * self._control.limits.most:
            return None
        try:
            item = next(self._items, None)
        except Exception as error:  # noqa: BLE001 - calls in flight are paid for, so they finish before this is raised
            self._control.stop.request(error)
            return None
        self._has_ended = item is None
        self._is_dry = item is None or item is IDLE
        return item

    def _begin(self, call: Call, now: float) -> None:
        call.first_started = call.first_started or now
        call.ticket = self._control.limits.started(now, len(call.body), len(self._given))
        if self._control.breaker.is_open:
            self._try = call
        call.started = None
        self._ahead = _FEW_AHEAD if call.parts else _AHEAD
        self._given[call] = None
        if not self._workers.start(call):
            del self._given[call]

    def _patience(self, now: float) -> float:
        """Returns how many seconds to wait for a result: until a call may start, or for a tick."""
        limits, breaker = self._control.limits, self._control.breaker
        if breaker.is_open:
            wait = breaker.try_at - now
        elif self._workers.outstanding >= self._room(now):
            return _TICK
        else:
            wait = limits.delay(now)
        if wait <= 0:
            wait = self._held[0][0] - now if self._held else _TICK
        return max(_SOON, min(wait, _TICK))

    def _judged(self, call: Call, result: Reply | BaseException | None, now: float) -> Sequence[Done] | None:
        """Returns the calls that are done with a result; `None` if the call is retried or the run has to end."""
        control = self._control
        started = now if call.started is None else call.started
        self._given.pop(call, None)
        if call is self._try:
            self._try = None
        if result is None:
            return None
        sends = result.attempts if isinstance(result, Reply) else getattr(result, "sends", 1)
        is_first = not call.total_attempts
        call.attempts += 1
        call.other_attempts += sends - 1
        control.gauge.calls += sends
        control.gauge.retries += sends - 1 + (call.attempts > 1)
        if isinstance(result, Reply):
            control.breaker.answered()
            control.limits.answered(now, call.ticket, len(call.body), result)
            self._recall(now)
            attempts = call.total_attempts
            return self._resolved(call, result if attempts == sends else result._replace(attempts=attempts), now)
        if isinstance(result, RetryableError):
            self._failed(call, started, result, now, is_first=is_first)
            return None
        if isinstance(result, NotFoundError | PermissionDeniedError):
            return self._missed(call, started, result, now)
        if not isinstance(result, ConnectorError) or isinstance(result, FatalError):
            control.stop.request(result)
            return None
        control.breaker.answered()
        return self._resolved(call, result, now)

    def _missed(
        self, call: Call, started: float, error: NotFoundError | PermissionDeniedError, now: float
    ) -> Sequence[Done] | None:
        """Decides whether a 404 or 403 fails this row or ends the run; `None` while that is unknown.

        Once any row has been answered, it is the row's own failure. Before that, the row waits.
        """
        control = self._control
        if control.breaker.is_open:
            in_flight, is_first = self._workers.in_flight, call.total_attempts == 1
            outage = control.breaker.failed(error, started, now, in_flight, is_first=is_first)
            if outage is not None:
                control.stop.request(outage)
            self._tried(call, error, now + control.backoff.base)
            return None
        if control.breaker.missed(error):
            control.stop.request(error)
            return None
        if control.breaker.was_answered:
            return self._resolved(call, error, now)
        self._doomed.append((call, error))
        return None

    def _end_of_the_missed(self) -> bool:
        """Ends a run in which nothing was answered and some calls got a 403 or 404. Returns whether it did so."""
        if self._control.breaker.was_answered:
            return False
        missed = (error for _, error in self._doomed if isinstance(error, FatalError))
        error = next(missed, None)
        if error is not None:
            self._control.stop.request(error)
        return error is not None

    def _resolved(self, call: Call, result: Reply | ConnectorError, now: float) -> Sequence[Done]:
        resolution = self._control.resolve(call, result)
        for each in resolution.again:
            self._hold(each, now)
        return resolution.done

    def _failed(self, call: Call, started: float, error: RetryableError, now: float, *, is_first: bool) -> None:
        """Holds a failed call until it is due for a retry, even without retries left: in an outage, rows do not fail.

        A call that was sent may have been carried out, so it is sent again only as often as the user allows.
        """
        control, in_flight = self._control, self._workers.in_flight
        wait = control.backoff.wait(error, call.attempts, now - call.first_started, control.clock.random)
        pause = control.backoff.base if wait is None else wait
        control.gauge.rate_notice.failed(error, control.clock.time())
        control.limits.failed(now, call.ticket, in_flight, pause, error)
        is_seen = error.is_connected or error.was_closed or control.breaker.is_reached
        others = control.otherwise(call, error) if is_seen and (call.attempts > 1 or control.breaker.is_open) else ()
        for each in others:
            self._hold(each, now)
        if not others:
            outage = control.breaker.failed(error, started, now, in_flight, is_first=is_first)
            if outage is not None:
                control.stop.request(outage)
            elif wait is None and (error.was_closed or control.breaker.is_reached):
                has_retries = call.attempts <= control.backoff.max_retries
                is_late = has_retries and (error.wait or 0.0) <= control.backoff.max_wait
                self._doomed.append((call, self._too_late(error) if is_late else error))
            else:
                self._tried(call, error, now + pause)
        self._recall(now)

    def _tried(self, call: Call, error: ConnectorError, due: float) -> None:
        """Holds a call that failed in its current form until it is due."""
        call.is_untried, call.error = False, error
        self._hold(call, due)

    def _recall(self, now: float) -> None:
        """Takes back queued calls if they must not begin now."""
        limits = self._control.limits
        if self._control.breaker.is_open or limits.concurrency < limits.most or limits.delay(now) > 0:
            for call in self._workers.recall():
                del self._given[call]
                if call is self._try:
                    self._try = None
                self._hold(call, now)

    def _hold(self, call: Call, due: float) -> None:
        heapq.heappush(self._held, (due, next(self._order), call))

    def _released(self) -> Iterator[Done]:
        """Yields the calls that have failed for good: another one was answered since, or nothing is left to try."""
        doomed, self._doomed = self._doomed, []
        now = self._control.clock.monotonic()
        for call, error in doomed:
            yield from self._resolved(call, error, now)
