"""What several runs learn about one endpoint together, and how they divide what it admits.

The shared state is a text that the runs change one after another: in each exchange a run adds the results of its calls
since the last one, and takes its part. Between exchanges it acts on what it knows and on its own calls. Concurrency is
divided by need: what a run holds or has in flight, no other gets. A rate is handed out as moments at which a call may
start.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from connector.calls.learned_rate import LearnedRate
from connector.calls.learner import Begun, Learner
from connector.ledger import SharedText

_GONE: Final = 8.0  # seconds without an exchange after which a run no longer counts
_NEWS: Final = (0.02, 0.005)  # the least seconds between exchanges with news: at least, and for each run
_NO_NEWS: Final = (0.1, 0.02)  # the same without news, but with something to divide
_AHEAD: Final = 0.1  # seconds of the rate that all runs together take in advance
_LATE: Final = 0.05  # seconds by which a moment may be used late
_SOON: Final = 0.02  # seconds until the next look for a moment to start
_HEARD: Final = 0.5  # seconds after its last exchange in which a run may still use all that it holds
_TURN: Final = 1.0  # seconds after which it is the next run's turn to be first, if there is not enough for all
_APART: Final = 1e-6  # the least seconds between two calls, so that they have an order

Change = Callable[[str, float, bool], str]
"""Returns the new text for an old one, given the time and whether this run leaves."""

Event = Callable[[Learner, float, int], object]
"""An event of a call, applied to a learner with the time and the number of calls in flight elsewhere."""


class Member(NamedTuple):
    """A run as the others know it: the time of its last exchange, and its numbers of calls.

    Attributes:
        most: Its configured maximum in flight.
        in_flight: How many it has in flight.
        held: How many it may have in flight at the moment.
        wanted: How many it would have in flight if it could.
    """

    seen: float
    most: int
    in_flight: int
    held: int
    wanted: int


class SharedLearner:
    """A `Learner` whose state is shared by several runs. The deciding thread uses it; another thread does exchanges.

    Args:
        most: The most calls of this run in flight.
        now: The clock of the times that the methods get, in monotonic seconds.

    Attributes:
        paused_by: See `Learner`.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._learner = Learner(most)  # the state of the last exchange, with what this run has seen since
        self._events: list[Event] = []
        self._ahead = 0.0  # seconds by which the clock of the database is ahead of this one
        self._elsewhere = 0  # calls that other runs had in flight
        self._limit = self._held = most  # the limit of all runs together, and this run's part of it
        self._asked_for = most  # how many calls this run has asked for
        self._peak = 0  # the most calls in flight since then
        self._given: deque[float] = deque()  # moments at which a call may start, as received by the other thread
        self._moments: deque[float] = deque()  # those that this thread has taken over
        self._used = 0  # moments used since the last exchange
        self._is_starved = False  # whether a moment was missing since then
        self._enough = 1  # half of what was given last: if fewer are left, more are asked for
        self._number = 0.0
        self._exchanged = -math.inf
        self._is_asked = False
        self._is_news = False  # whether there is something to report or to ask for
        self._runs = 1

    def join(self, text: Callable[[Change], SharedText], in_flight: Callable[[], int]) -> None:
        """Joins, or joins again, the runs that learn together.

        Args:
            text: Returns the shared text of the endpoint, given the function that changes it.
            in_flight: Returns how many calls this run has in flight.
        """
        self._in_flight = in_flight
        self._is_asked = False
        self._text = text(self.exchange)

    @property
    def limit(self) -> int:
        """How many calls this run may have in flight."""
        learner = self._learner
        if self._runs == 1:
            return min(self._most, learner.limit)
        fall = self._limit - learner.limit  # caused by this run since the exchange, so it gives up calls first
        return self._held if fall <= 0 else max(self._held - fall, min(1, self._held))

    @property
    def rate(self) -> LearnedRate | None:
        """See `Learner.rate`."""
        return self._learner.rate

    @property
    def is_closed(self) -> bool:
        """See `Learner.is_closed`."""
        return self._learner.is_closed

    @property
    def paused_by(self) -> str:
        """See `Learner.paused_by`."""
        return self._learner.paused_by

    def room(self, now: float) -> int:
        """See `Learner.room`."""
        learner = self._learner
        if learner.may_try(now + self._ahead):
            return self._most
        if self._is_news:
            self._ask(now)
        elif self._runs > 1 and (learner.is_limited or learner.rate is not None):
            self._ask(now, is_news=False)
        return self.limit

    def delay(self, now: float) -> float:
        """See `Learner.delay`."""
        learner, at = self._learner, now + self._ahead
        if learner.rate is None:
            return learner.delay(at)
        pause = learner.pause_left(at)
        self._receive(at)
        if self._moments:
            return max(pause, self._moments[0] - at)
        closed = learner.rate.delay(at) if learner.rate.is_closed else 0.0
        if max(closed, pause) <= 0:
            self._is_starved = True
            self._ask(now)
        return max(closed, pause, _SOON)

    def pause_left(self, now: float) -> float:
        """See `Learner.pause_left`."""
        return self._learner.pause_left(now + self._ahead)

    def started(self, now: float, others: int) -> Begun:
        """See `Learner.started`."""
        learner, at = self._learner, now + self._ahead
        self._peak = max(self._peak, others + 1)
        if learner.rate is not None and self._moments:
            self._used += 1
            if len(self._moments) <= self._enough:
                self._ask(now)
            return Begun(learner.epoch, self._moments.popleft(), at, others + self._elsewhere)
        is_tried = learner.rate is None and learner.is_closed and others >= self.limit
        self._number = max(at, self._number + _APART)
        call = Begun(learner.epoch, self._number, at, others + self._elsewhere, is_tried)
        self._note(lambda learner, _now, _elsewhere: learner.begun(call))
        if is_tried or (self._peak >= self._held and self._asked_for < self._most):
            self._ask(now)
        return call

    def answered(self) -> None:
        """See `Learner.answered`."""
        self._note(_answered)

    def timed_out(self) -> None:
        """See `Learner.timed_out`."""
        self._note(_timed_out)

    def refused(self, now: float, call: Begun, in_flight: int, wait: float | None) -> None:
        """See `Learner.refused`."""
        self._note(lambda learner, at, elsewhere: learner.refused(at, call, in_flight + elsewhere, wait), now)
        self._ask(now)

    def pause(self, until: float, reason: str) -> None:
        """See `Learner.pause`."""
        at = until + self._ahead
        if at > self._learner.paused_until:
            self._note(lambda learner, _now, _elsewhere: learner.pause(at, reason))
            self._ask(self._now())

    def exchange(self, text: str, at: float, is_leaving: bool) -> str:
        """Adds what this run has seen to the shared text, and takes this run's part. Called from another thread.

        Args:
            text: The shared text; empty at first.
            at: The time in seconds, by a clock that all runs share.
            is_leaving: Whether this run ends.
        """
        now = self._now()
        with self._lock:
            events, self._events = self._events, []
            used, self._used = self._used, 0
            peak, self._peak = self._peak, 0
            is_starved, self._is_starved = self._is_starved, False
            self._is_asked = self._is_news = False
            learner, members = self._read(text, at)
        others = [member for name, member in members.items() if name != self._id]
        elsewhere = sum(member.in_flight for member in others)
        learner.resize(sum((member.most for member in others), 0 if is_leaving and others else self._most))
        for event in events:
            event(learner, at, elsewhere)
        in_flight = self._in_flight() if self._id in members else self._most  # what it will soon have
        wanted = self._wanted(max(peak, in_flight))
        members[self._id] = Member(at, self._most, in_flight, 0, wanted)
        fair, held = _part(learner, members, self._id, at)
        members[self._id] = members[self._id]._replace(held=held)
        moments = []
        if is_leaving:
            del members[self._id]
        elif learner.rate is not None:
            moments = self._taken(learner, learner.rate, at, 2 * used + is_starved, len(members))
        with self._lock:
            written = json.dumps({"learner": learner.written(), "members": members})
            for event in self._events:
                event(learner, at, elsewhere)
            self._learner, self._elsewhere, self._runs = learner, elsewhere, 1 + len(others)
            self._limit, self._held, self._asked_for = learner.limit, held, wanted
            self._ahead, self._exchanged = at - now, now
            self._is_news |= held < fair
            self._given.extend(moments)
            self._enough = len(moments) // 2
        return written

    def _read(self, text: str, at: float) -> tuple[Learner, dict[str, Member]]:
        """Returns the shared state and the members; this run's own state if it is alone, or the text is unreadable."""
        try:
            known = json.loads(text)
            members = {name: Member(*member) for name, member in known["members"].items()}
            members = {name: member for name, member in members.items() if at - member.seen < _GONE}
            if members:
                return Learner.read(known["learner"]), members
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            pass
        return Learner.read(json.loads(json.dumps(self._learner.written()))), {}

    def _wanted(self, peak: int) -> int:
        """Returns how many calls this run would have in flight: more than its limit if it has reached that."""
        return self._most if peak >= max(1, self._held) else min(self._most, peak + peak // 8 + 1)

    def _taken(self, learner: Learner, rate: LearnedRate, at: float, wanted: int, runs: int) -> list[float]:
        """Takes moments at which calls may start: as many as are needed soon, or one while nothing is admitted."""
        left = len(self._moments) + len(self._given)
        if learner.pause_left(at) > 0 or (rate.is_closed and (left or rate.delay(at) > 0)):
            return []
        most = 1 if rate.is_closed else math.ceil(rate.per_second * _AHEAD / runs)
        return [_moment(learner, rate, at) for _ in range(min(wanted, most) - left)]

    def _note(self, event: Event, now: float = 0.0) -> None:
        with self._lock:
            event(self._learner, now + self._ahead, self._elsewhere)
            self._events.append(event)

    def _receive(self, at: float) -> None:
        """Takes over the moments received, and drops those that no longer count or were not used in time."""
        while self._given:
            self._moments.append(self._given.popleft())
        rate = self._learner.rate
        while self._moments and (rate is None or not rate.counts(self._moments[0])):
            self._moments.popleft()
        while self._moments and self._moments[0] < at - _LATE:
            moment = self._moments.popleft()
            self._note(partial(_returned, moment))

    def _ask(self, now: float, *, is_news: bool = True) -> None:
        """Asks for an exchange, unless the last one was too recent: news is then reported later."""
        least, each = _NEWS if is_news else _NO_NEWS
        if now - self._exchanged < max(least, each * self._runs):
            self._is_news |= is_news
        elif not self._is_asked:
            self._is_asked = True
            self._text.ask()


def divided(total: int, wanted: Sequence[int], turn: int = 0) -> list[int]:
    """Divides a number by need (max-min fairness): nobody gets more than wanted, and those who get less get the same.

    If it does not divide evenly, some get one more; `turn` changes who.
    """
    parts = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda place: (wanted[place], (place + turn) % len(wanted)))
    for done, place in enumerate(order):
        parts[place] = min(wanted[place], total // (len(wanted) - done))
        total -= parts[place]
    return parts


def _part(learner: Learner, members: dict[str, Member], name: str, at: float) -> tuple[int, int]:
    """Returns a run's fair part of the calls in flight, and how much of it is free now."""
    if not learner.is_limited:
        return members[name].most, members[name].most
    names = sorted(members)
    turn = int(at / _TURN) if learner.limit < len(names) else 0
    fair = dict(zip(names, divided(learner.limit, [members[each].wanted for each in names], turn), strict=True))
    free = learner.limit
    for each, member in members.items():
        if each != name:  # one without a recent exchange will get its part at the next one
            held = member.held if at - member.seen < _HEARD else min(member.held, fair[each])
            free -= max(held, member.in_flight)
    if learner.is_refusing:
        free = min(free, max(1, members[name].in_flight))  # nobody gets more than it has
    return fair[name], max(0, min(fair[name], free))


def _moment(learner: Learner, rate: LearnedRate, at: float) -> float:
    """Takes the next moment at which a call may start."""
    moment = max(at + max(0.0, rate.delay(at)), learner.number + _APART)
    learner.number = moment
    rate.reserved(moment)
    return moment


def _answered(learner: Learner, _now: float, _elsewhere: int) -> None:
    learner.answered()


def _timed_out(learner: Learner, _now: float, _elsewhere: int) -> None:
    learner.timed_out()


def _returned(moment: float, learner: Learner, _now: float, _elsewhere: int) -> None:
    if learner.rate is not None:
        learner.rate.returned(moment)
