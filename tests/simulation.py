"""Runs the engine's decisions against a simulated endpoint, in virtual time: an hour in a second, always the same way.

Everything that decides is the real thing; only the clock, the workers and the endpoint are simulated.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

from connector.base.clock import Clock
from connector.base.errors import APIConnectionError, ConnectorError, RateLimitError
from connector.base.records import Record, Reply
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.engines import Control, Done, Gauge
from connector.engines._dispatch import Ended, dispatch

Ending = tuple[float, Reply | BaseException]
"""How many seconds a call takes, and how it ends."""

Endpoint = Callable[[float, bytes], Ending]
"""Is called when a request arrives: with the time and its body."""


class Time:
    """A clock that is moved by hand, and chance that is always the same."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.clock = Clock(monotonic=lambda: self.now, time=lambda: self.now, random=Random(seed).random)


class Workers:
    """As many workers as an engine may have; each call takes as long as the endpoint says."""

    def __init__(self, most: int, time: Time, endpoint: Endpoint) -> None:
        self._most = most
        self._time = time
        self._endpoint = endpoint
        self._todo: deque[Call] = deque()
        self._begun: list[tuple[float, int, Ended]] = []
        self._order = count()
        self.outstanding = 0
        self.log: list[tuple[float, int, Call, Reply | BaseException]] = []

    @property
    def in_flight(self) -> int:
        return len(self._begun)

    def start(self, call: Call) -> bool:
        self.outstanding += 1
        self._todo.append(call)
        self._begin()
        return True

    def next(self, timeout: float) -> Ended | None:
        if not self._begun or self._begun[0][0] > self._time.now + timeout:
            self._time.now += timeout
            return None
        self._time.now, _, result = heapq.heappop(self._begun)
        self.outstanding -= 1
        self._begin()
        return result

    def recall(self) -> list[Call]:
        calls = list(self._todo)
        self._todo.clear()
        self.outstanding -= len(calls)
        return calls

    def _begin(self) -> None:
        while self._todo and len(self._begun) < self._most:
            call, now = self._todo.popleft(), self._time.now
            seconds, ending = self._endpoint(now, call.body)
            call.started = now
            heapq.heappush(self._begun, (now + seconds, next(self._order), (call, ending)))
            self.log.append((now, len(self._begun), call, ending))


class Sent(NamedTuple):
    """A call that reached the endpoint: when, with how many others open, for which row, and how it ended."""

    time: float
    in_flight: int
    row: int
    ending: Reply | BaseException

    @property
    def is_refused(self) -> bool:
        return isinstance(self.ending, RateLimitError)


class Run(NamedTuple):
    """What became of a simulated run."""

    done: list[tuple[float, Done]]
    sent: list[Sent]
    stop: Stop
    seconds: float

    @property
    def failed(self) -> list[ConnectorError]:
        return [done.result for _, done in self.done if isinstance(done.result, ConnectorError)]


def run(
    rows: int,
    endpoint: Endpoint,
    *,
    concurrency: int,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    backoff: Backoff | None = None,
    body: Callable[[int], bytes] = lambda _: b"x" * 100,
    time: Time | None = None,
    watch: Callable[[Control], None] = lambda _: None,
) -> Run:
    """Sends so many rows through the engine's decisions; `watch` is called whenever anything comes out of them."""
    time = time or Time()
    limits = Limits(concurrency, requests_per_minute, tokens_per_minute)
    control = Control(limits, backoff or Backoff(), Breaker(), Stop(), Gauge(), time.clock)
    workers = Workers(concurrency, time, endpoint)
    items: Iterator[Any] = (Call(b"%d" % row, body(row), [Record(row, {})]) for row in range(rows))
    began = time.now
    done: list[tuple[float, Done]] = []
    for item in dispatch(items, workers, control):
        watch(control)
        if isinstance(item, Done):
            done.append((time.now - began, item))
    sent = [Sent(at - began, open_, call.records[0].index, ending) for at, open_, call, ending in workers.log]
    return Run(done, sent, control.stop, time.now - began)


def answers(seconds: float | Callable[[], float] = 0.2, reply: Reply | None = None) -> Endpoint:
    """Answers every call."""
    took = seconds if callable(seconds) else lambda: seconds
    answer = reply or Reply(200, {}, {})
    return lambda _now, _body: (took(), answer)


def admits(
    most: Callable[[float], int], endpoint: Endpoint, *, wait: float | None = None, refusal: float = 0.0
) -> Endpoint:
    """Answers as `endpoint` does, but turns a call away with 429 while `most(now)` others are open."""
    open_until: list[float] = []

    def arrive(now: float, body: bytes) -> Ending:
        while open_until and open_until[0] <= now:
            heapq.heappop(open_until)
        if len(open_until) >= most(now):
            return refusal, RateLimitError("slow down", http_status=429, wait=wait)
        seconds, ending = endpoint(now, body)
        heapq.heappush(open_until, now + seconds)
        return seconds, ending

    return arrive


def refills(per_minute: float, burst: float, endpoint: Endpoint, *, tells: bool) -> Endpoint:
    """Answers as `endpoint` does, but no more than a bucket holds, which is filled evenly; else 429."""
    level, filled = burst, float("-inf")

    def arrive(now: float, body: bytes) -> Ending:
        nonlocal level, filled
        level, filled = min(burst, level + (now - filled) * per_minute / 60), now
        if level >= 1:
            level -= 1
            return endpoint(now, body)
        wait = (1 - level) * 60 / per_minute if tells else None
        return 0.0, RateLimitError("slow down", http_status=429, wait=wait)

    return arrive


def window(
    calls: int, seconds: float, endpoint: Endpoint, *, slides: bool, began: float = 0.0, refusal: float = 0.005
) -> Endpoint:
    """Answers as `endpoint` does, but no more than so many calls in a window of time, which slides or begins anew."""
    admitted: deque[float] = deque()

    def arrive(now: float, body: bytes) -> Ending:
        begin = now - seconds if slides else now - (now - began) % seconds
        while admitted and (admitted[0] <= begin if slides else admitted[0] < begin):
            admitted.popleft()
        if len(admitted) >= calls:
            return refusal, RateLimitError("slow down", http_status=429)
        admitted.append(now)
        return endpoint(now, body)

    return arrive


def down(
    during: Iterable[tuple[float, float]], endpoint: Endpoint, *, error: ConnectorError | None = None, took: float = 0.0
) -> Endpoint:
    """Answers as `endpoint` does, but fails in the given spans of seconds since the first call."""
    spans = list(during)
    first: list[float] = []

    def arrive(now: float, body: bytes) -> Ending:
        first.append(now)
        if any(begin <= now - first[0] < end for begin, end in spans):
            return took, error or APIConnectionError("connection refused")
        return endpoint(now, body)

    return arrive


def busiest_minute(marks: Iterable[tuple[float, float]]) -> float:
    """The most units that any window of 60 seconds holds, given when how many were used."""
    window: deque[tuple[float, float]] = deque()
    total = most = 0.0
    for at, units in sorted(marks):
        window.append((at, units))
        total += units
        while window[0][0] <= at - 60:
            total -= window.popleft()[1]
        most = max(most, total)
    return most
