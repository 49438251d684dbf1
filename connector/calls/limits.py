"""How fast to go: smooth pacing under the configured limits, and a concurrency that finds out what the endpoint admits.

Nothing here waits. `Limits.delay` says how long to wait before the next call may start, and `Limits.room` how many may
be in flight. Only one thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.amounts import counted
from connector.base.errors import APITimeoutError, RateLimitError, RetryableError
from connector.base.records import Reply
from connector.calls.learned_rate import FIRST, SOON, LearnedRate, Suspicion
from connector.calls.pace import MINUTE, Pace
from connector.calls.shared_pace import SharedPace
from connector.calls.waiting import Waiting, paced
from connector.http.retry_after import empty_wait
from connector.ledger import SharedTime

_SPARE: Final = 0.01  # the part of the tokens that is left free: what a call takes is known only afterwards
_OVERLOADED: Final = 503
_TIMED_OUT: Final = (408, 504)
_USED_UP: Final = "the endpoint's rate limit is used up"
_BYTES_PER_TOKEN: Final = 4.0  # where replies do not count them
_HOT: Final = 10  # refusals count 2, answers -1; from here on refusals are more than bad luck
_CHRONIC: Final = 32  # refusals that a limit does not explain, from which on it is doubted
_BEARABLE: Final = 0.12  # so many for each answer are none
_SLOW: Final = 0.1  # the part of the calls that may time out; with more, too many are in flight


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
        self._chronic = 0.0  # refusals that the limit does not explain, and that are more than its tries bring
        self._heat = 0  # how far refusals outweigh answers
        self._answered = self._late = 0
        self._round = most  # answers until the limit is judged

    @property
    def is_hot(self) -> bool:
        """Whether refusals are more than bad luck, or go on where a limit was found."""
        return self._heat == _HOT or self._chronic >= _CHRONIC

    def answered(self) -> bool:
        """Takes note of a call that was admitted and has ended. Returns whether a round is over without a fall."""
        self._answered += 1
        self._heat = max(0, self._heat - 1)
        self._chronic = max(0.0, self._chronic - _BEARABLE)
        return self._answered + self._late >= self._round and self._judge()

    def timed_out(self) -> None:
        """Takes note of a time-out. A few may be long answers; many mean that too many calls share the endpoint."""
        self._late += 1
        if self._answered + self._late >= self._round:
            self._judge()

    def refused(self, epoch: int, in_flight: int) -> bool:
        """Takes note that a call which began in `epoch` was turned away while `in_flight` others were not.

        Returns whether it is not the number that is too high: calls are refused though no other one is in flight.
        """
        self._chronic += epoch >= self._fell
        was_alone = self.limit == 1 and epoch >= self._fell
        if self.limit > self._proven:  # the limit was being tried
            self._fall(max(self._proven, min(self.limit - 1, in_flight)), patience=10)
        elif epoch < self._fell:  # it began before the limit fell
            self._fall(min(self.limit, in_flight), patience=10)
        else:
            self._heat = min(_HOT, self._heat + 2)
            if self._heat == _HOT and self.limit > 1:
                fitting = min(self.limit - 1, in_flight)
                self._fall(fitting - fitting // 8)
        return was_alone and self._heat == _HOT

    def _judge(self) -> bool:
        """Ends a round: decides how many calls may be in flight in the next."""
        late = self._late / (self._answered + self._late)
        if late > _SLOW:
            self._fall(int(self.limit * (1 - late / 2)))
            return False
        self._proven, self._tested = self._tested, self.limit
        if self.limit < self._most:
            self._heat = 0
            self._change(min(self._most, self.limit + self._step))
            self._step *= 2
        else:
            self._change(self.limit)
        return True

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
    number: int = 0
    started: float = -math.inf
    others: int = 0
    is_tried: bool = False


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
        self._number = 0  # calls that have started
        self._admitted = 0
        self._first = math.nan  # when the first one started
        self._suspicion: Suspicion | None = None
        self._rate: LearnedRate | None = None
        self._paused_until = -math.inf
        self._paused_by = ""

    def share(self, time_of: Callable[[str], SharedTime]) -> None:
        """Keeps the limits a minute together with other runs.

        Args:
            time_of: Returns the timeline of `requests`, or of `tokens`, that the runs share.
        """
        if self._requests:
            self._requests = SharedPace(self._requests.per_minute, self._requests.spare, time_of("requests"))
        if self._tokens:
            self._tokens = SharedPace(self._tokens.per_minute, self._tokens.spare, time_of("tokens"))

    @property
    def concurrency(self) -> int:
        """Calls that seem to be admitted at a time."""
        return self._adaptive.limit

    @property
    def is_closed(self) -> bool:
        """Whether calls are likely to be turned away at the moment, whichever row they are for."""
        return self._suspicion is not None or (self._rate is not None and self._rate.is_closed)

    def room(self, now: float) -> int:
        """Returns how many calls may be in flight now."""
        return self.most if self._suspicion is not None and self._suspicion.is_due(now) else self._adaptive.limit

    @property
    def is_paced(self) -> bool:
        """Whether calls are spread over time."""
        return self._requests is not None or self._tokens is not None or self._rate is not None

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        delay = self._paused_until - now
        if self._rate is not None:
            delay = max(delay, self._rate.delay(now))
        if self._requests:
            delay = max(delay, self._requests.delay(now))
        if self._tokens:
            delay = max(delay, self._tokens.delay(now))
        return delay

    def waiting(self, now: float) -> Waiting | None:
        """Returns what keeps the next call from starting: what the endpoint asks, or a pace; `None` if nothing does."""
        paces = [(-math.inf, "")]
        if self._rate is not None and self._rate.is_closed:
            paces.append((self._rate.delay(now), "what the endpoint admits, after a refusal"))
        elif self._rate is not None:
            rate = f"{self._rate.per_second:,.3g} calls a second, as refused calls have shown"
            paces.append((self._rate.delay(now), rate))
        if self._requests:
            rate = f"{counted(round(self._requests.per_minute), 'request')} a minute"
            paces.append((self._requests.delay(now), rate))
        if self._tokens:
            rate = f"{counted(round(self._tokens.per_minute), 'token')} a minute"
            paces.append((self._tokens.delay(now), rate))
        pause, (seconds, rate) = self._paused_until - now, max(paces)
        if max(pause, seconds) <= 0:
            return None
        return Waiting(f"{self._paused_by}: next call", pause) if pause >= seconds else paced(rate, seconds)

    def started(self, now: float, size: int, others: int = 0) -> Ticket:
        """Takes note that a call starts, whose body has `size` bytes, while `others` are in flight.

        The first call is charged a whole minute of tokens, so it runs alone until its usage is known.
        """
        if not self._number:
            self._first = now
        self._number += 1
        is_tried = self._suspicion is not None and others >= self._adaptive.limit
        if self._rate is not None:
            self._rate.started(now, self._number)
            self._end_the_rate()
        elif self._suspicion is not None:
            self._suspicion.started(now, self._number, others, is_single=is_tried)
            rate = self._suspicion.admitted_rate(now) if is_tried else None
            if rate is not None:
                self._adopt(LearnedRate(now, self._number, self._suspicion.delay, rate))
        if self._requests:
            self._requests.charge(now, self._requests.cost())
        charged = 0.0
        if self._tokens:
            known = self._tokens.known if self._tokens_per_byte is None else self._tokens_per_byte
            if known is None:
                charged = self._tokens.alone(now)
            else:
                charged = self._tokens.cost(min(size * known, self._tokens.per_minute))
                self._tokens.charge(now, charged)
        return Ticket(self._adaptive.epoch, charged, self._number, now, others, is_tried)

    def answered(self, now: float, ticket: Ticket, size: int, reply: Reply) -> None:
        """Takes note of a reply. Where its headers say that a rate limit is used up, all calls wait until it is not."""
        self._admitted += 1
        if self._adaptive.answered() and self._suspicion is not None and self._suspicion.is_unfounded():
            self._suspicion = None
        wait = empty_wait(reply.headers)
        if wait is not None:
            self._wait(now, min(wait, MINUTE), _USED_UP)
        if self._tokens:
            usage = reply.body.get("usage")
            total = usage.get("total_tokens") if isinstance(usage, dict) else None
            # A number that no minute has room for is no count: it would only stop the run.
            is_count = type(total) is int and 0 <= total <= self._tokens.per_minute
            tokens: float = total if is_count else min(size / _BYTES_PER_TOKEN, self._tokens.per_minute)  # type: ignore[assignment]  # just checked
            self._tokens.charge(now, self._tokens.cost(tokens) - ticket.charged)
            known, seen = self._tokens_per_byte, tokens / max(size, 1)
            self._tokens_per_byte = seen if known is None else known + (seen - known) * 0.1
            self._tokens.tell(self._tokens_per_byte)

    def failed(self, now: float, ticket: Ticket, in_flight: int, wait: float, error: RetryableError) -> None:
        """Takes note of a failure that may pass, while `in_flight` calls had none; its row waits `wait` seconds."""
        if self._tokens:
            self._tokens.charge(now, -ticket.charged)
        if isinstance(error, RateLimitError) or error.http_status == _OVERLOADED:
            self._refused(now, ticket, in_flight, None if error.wait is None else min(error.wait, wait))
        elif isinstance(error, APITimeoutError) or error.http_status in _TIMED_OUT:
            self._adaptive.timed_out()

    def _refused(self, now: float, ticket: Ticket, in_flight: int, wait: float | None) -> None:
        """Finds out what is limited: the number of calls at a time, or, where that does not explain it, the rate."""
        if self._suspicion is not None:
            self._suspicion.refused(now, ticket.number, ticket.others)
        if self._rate is not None:
            self._rate.refused(now, ticket.number, ticket.started, wait)
            self._end_the_rate()
        elif ticket.is_tried:
            pass
        elif self._adaptive.refused(ticket.epoch, in_flight):
            if self._admitted:
                average = self._admitted / max(now - self._first, 1.0)
                self._adopt(LearnedRate(now, self._number, now - ticket.started, max(average, FIRST)))
                self._refused(now, ticket, in_flight, wait)
        elif self._suspicion is None and self._adaptive.is_hot and now - ticket.started <= SOON:
            self._suspicion = Suspicion(now, self._number, now - ticket.started, ticket.others)

    def _adopt(self, rate: LearnedRate) -> None:
        """Keeps to a rate from now on, and not to a number."""
        self._rate, self._suspicion = rate, None
        self._adaptive = Adaptive(self.most)

    def _end_the_rate(self) -> None:
        if self._rate is not None and self._rate.is_over:
            self._rate = None

    def _wait(self, now: float, wait: float, reason: str) -> None:
        if now + wait > self._paused_until:
            self._paused_until, self._paused_by = now + wait, reason
