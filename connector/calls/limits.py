"""How fast to go: smooth pacing under the configured limits, and a concurrency that finds out what the endpoint admits.

Nothing here waits. `Limits.delay` says how long to wait before the next call may start, and `Limits.concurrency` how
many may be in flight. Only one thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from connector.base.errors import APITimeoutError, RateLimitError, RetryableError
from connector.base.records import Reply
from connector.http.retry_after import empty_wait

_MINUTE: Final = 60.0
_LATE: Final = 0.25  # seconds by which a call may start late without its share being lost
_PAUSE: Final = 4.0  # seconds without calls, at most, where the rate is too high and the endpoint names no wait
_SPARE: Final = 0.01  # the part of the tokens that is left free: what a call takes is known only afterwards
_OVERLOADED: Final = 503
_TIMED_OUT: Final = (408, 504)
_BYTES_PER_TOKEN: Final = 4.0  # where replies do not count them
_HOT: Final = 10  # refusals count 2, answers -1; from here on refusals are more than bad luck
_SLOW: Final = 0.1  # the part of the calls that may time out; with more, too many are in flight


class Pace:
    """Spreads `per_minute` units evenly over the minute, so that no window of 60 seconds holds more of them.

    Args:
        spare: The part that is left free, where what a call takes is known only afterwards.
    """

    def __init__(self, per_minute: float, spare: float = 0.0) -> None:
        self._per_minute = per_minute
        self._minute = (_MINUTE + 2 * _LATE) * (1 + spare)
        self._next = -math.inf

    def cost(self, units: float = 1.0) -> float:
        """Returns the seconds of a minute that a call of so many units takes; a minute holds whole calls only."""
        calls = self._per_minute // max(units, 1.0)
        return self._minute / calls if calls else self._minute * units / self._per_minute

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


class Ticket(NamedTuple):
    """What a call started with, to hand back when it has ended."""

    epoch: int
    charged: float


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
        self._paused_until = -math.inf
        self._pause = 0.0

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return self._adaptive.limit

    @property
    def is_paced(self) -> bool:
        """Whether calls are spread over time."""
        return self._requests is not None or self._tokens is not None

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        delay = self._paused_until - now
        if self._requests:
            delay = max(delay, self._requests.delay(now))
        if self._tokens:
            delay = max(delay, self._tokens.delay(now))
        return delay

    def started(self, now: float, size: int) -> Ticket:
        """Takes note that a call starts, whose body has `size` bytes.

        The first one is charged a whole minute of tokens: it goes alone until it has shown what a call takes.
        """
        if self._requests:
            self._requests.charge(now, self._requests.cost())
        charged = 0.0
        if self._tokens:
            known = self._tokens_per_byte
            charged = _MINUTE if known is None else self._tokens.cost(size * known)
            self._tokens.charge(now, charged)
        return Ticket(self._adaptive.epoch, charged)

    def answered(self, now: float, ticket: Ticket, size: int, reply: Reply) -> None:
        """Takes note of a reply. Where its headers say that a rate limit is used up, all calls wait until it is not."""
        self._adaptive.answered()
        self._pause /= 2
        wait = empty_wait(reply.headers)
        if wait is not None:
            self._wait(now, min(wait, _MINUTE))
        if self._tokens:
            usage = reply.body.get("usage")
            total = usage.get("total_tokens") if isinstance(usage, dict) else None
            tokens = total if isinstance(total, int) else size / _BYTES_PER_TOKEN
            self._tokens.charge(now, self._tokens.cost(tokens) - ticket.charged)
            known, seen = self._tokens_per_byte, tokens / max(size, 1)
            self._tokens_per_byte = seen if known is None else known + (seen - known) * 0.1

    def failed(self, now: float, ticket: Ticket, in_flight: int, wait: float, error: RetryableError) -> None:
        """Takes note of a failure that may pass, while `in_flight` calls had none; its row waits `wait` seconds."""
        if self._tokens:
            self._tokens.charge(now, -ticket.charged)
        if isinstance(error, RateLimitError) or error.http_status == _OVERLOADED:
            if self._adaptive.refused(ticket.epoch, in_flight):
                self._pause = min(max(wait, self._pause * 2), max(wait, _PAUSE))
                self._wait(now, self._pause)
        elif isinstance(error, APITimeoutError) or error.http_status in _TIMED_OUT:
            self._adaptive.timed_out()

    def _wait(self, now: float, wait: float) -> None:
        self._paused_until = max(self._paused_until, now + wait)
