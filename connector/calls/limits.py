"""How fast to go: smooth pacing under the configured limits, and a concurrency that finds out what the endpoint admits.

Nothing here waits. `Limits.delay` says how long to wait before the next call may start, and `Limits.concurrency` how
many may be in flight. Only one thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from connector.base.errors import APITimeoutError, RateLimitError, RetryableError
from connector.base.records import Reply
from connector.calls.waiting import Waiting, kind_of, paced
from connector.http.retry_after import empty_wait

_MINUTE: Final = 60.0
_LATE: Final = 0.25  # seconds by which a call may start late without its share being lost
_PAUSE: Final = 4.0  # seconds without calls, at most, where the rate is too high and the endpoint names no wait
_SPARE: Final = 0.01  # the part of the tokens that is left free: what a call takes is known only afterwards
_OVERLOADED: Final = 503
_TIMED_OUT: Final = (408, 504)
_USED_UP: Final = "the endpoint's rate limit is used up"
_BYTES_PER_TOKEN: Final = 4.0  # where replies do not count them
_HOT: Final = 10  # refusals count 2, answers -1; from here on refusals are more than bad luck
_SLOW: Final = 0.1  # the part of the calls that may time out; with more, too many are in flight


_WINDOW: Final = 5.0  # seconds in which answers are counted
_LEAST: Final = 0.5  # of these, at least, to tell a rate from
_CREDIT: Final = 0.01  # seconds by which a call may start late without its share being lost, where a rate was learned
_FEW: Final = 10  # answers, at least
_BELOW: Final = 0.98  # the part of the rate that a refusal shows that is kept to
_STEP: Final = 0.01  # by which part a rate without refusals grows first; each further step is twice as large
_CALM: Final = 1.0  # seconds, and
_CALM_CALLS: Final = 20  # answers without a refusal before a rate grows
_FORGOTTEN: Final = 4.0  # a rate that has grown so many times is none any more


class Pace:
    """Spreads `per_minute` units evenly over the minute, so that no window of 60 seconds holds more of them.

    Args:
        spare: The part that is left free, where what a call takes is known only afterwards.
    """

    def __init__(self, per_minute: float, spare: float = 0.0) -> None:
        self.per_minute = per_minute
        self._minute = (_MINUTE + 2 * _LATE) * (1 + spare)
        self._next = -math.inf

    def cost(self, units: float = 1.0) -> float:
        """Returns the seconds of a minute that a call of so many units takes; a minute holds whole calls only."""
        calls = self.per_minute // max(units, 1.0)
        return self._minute / calls if calls else self._minute * units / self.per_minute

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        return self._next - now

    def charge(self, now: float, cost: float) -> None:
        """Takes note that a call starts: `cost` seconds must pass before the next; a negative cost is given back."""
        self._next = max(self._next, now - _LATE) + cost


class Adaptive:
    """The number of calls that may be in flight: it finds out how many the endpoint admits.

    A few refusals are bad luck. Where they pile up, each shows how many are admitted: those that are in flight then,
    and no more. So the limit falls to that number at once, however far it was off, and below it while refusals go on.
    After a round of answers one more call tries to get in; if it is admitted, two more follow, then four, so a limit
    that is gone is soon forgotten. If it is refused, the next try is a hundred answers away (fewer where the limit is
    low, more where it is high): a steady limit costs one refusal in a hundred.

    Attributes:
        limit: Calls that may be in flight now.
        epoch: Counts the changes of the limit.
    """

    def __init__(self, most: int) -> None:
        self.limit = most
        self.epoch = 0
        self._most = most
        self._proven = most  # what two rounds were answered with: a refusal may take as long as an answer
        self._tested = most  # what the last round was answered with
        self._fell = 0  # the epoch that began when the limit last fell below what was proven
        self._step = 1  # of the next rise
        self._heat = 0  # how far refusals outweigh answers
        self._answered = self._late = 0
        self._round = most  # answers until the limit is judged

    def answered(self) -> None:
        """Takes note of a call that was admitted and has ended."""
        self._answered += 1
        self._heat = max(0, self._heat - 1)
        if self._answered + self._late >= self._round:
            self._judge()

    def timed_out(self) -> None:
        """Takes note of a time-out. A few may be long answers; many mean that too many calls share the endpoint."""
        self._late += 1
        if self._answered + self._late >= self._round:
            self._judge()

    def refused(self, epoch: int, in_flight: int) -> bool:
        """Takes note that a call which began in `epoch` was turned away while `in_flight` others were not.

        Returns whether the rate is too high and not the number: calls are refused though no other one is in flight.
        """
        if self.limit > self._proven:  # the limit was being tried
            self._fall(max(self._proven, min(self.limit - 1, in_flight)), patience=10)
        elif epoch < self._fell:  # it began before the limit fell
            self._fall(min(self.limit, in_flight), patience=10)
        else:
            self._heat = min(_HOT, self._heat + 2)
            if self._heat == _HOT and self.limit > 1:
                fitting = min(self.limit - 1, in_flight)
                self._fall(fitting - fitting // 8)
        return self._heat == _HOT and self.limit == 1

    def _judge(self) -> None:
        """Ends a round: decides how many calls may be in flight in the next."""
        late = self._late / (self._answered + self._late)
        if late > _SLOW:
            self._fall(int(self.limit * (1 - late / 2)))
            return
        self._proven, self._tested = self._tested, self.limit
        if self.limit < self._most:
            self._heat = 0
            self._change(min(self._most, self.limit + self._step))
            self._step *= 2
        else:
            self._change(self.limit)

    def _fall(self, limit: int, patience: int = 1) -> None:
        """Lowers the limit; the more patience, the later the next try to raise it."""
        limit = max(1, limit)
        self._change(limit, max(min(patience, 2) * limit, min(100, patience * limit)))
        self._tested, self._step = limit, 1
        if limit < self._proven:
            self._proven, self._fell = limit, self.epoch

    def _change(self, limit: int, answers: int = 0) -> None:
        """Sets the limit and begins a new round, of so many answers at least."""
        self.limit = limit
        self.epoch += 1
        self._round = max(limit, answers)
        self._answered = self._late = 0


class LearnedRate:
    """The rate that an endpoint admits, found out from its refusals, for one that limits the rate and not the number.

    Once a call is refused, what is admitted from then on is what flows into the endpoint's bucket. So the first rate is
    that of the calls that began after the first refusal. Without refusals it grows, slowly first, and after the next
    one the rate before it grew counts again; a limit that is gone is soon forgotten. Times are seconds of a monotonic
    clock.
    """

    def __init__(self) -> None:
        self._answered: deque[float] = deque()
        self._since = math.inf  # when it began to count answers
        self._rate = math.inf  # calls a second
        self._first = 0.0  # the rate when it was found
        self._base = 0.0  # the rate after the last refusal
        self._proven = 0.0  # the rate before it last grew
        self._next = -math.inf
        self._grows_at = math.inf
        self._step = _STEP

    @property
    def is_known(self) -> bool:
        """Whether there is a rate to keep to."""
        return self._rate < math.inf

    @property
    def per_second(self) -> float:
        """Calls a second; infinite where no rate is known."""
        return self._rate

    def watch(self, now: float) -> None:
        """Begins to count answers, once a first call was refused."""
        self._since = min(self._since, now)

    def answered(self, now: float, started: float) -> None:
        """Takes note of a call that was admitted; one that began before the first refusal says nothing of the rate."""
        if started < self._since:
            return
        self._answered.append(started)
        self._trim(now)
        if now >= self._grows_at:
            self._proven = self._rate
            self._rate *= 1 + self._step
            self._step = min(2 * self._step, 1.0)
            self._grows_at = now + max(_CALM, _CALM_CALLS / self._rate)
            if self._rate > _FORGOTTEN * self._base:
                self._rate = self._grows_at = math.inf

    def refused(self, now: float) -> None:
        """Takes note that a call was refused because of the rate."""
        self._trim(now)
        seconds = max(self._answered) - min(self._answered) if len(self._answered) >= _FEW else 0.0
        if seconds < _LEAST:
            return
        shown = (len(self._answered) - 1) / seconds * _BELOW
        if not self.is_known:
            self._first, self._next = shown, now
        elif shown < self._first / 2:  # to go slower does not help: it is not the rate
            self._rate = self._grows_at = self._since = math.inf
            self._answered.clear()
            return
        has_grown = self._proven < self._rate < math.inf
        self._rate = self._base = self._proven if has_grown else min(self._rate, shown)
        self._proven = self._rate
        self._step, self._grows_at = _STEP, now + max(2 * _CALM, _CALM_CALLS / self._rate)

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        return self._next - now if self.is_known else -math.inf

    def started(self, now: float) -> None:
        """Takes note that a call starts."""
        if self.is_known:
            self._next = max(self._next, now - _CREDIT) + 1 / self._rate

    def _trim(self, now: float) -> None:
        while self._answered and self._answered[0] < now - _WINDOW:
            self._answered.popleft()


class Ticket(NamedTuple):
    """What a call started with, to hand back when it has ended."""

    epoch: int
    charged: float
    started: float = -math.inf


class Limits:
    """Everything that decides when the next call may start.

    Args:
        concurrency: Calls in flight at most.
        requests_per_minute: Calls a minute at most; `None` for no limit.
        tokens_per_minute: Tokens a minute at most, prompt and reply together; estimated before, corrected after.
    """

    def __init__(
        self, concurrency: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self.most = concurrency
        self._adaptive = Adaptive(concurrency)
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute, _SPARE) if tokens_per_minute else None
        self._tokens_per_byte: float | None = None
        self._rate = LearnedRate()
        self._paused_until = -math.inf
        self._paused_by = ""
        self._pause = 0.0

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return self._adaptive.limit

    @property
    def is_paced(self) -> bool:
        """Whether calls are spread over time."""
        return self._requests is not None or self._tokens is not None or self._rate.is_known

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        delay = max(self._paused_until - now, self._rate.delay(now))
        if self._requests:
            delay = max(delay, self._requests.delay(now))
        if self._tokens:
            delay = max(delay, self._tokens.delay(now))
        return delay

    def waiting(self, now: float) -> Waiting | None:
        """Returns what keeps the next call from starting: what the endpoint asks, or a pace; `None` if nothing does."""
        paces = [(self._rate.delay(now), f"{self._rate.per_second:,.3g} calls a second, as refused calls have shown")]
        if self._requests:
            paces.append((self._requests.delay(now), f"{self._requests.per_minute:,.0f} requests a minute"))
        if self._tokens:
            paces.append((self._tokens.delay(now), f"{self._tokens.per_minute:,.0f} tokens a minute"))
        pause, (seconds, rate) = self._paused_until - now, max(paces)
        if max(pause, seconds) <= 0:
            return None
        return Waiting(f"{self._paused_by}: next call", pause) if pause >= seconds else paced(rate, seconds)

    def started(self, now: float, size: int) -> Ticket:
        """Takes note that a call starts, whose body has `size` bytes.

        The first call is charged a whole minute of tokens, so it runs alone until its usage is known.
        """
        self._rate.started(now)
        if self._requests:
            self._requests.charge(now, self._requests.cost())
        charged = 0.0
        if self._tokens:
            known = self._tokens_per_byte
            charged = _MINUTE if known is None else self._tokens.cost(min(size * known, self._tokens.per_minute))
            self._tokens.charge(now, charged)
        return Ticket(self._adaptive.epoch, charged, now)

    def answered(self, now: float, ticket: Ticket, size: int, reply: Reply) -> None:
        """Takes note of a reply. Where its headers say that a rate limit is used up, all calls wait until it is not."""
        self._adaptive.answered()
        self._rate.answered(now, ticket.started)
        self._pause /= 2
        wait = empty_wait(reply.headers)
        if wait is not None:
            self._wait(now, min(wait, _MINUTE), _USED_UP)
        if self._tokens:
            usage = reply.body.get("usage")
            total = usage.get("total_tokens") if isinstance(usage, dict) else None
            # A number that no minute has room for is no count: it would only stop the run.
            is_count = type(total) is int and 0 <= total <= self._tokens.per_minute
            tokens: float = total if is_count else min(size / _BYTES_PER_TOKEN, self._tokens.per_minute)  # type: ignore[assignment]  # just checked
            self._tokens.charge(now, self._tokens.cost(tokens) - ticket.charged)
            known, seen = self._tokens_per_byte, tokens / max(size, 1)
            self._tokens_per_byte = seen if known is None else known + (seen - known) * 0.1

    def failed(self, now: float, ticket: Ticket, in_flight: int, wait: float, error: RetryableError) -> None:
        """Takes note of a failure that may pass, while `in_flight` calls had none; its row waits `wait` seconds."""
        if self._tokens:
            self._tokens.charge(now, -ticket.charged)
        if isinstance(error, RateLimitError) or error.http_status == _OVERLOADED:
            self._rate.watch(now)
            if self._rate.is_known or self._adaptive.refused(ticket.epoch, in_flight):
                self._rate.refused(now)
                if not self._rate.is_known:  # too little was answered to tell it from
                    self._pause = min(max(wait, self._pause * 2), max(wait, _PAUSE))
                    self._wait(now, self._pause, kind_of(error))
        elif isinstance(error, APITimeoutError) or error.http_status in _TIMED_OUT:
            self._adaptive.timed_out()

    def _wait(self, now: float, wait: float, reason: str) -> None:
        if now + wait > self._paused_until:
            self._paused_until, self._paused_by = now + wait, reason
