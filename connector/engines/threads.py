"""Threads over one shared transport: the default engine.

The thread that iterates decides, the workers call. A call that has to be tried again goes back to a heap until it is
due, so it takes no worker while it waits, and a slow one delays no other.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final

from connector.engines import Call, Control, Done
from connector.errors import ConnectorError, FatalError, RetryableError
from connector.records import IDLE, Reply

_TICK: Final = 0.05  # seconds without news after which whatever is ready downstream is let go
_AHEAD: Final = 64  # calls that may lie ready beyond those in flight, so that no worker waits for the deciding thread

_Result = tuple[Call, float, "Reply | BaseException"]


def run(items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Iterator[Any]:
    """See `connector.engines.Engine.run`."""
    workers = _Workers(send, control)
    try:
        yield from _Loop(items, workers, control).run()
    finally:
        workers.close()


class _Workers:
    """Plain daemon threads on one queue, started as they are needed."""

    def __init__(self, send: Callable[[bytes], Reply], control: Control) -> None:
        self._send = send
        self._now = control.clock.monotonic
        self._todo: SimpleQueue[Call | None] = SimpleQueue()
        self._done: SimpleQueue[_Result] = SimpleQueue()
        self._most = control.limits.concurrency
        self._threads = 0
        self.outstanding = 0

    def start(self, call: Call) -> None:
        self.outstanding += 1
        if self._threads < self._most and self._threads < self.outstanding:
            self._threads += 1
            threading.Thread(target=self._work, name=f"call-{self._threads}", daemon=True).start()
        self._todo.put(call)

    def finished(self, timeout: float) -> Iterator[_Result]:
        """Yields what is finished: waits up to `timeout` seconds for the first, and takes the others that are there."""
        try:
            result = self._done.get(timeout=max(0.0, timeout))
            while True:
                self.outstanding -= 1
                yield result
                result = self._done.get_nowait()
        except Empty:
            return

    def close(self) -> None:
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        get, put, send, now = self._todo.get, self._done.put, self._send, self._now
        while (call := get()) is not None:
            started = now()
            try:
                put((call, started, send(call.body)))
            except BaseException as error:  # noqa: BLE001 - it is raised again in the deciding thread
                put((call, started, error))


class _Loop:
    """The deciding thread's state: what waits to be tried again, and whether the items have ended."""

    def __init__(self, items: Iterator[Any], workers: _Workers, control: Control) -> None:
        self._items = items
        self._workers = workers
        self._control = control
        self._held: list[tuple[float, int, Call]] = []
        self._order = count()
        self._probe_at = 0.0
        self._has_ended = False

    def run(self) -> Iterator[Any]:
        control, workers = self._control, self._workers
        stopped_at: float | None = None
        while True:
            stopping = control.stop.reason is not None
            if not stopping:
                yield from self._start()
            elif stopped_at is None:
                stopped_at = control.clock.monotonic()
            if not workers.outstanding and (stopping or (self._has_ended and not self._held)):
                break
            if stopped_at is not None and control.clock.monotonic() - stopped_at > control.grace:
                break
            news = False
            for call, started, result in workers.finished(self._patience()):
                news = True
                done = self._judged(call, started, result)
                if done is not None:
                    yield done
            if not news:
                yield IDLE

    def _start(self) -> Iterator[Any]:
        """Starts calls while there is room, and passes on what is not a call."""
        while True:
            now = self._control.clock.monotonic()
            if not self._has_room(now):
                return
            call = self._due(now)
            if call is None:
                if self._has_ended or len(self._held) > 2 * self._control.limits.most:
                    return
                item = next(self._items, None)
                if item is None:
                    self._has_ended = True
                    return
                if not isinstance(item, Call):
                    yield item
                    if item is IDLE or self._control.stop.reason is not None:
                        return
                    continue
                call = item
                call.first = now
            call.attempts += 1
            gauge = self._control.gauge
            gauge.calls += 1
            gauge.retries += call.attempts > 1
            gauge.in_flight = min(self._workers.outstanding + 1, self._control.limits.concurrency)
            call.estimate = self._control.limits.started(now, len(call.body))
            self._workers.start(call)

    def _has_room(self, now: float) -> bool:
        limits, outstanding = self._control.limits, self._workers.outstanding
        if self._control.breaker.is_open:
            return outstanding == 0 and now >= self._probe_at
        ahead = 0 if limits.is_paced or limits.is_reduced else min(_AHEAD, limits.most)
        return outstanding < limits.concurrency + ahead and limits.delay(now) <= 0

    def _due(self, now: float) -> Call | None:
        probing = self._control.breaker.is_open
        if self._held and (self._held[0][0] <= now or probing):
            return heapq.heappop(self._held)[2]
        return None

    def _patience(self) -> float:
        """Seconds to wait for news at the most: until something may be started, or a tick has passed."""
        if self._control.stop.reason is not None:
            return _TICK
        now = self._control.clock.monotonic()
        waits = [_TICK]
        if self._held:
            waits.append(self._held[0][0] - now)
        pace = self._control.limits.delay(now)
        if pace > 0:
            waits.append(pace)
        return max(0.0005, min(waits))

    def _judged(self, call: Call, started: float, result: Reply | BaseException) -> Done | None:
        """Decides what a result means; `None` where the call is tried again, or the run is to end."""
        control = self._control
        now = control.clock.monotonic()
        if isinstance(result, Reply):
            control.breaker.answered()
            usage = result.body.get("usage")
            tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
            control.limits.ended(now, started, len(call.body), call.estimate, tokens if type(tokens) is int else None)
            control.limits.learn(now, result.headers)
            return Done(call, result._replace(attempts=call.attempts))
        if isinstance(result, RetryableError):
            return self._tried_again(call, started, result, now)
        if not isinstance(result, ConnectorError) or isinstance(result, FatalError):
            control.stop.request(result)
            return None
        return Done(call, result)

    def _tried_again(self, call: Call, started: float, error: RetryableError, now: float) -> Done | None:
        control = self._control
        control.limits.failed(now, started, error)
        wait = control.backoff.wait(error, call.attempts, now - call.first, control.clock.random)
        outage = control.breaker.failed(error, started, now)
        if outage is not None:
            control.stop.request(outage)
            return None
        if control.breaker.is_open:
            self._probe_at = now + (wait or control.backoff.base)
        if wait is None:
            return Done(call, error)
        heapq.heappush(self._held, (now + wait, next(self._order), call))
        return None
