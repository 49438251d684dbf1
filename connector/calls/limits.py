"""How fast to call: smooth pacing within the configured limits, and a concurrency that adapts to the endpoint.

Nothing here waits. `Limits.delay` says how long to wait before the next call may start, and `Limits.room` how many may
be in flight. Only one thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.amounts import counted
from connector.base.errors import APITimeoutError, RateLimitError, RetryableError
from connector.base.records import Reply
from connector.calls.learner import Begun, Learner
from connector.calls.pace import Pace
from connector.calls.shared_learner import SharedLearner
from connector.calls.shared_pace import SharedPace
from connector.calls.used_up import UsedUp
from connector.calls.waiting import Waiting, paced
from connector.ledger import Shared

_SPARE: Final = 0.01  # the part of the tokens that is left free, as a call's usage is known only afterwards
_OVERLOADED: Final = 503
_TIMED_OUT: Final = (408, 504)
_USED_UP: Final = "the endpoint's rate limit is used up"
_BYTES_PER_TOKEN: Final = 4.0  # if replies do not count them


class Ticket(NamedTuple):
    """The state with which a call started, to be passed back when it ends."""

    charged: float = 0.0
    begun: Begun = Begun()


class Limits:
    """Everything that decides when the next call may start.

    Args:
        concurrency: The most calls in flight.
        requests_per_minute: The most calls per minute; `None` for no limit.
        tokens_per_minute: The most tokens per minute, prompt and reply; estimated before a call, corrected after it.
    """

    def __init__(
        self, concurrency: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self.most = concurrency
        self._learner: Learner | SharedLearner = Learner(concurrency)
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute, _SPARE) if tokens_per_minute else None
        self._tokens_per_byte: float | None = None
        self._used_up = UsedUp()

    def share(
        self,
        shared: Shared,
        endpoint: str,
        in_flight: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Shares the limits per minute with other runs, and learns with them what the endpoint admits.

        Args:
            shared: The state that the runs share.
            endpoint: Identifies the endpoint.
            in_flight: Returns how many calls this run has in flight; called from any thread.
            now: The clock of the times that the other methods get, in monotonic seconds.
        """
        if self._requests:
            timeline = shared.time(f"requests\n{endpoint}")
            self._requests = SharedPace(self._requests.per_minute, self._requests.spare, timeline)
        if self._tokens:
            timeline = shared.time(f"tokens\n{endpoint}")
            self._tokens = SharedPace(self._tokens.per_minute, self._tokens.spare, timeline)
        if not isinstance(self._learner, SharedLearner):
            self._learner = SharedLearner(self.most, now)
        self._learner.join(lambda change: shared.text(f"learned\n{endpoint}", change), in_flight)

    @property
    def concurrency(self) -> int:
        """How many calls seem to be admitted at a time."""
        return self._learner.limit

    @property
    def is_closed(self) -> bool:
        """Whether calls are likely to be refused at the moment, whichever row they are for."""
        return self._learner.is_closed

    def room(self, now: float) -> int:
        """Returns how many calls may be in flight now."""
        return self._learner.room(now)

    @property
    def is_paced(self) -> bool:
        """Whether calls are spread over time."""
        return self._requests is not None or self._tokens is not None or self._learner.rate is not None

    def delay(self, now: float) -> float:
        """Returns the seconds until the next call may start; zero or less means at once."""
        delay = self._learner.delay(now)
        if self._requests:
            delay = max(delay, self._requests.delay(now))
        if self._tokens:
            delay = max(delay, self._tokens.delay(now))
        return delay

    def waiting(self, now: float) -> Waiting | None:
        """Returns what delays the next call: a wait that the endpoint asked for, or a pace; `None` if nothing does."""
        paces = [(-math.inf, "")]
        learned = self._learner.rate
        if learned is not None and learned.is_closed:
            paces.append((self._learner.delay(now), "what the endpoint admits, after a refusal"))
        elif learned is not None:
            rate = f"{learned.per_second:,.3g} calls a second, as learned from refused calls"
            paces.append((self._learner.delay(now), rate))
        if self._requests:
            rate = f"{counted(round(self._requests.per_minute), 'request')} a minute"
            paces.append((self._requests.delay(now), rate))
        if self._tokens:
            rate = f"{counted(round(self._tokens.per_minute), 'token')} a minute"
            paces.append((self._tokens.delay(now), rate))
        pause, (seconds, rate) = self._learner.pause_left(now), max(paces)
        if max(pause, seconds) <= 0:
            return None
        return Waiting(f"{self._learner.paused_by}: next call", pause) if pause >= seconds else paced(rate, seconds)

    def started(self, now: float, size: int, others: int = 0) -> Ticket:
        """Records that a call with a body of `size` bytes starts while `others` are in flight.

        The first call is charged a whole minute of tokens, so it runs alone until its usage is known.
        """
        begun = self._learner.started(now, others)
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
        return Ticket(charged, begun)

    def answered(self, now: float, ticket: Ticket, size: int, reply: Reply) -> None:
        """Records a reply. If its headers say that a rate limit is used up, all calls wait for its reset."""
        self._learner.answered()
        wait = self._used_up.wait(reply.headers, ticket.begun.started, now)
        if wait:
            self._learner.pause(now + wait, _USED_UP)
        if self._tokens:
            usage = reply.body.get("usage")
            total = usage.get("total_tokens") if isinstance(usage, dict) else None
            # A count that exceeds the limit of a minute is not believed: it would only stop the run.
            is_count = type(total) is int and 0 <= total <= self._tokens.per_minute
            tokens: float = total if is_count else min(size / _BYTES_PER_TOKEN, self._tokens.per_minute)  # type: ignore[assignment]  # just checked
            self._tokens.charge(now, self._tokens.cost(tokens) - ticket.charged)
            known, seen = self._tokens_per_byte, tokens / max(size, 1)
            self._tokens_per_byte = seen if known is None else known + (seen - known) * 0.1
            self._tokens.tell(self._tokens_per_byte)

    def failed(self, now: float, ticket: Ticket, in_flight: int, wait: float, error: RetryableError) -> None:
        """Records a temporary failure, while `in_flight` calls had none; its row waits `wait` seconds."""
        if self._tokens:
            self._tokens.charge(now, -ticket.charged)
        if isinstance(error, RateLimitError) or error.http_status == _OVERLOADED:
            asked = None if error.wait is None else min(error.wait, wait)
            self._used_up.refused()
            self._learner.refused(now, ticket.begun, in_flight, asked)
        elif isinstance(error, APITimeoutError) or error.http_status in _TIMED_OUT:
            self._learner.timed_out()
