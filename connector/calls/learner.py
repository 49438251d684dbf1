"""What refused calls show about an endpoint: how many calls it admits at a time, or how many per second.

Nothing here waits or reads a clock. The state can be serialized, so that several runs learn together: see
`connector.calls.shared_learner`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self, TypeVar

from connector.calls.adaptive import Adaptive
from connector.calls.learned_rate import FIRST, SOON, LearnedRate, Suspicion

T = TypeVar("T")


class Begun(NamedTuple):
    """The circumstances in which a call began.

    Attributes:
        epoch: The epoch of the concurrency limit at that time.
        number: Orders the calls by their start.
        started: When it started, in seconds.
        others: How many calls were in flight.
        is_tried: Whether it was a probe beyond the concurrency that seems to be admitted.
    """

    epoch: int = 0
    number: float = 0
    started: float = -math.inf
    others: int = 0
    is_tried: bool = False


class Learner:
    """What is known about an endpoint's limits. Times are seconds of one clock.

    Args:
        most: The most calls in flight.

    Attributes:
        number: The number of the last call that has started.
        rate: The pace of calls, if the endpoint limits the rate.
        paused_until: Until when the endpoint has asked all calls to wait.
        paused_by: The reason for that, for people.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._adaptive = Adaptive(most)
        self.number = 0.0
        self._admitted = 0
        self._first = math.nan  # when the first one started
        self._suspicion: Suspicion | None = None
        self.rate: LearnedRate | None = None
        self.paused_until = -math.inf
        self.paused_by = ""

    @property
    def limit(self) -> int:
        """How many calls seem to be admitted at a time."""
        return self._adaptive.limit

    @property
    def is_limited(self) -> bool:
        """Whether fewer calls seem to be admitted than the configured maximum."""
        return self._adaptive.limit < self._most

    @property
    def is_closed(self) -> bool:
        """Whether calls are likely to be refused at the moment, whichever row they are for."""
        return self._suspicion is not None or (self.rate is not None and self.rate.is_closed)

    @property
    def is_refusing(self) -> bool:
        """Whether calls are refused one after another."""
        return self._adaptive.is_refusing

    def may_try(self, now: float) -> bool:
        """Whether a single call may probe beyond the concurrency that seems to be admitted."""
        return self._suspicion is not None and self._suspicion.is_due(now)

    def room(self, now: float) -> int:
        """Returns how many calls may be in flight now."""
        return self._most if self.may_try(now) else self._adaptive.limit

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        pause = self.pause_left(now)
        return pause if self.rate is None else max(pause, self.rate.delay(now))

    def started(self, now: float, others: int) -> Begun:
        """Records that the next call starts while `others` are in flight."""
        is_tried = self._suspicion is not None and others >= self._adaptive.limit
        return self.begun(Begun(self._adaptive.epoch, self.number + 1, now, others, is_tried))

    def begun(self, call: Begun) -> Begun:
        """Records a call that has started, and returns it."""
        now = call.started
        if math.isnan(self._first):
            self._first = now
        self.number = max(self.number, call.number)
        if self.rate is not None:
            self.rate.started(now, call.number)
            self._end_the_rate()
        elif self._suspicion is not None:
            self._suspicion.started(now, call.number, call.others, is_single=call.is_tried)
            rate = self._suspicion.admitted_rate(now) if call.is_tried else None
            if rate is not None:
                self._adopt(LearnedRate(now, self.number, self._suspicion.delay, rate))
        return call

    def answered(self) -> None:
        """Records a call that was admitted and has ended."""
        self._admitted += 1
        if self._adaptive.answered() and self._suspicion is not None and self._suspicion.is_unfounded():
            self._suspicion = None

    def timed_out(self) -> None:
        """Records a call that timed out."""
        self._adaptive.timed_out()

    def refused(self, now: float, call: Begun, in_flight: int, wait: float | None) -> None:
        """Records a refused call and finds out what is limited: concurrency, or if that does not explain it, the rate.

        Args:
            in_flight: Calls that were not refused.
            wait: The seconds that the endpoint asks to wait, if it says so.
        """
        if self._suspicion is not None:
            self._suspicion.refused(now, call.number, call.others)
        if self.rate is not None:
            self.rate.refused(now, call.number, call.started, wait)
            self._end_the_rate()
        elif call.is_tried:
            pass
        elif self._adaptive.refused(call.epoch, in_flight):
            if self._admitted:
                average = self._admitted / max(now - self._first, 1.0)
                self._adopt(LearnedRate(now, self.number, now - call.started, max(average, FIRST)))
                self.refused(now, call, in_flight, wait)
        elif self._suspicion is None and self._adaptive.is_hot and now - call.started <= SOON:
            self._suspicion = Suspicion(now, self.number, now - call.started, call.others)

    def pause_left(self, now: float) -> float:
        """Returns for how many more seconds all calls have to wait, as the endpoint asked; zero or less for none."""
        return self.paused_until - now

    def pause(self, until: float, reason: str) -> None:
        """Makes all calls wait until a time."""
        if until > self.paused_until:
            self.paused_until, self.paused_by = until, reason

    def resize(self, most: int) -> None:
        """Changes the most calls in flight; what was learned stays."""
        self._most = self._adaptive.resize(most)

    @property
    def epoch(self) -> int:
        """The number of changes of the limit."""
        return self._adaptive.epoch

    def written(self) -> dict[str, Any]:
        """Returns the whole state as JSON values."""
        parts = {"_adaptive": self._adaptive, "_suspicion": self._suspicion, "rate": self.rate}
        return vars(self) | {name: None if part is None else vars(part) for name, part in parts.items()}

    @classmethod
    def read(cls, written: dict[str, Any]) -> Self:
        """Restores a state that `written` has returned.

        Raises:
            ValueError: It was written by another version of this program.
        """
        learner = cls(1)
        rest = written | {
            "_adaptive": _read(Adaptive(1), written.get("_adaptive")),
            "_suspicion": _read(Suspicion(0.0, 0, 1.0, 0), written.get("_suspicion")),
            "rate": _read(LearnedRate(0.0, 0, 1.0, 1.0), written.get("rate")),
        }
        return _read(learner, rest) or learner

    def _adopt(self, rate: LearnedRate) -> None:
        """Limits the rate instead of the concurrency from now on."""
        self.rate, self._suspicion = rate, None
        self._adaptive = Adaptive(self._most)

    def _end_the_rate(self) -> None:
        if self.rate is not None and self.rate.is_over:
            self.rate = None


def _read(thing: T, written: dict[str, Any] | None) -> T | None:
    """Restores an object's attributes from its written form."""
    if written is None:
        return None
    if not isinstance(written, dict) or written.keys() != vars(thing).keys():
        raise ValueError("written by another version")
    vars(thing).update(written)
    return thing
