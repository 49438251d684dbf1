"""The rate that an endpoint admits, learned from refused calls that do not say how long to wait.

Whether an endpoint has a token bucket, a sliding window or a fixed window: between two moments at which nothing was
left, it has admitted what its rate allows. So calls are spread over time at the rate that was admitted from one refusal
to the next. The rate then grows, by little at first, until a call is refused again; if none is, it is soon dropped.
"""

from __future__ import annotations

import math
from typing import Final

FIRST: Final = 50.0
"""Calls per second that are tried before anything is known."""

_BELOW: Final = 0.98  # the part of the measured rate that is used
_CREDIT: Final = 0.01  # seconds by which a call may start late without losing its share
_PAUSE: Final = 4.0  # the most seconds between two probes while nothing is admitted
_LONGER: Final = 0.33  # the part of the last closed time after which the next probe is made
_STEPS: Final = (0.01, 0.5)  # the smallest and largest part by which a rate grows; each step doubles the last one
_FINE: Final = 0.02  # the largest first step from a rate that is known well
_CALM: Final = 8.0  # the most seconds without a refusal before a rate grows
_EXCESS: Final = 2.0  # calls more than before until a rate grows again
_MOST_EXCESS: Final = 512.0
_OVER: Final = 1.1  # how far it grows beyond the rate if the endpoint admits bursts, which take longer to use up
_PATIENCE: Final = 8  # the most times as long until the first step if growing was in vain
_FADES: Final = 0.8  # the part of a closed time that counts after the next one
_RISEN: Final = 1.5  # a rate that has grown so many times has really risen, and this is not a burst
_USED: Final = 0.8  # the part of a rate that must have been used before it may grow
_FORGOTTEN: Final = 4.0  # a rate that has grown so many times is no longer a limit
_VAIN: Final = 4  # falls in a row without growth that show that going slower does not help: the rate is not limited
_MEMORY: Final = 100  # calls after which a measurement counts half
_LOWER: Final = 0.25  # the lowest part of a rate to which few calls can lower it
_PROBES: Final = 8  # calls that establish a rate, and show that the limit is not on concurrency
_LATEST: Final = 1.0  # seconds after which a reserved call counts as started, as others may have seen it refused
SOON: Final = 0.25
"""Seconds after which a call that was not refused counts as admitted, if refusals do not take longer."""


class Suspicion:
    """Tests whether an endpoint limits the rate rather than the number of calls at a time.

    Single calls probe beyond the concurrency that seems to be admitted. If they get in, concurrency is not the limit.

    Args:
        number: The number of the last call that started; numbers order the calls.
        delay: How many seconds the last refusal took.
        others: How many calls were in flight when that call began.

    Attributes:
        delay: How many seconds the last refusal took.
    """

    def __init__(self, now: float, number: float, delay: float, others: int) -> None:
        self.delay = delay
        self._interval = max(1 / FIRST, delay)
        self._next = now + self._interval
        self._lowest = others  # the fewest calls in flight when one was refused
        self._tried: dict[str, tuple[float, int]] = {}  # when probes that were not refused began, among how many others
        self._refused = 0
        self._began, self._last = now, number
        self._admitted = 0  # all calls that were not refused

    def is_due(self, now: float) -> bool:
        """Whether a probe may be made."""
        return now >= self._next

    def started(self, now: float, number: float, others: int, *, is_single: bool) -> None:
        """Records that a call starts while `others` are in flight."""
        self._admitted += 1
        if is_single:
            self._tried[repr(number)] = now, others
            self._next = now + self._interval

    def refused(self, now: float, number: float, others: int) -> None:
        """Records the refusal of a call that began while `others` were in flight."""
        self._admitted -= number > self._last
        self._lowest = min(self._lowest, others)
        tried = self._tried.pop(repr(number), None)
        if tried is not None:
            self._refused += 1
            self.delay = now - tried[0]
            self._interval = min(2 * self._interval, _PAUSE)
            self._next = now + self._interval

    def admitted_rate(self, now: float) -> float | None:
        """Returns the calls admitted per second, if probes get in while more are in flight than at other refusals."""
        soon, more = now - SOON - self.delay, self._lowest + max(1, self._lowest / 8)
        admitted = sum(started < soon and others >= more for started, others in self._tried.values())
        return self._admitted / (now - self._began) if admitted >= _PROBES else None

    def is_unfounded(self) -> bool:
        """Whether more probes were refused than admitted."""
        return self._refused > len(self._tried)


class LearnedRate:
    """The pace of calls to an endpoint that limits the rate. Times are seconds of a monotonic clock.

    Args:
        number: The number of the last call that started; numbers order the calls.
        delay: How many seconds the last refusal took.
        per_second: The initial rate.

    Attributes:
        per_second: Calls per second.
        is_closed: Whether the last call was refused, so that only single calls probe now.
        is_over: Whether the rate is not limited, or not any more.
    """

    def __init__(self, now: float, number: float, delay: float, per_second: float) -> None:
        self.per_second = self._base = self._proven = per_second
        self.is_closed = self.is_over = False
        self._next = now
        self._pause = 0.0
        self._delay = delay
        self._number = self._settled = number  # of the last call, and of the last before the rate was set
        self._single: tuple[float, float] | None = None  # the probe while closed: its number, and when it began
        self._closed = math.inf  # when the first of the last refused calls began
        self._lasted = self._longest = 0.0  # how long nothing was admitted: the last time, and at most
        self._admitted = 0  # calls since then
        self._reserved: list[float] = []  # when further calls may start
        self._calls = self._seconds = self._waited = (
            0.0  # calls admitted, in which time, and the part of it without a try
        )
        self._highest = 0.0  # the highest rate measured
        self._assumed = 5 * per_second  # used instead before there is a measurement
        self._started = 0  # calls since the rate was set
        self._grown = 0  # steps since it fell
        self._fallen = 0  # falls in a row without growth
        self._first = self._step = self._last = _STEPS[1]  # the first step, the next, and the last
        self._excess = _EXCESS
        self._floor = 0.0  # the rate before it grew, while that after the fall may be too high
        self._patience = 1
        self._rest(now)

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        return self._next - now

    def started(self, now: float, number: float) -> None:
        """Records that a call starts."""
        self._admitted += 1
        self._takes(now, number)

    def reserved(self, moment: float) -> None:
        """Reserves a moment for a call to start, which is also its number; no other call starts then."""
        self._count(moment - _LATEST)
        self._reserved.append(moment)
        self._takes(moment, moment)

    def _count(self, until: float) -> None:
        """Counts the calls that have started by now."""
        while self._reserved and self._reserved[0] <= until:
            self._admitted += 1
            del self._reserved[0]

    def _takes(self, now: float, number: float) -> None:
        self._number = number
        self._started += 1
        interval = 1 / self.per_second
        if not self.is_closed:
            self._next = max(self._next, now - _CREDIT) + interval
        elif self._single is None:
            self._single = number, now
            self._next = now + max(interval, min(2 * self._delay, _PAUSE))
        else:  # the probe was not refused
            self.is_closed = False
            self._lasted = self._single[1] - self._closed
            self._longest = max(_FADES * self._longest, self._lasted)
            self._next = now + interval
        if now >= self._grows:
            self._grow(now)

    def refused(self, now: float, number: float, started: float, wait: float | None) -> None:
        """Records that a call was refused; `wait` is the number of seconds that the refusal asks for, if any."""
        self._delay = now - started
        self._count(started)
        self._admitted -= number > self._settled
        if self.is_closed and self._single is not None and number == self._single[0]:
            self._single = None
            self._pause = min(max(self._pause, (now - self._closed) * _LONGER), _PAUSE)
        elif number > self._settled:  # one that began before says nothing about the current rate
            if self._admitted > 0 and started > self._closed:
                self._fall(started - self._closed)
            self.is_closed, self._single = True, None
            self._closed, self._settled, self._admitted = started, self._number, 0
            self._reserved.clear()
            self._pause = 1 / self.per_second
            self._rest(now)
        self._next = max(self._next, now + (self._pause if wait is None else wait))

    def counts(self, number: float) -> bool:
        """Whether a reserved call that has not started may still start: nothing was refused since it was counted."""
        return not self.is_closed or number > self._settled

    def returned(self, number: float) -> None:
        """Records that a call did not start at its reserved moment."""
        if self._single is not None and self._single[0] == number:
            self._single = None

    def _fall(self, seconds: float) -> None:
        """Sets the rate to what was admitted between two refusals, which are `seconds` apart."""
        if (
            self._first <= _FINE and self.per_second > _RISEN * self._base
        ):  # more is admitted than before: earlier measurements no longer count
            self._calls = self._seconds = self._waited = 0.0
            shown = self._proven
        else:
            weight = 0.5 ** (self._admitted / _MEMORY)
            self._calls = self._calls * weight + self._admitted
            self._seconds = self._seconds * weight + seconds
            self._waited = self._waited * weight + self._lasted
            shown = self._calls / self._seconds * _BELOW
            if self._admitted < _PROBES:  # an outage may lie between
                shown = max(shown, self.per_second * _LOWER)
        if self._calls >= _PROBES:
            self._highest = max(self._highest, shown)
        if self._grown:
            if self._first <= _FINE:
                self._patience = min(2 * self._patience, _PATIENCE)
                if self.per_second > _OVER * shown:
                    self._grow_slower()
            shown, doubt, self._floor = max(shown, self._proven), self._last / 4, self._base
        else:
            doubt = max(1 / max(self._calls, 1.0), self._waited / max(self._seconds, seconds) / 2)
            if self._floor:  # what had seemed to be admitted was not
                shown, self._floor = max(shown, self._floor), 0.0
                self._grow_slower()
        self.per_second = self._base = self._proven = min(shown, self.per_second * _BELOW)
        self._first = self._step = min(max(doubt, _STEPS[0]), _STEPS[1])
        self._fallen = 0 if self._grown else self._fallen + bool(self._highest)
        self._grown = 0
        self.is_over = self._fallen >= _VAIN

    def _grow_slower(self) -> None:
        self._excess = min(2 * self._excess, _MOST_EXCESS)

    def _grow(self, now: float) -> None:
        if self._started >= _USED * self.per_second * (now - self._changed):
            self.is_over = self.per_second > _FORGOTTEN * (self._highest or self._assumed)
            self._proven = self.per_second
            self.per_second *= 1 + self._step
            self._last, self._step = self._step, min(2 * self._step, _STEPS[1])
            self._grown += 1
            if self.per_second > _RISEN * self._base:
                self._patience = 1
        self._rest(now)

    def _rest(self, now: float) -> None:
        """Decides when the rate grows next."""
        calm = min(self._excess / (self._step * self.per_second), _CALM)
        calm = max(calm, 4 * self._delay, self._longest / 2 ** max(0, self._grown - 3))
        self._changed, self._started = now, 0
        self._grows = now + calm * (1 if self._grown else self._patience)
