"""How fast to go: smooth pacing under the configured limits, and a concurrency that finds out what the endpoint admits.

Nothing here waits. `Limits.delay` says how long to wait before the next call may start, and `Limits.concurrency` how
many may be in flight; one thread asks and tells, so there are no locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connector.errors import APITimeoutError, RateLimitError, RetryableError, ServerError
from connector.retry import empty_wait

_MINUTE: Final = 60.0
_LATE: Final = 0.25  # seconds by which a call may start late without its share being lost
_OVERLOADED: Final = 503
_BYTES_PER_TOKEN: Final = 4.0  # until replies tell better


class Pace:
    """Spreads `per_minute` units evenly over the minute, so that no window of 60 seconds holds more of them."""

    def __init__(self, per_minute: float) -> None:
        self._interval = (_MINUTE + _LATE) / per_minute
        self._next = float("-inf")

    def delay(self, now: float) -> float:
        """Seconds until the next unit may be used; zero or less means at once."""
        return self._next - now

    def use(self, now: float, units: float = 1.0) -> None:
        """Takes `units`; the time that they stand for has to pass before the next are free."""
        self._next = max(self._next, now - _LATE) + units * self._interval


class Adaptive:
    """The number of calls in flight: falls in proportion to the calls that are turned away, rises while none is.

    Proportional, because a fixed cut would swing far below what the endpoint admits. Each time the same ceiling
    is met again, the next try to go above it waits twice as long, so a steady limit costs ever fewer refused calls.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self._answered = 0
        self._refused = 0
        self._since_rise = 0
        self._patience = 2.0
        self._round_ends = 0.0

    def answered(self, now: float, started: float) -> None:
        """A call that started at `started` was admitted and has ended."""
        self._answered += 1
        self._since_rise += 1
        if self.limit < self.most and self._since_rise >= self._patience * self.limit:
            self.limit = min(self.most, self.limit + 1)
            self._since_rise = 0
        self._end_round(now, started)

    def refused(self, now: float, started: float) -> None:
        """A call was turned away: 429, 503 or a timeout."""
        self._refused += 1
        self._since_rise = 0
        self._end_round(now, started)

    def _end_round(self, now: float, started: float) -> None:
        """Judges a round once a call comes back that started after the last judgement."""
        if started < self._round_ends:
            return
        if self._refused:
            share = self._refused / (self._refused + self._answered)
            self.limit = max(1.0, float(int(self.limit * max(0.5, 1 - share))))
            self._patience = min(64.0, self._patience * 2)
        self._round_ends = now
        self._answered = self._refused = 0


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
        self._adaptive = Adaptive(concurrency)
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute) if tokens_per_minute else None
        self._tokens_per_byte = 1 / _BYTES_PER_TOKEN
        self._paused_until = float("-inf")

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return int(self._adaptive.limit)

    @property
    def most(self) -> int:
        """Calls that may ever be in flight."""
        return self._adaptive.most

    @property
    def is_paced(self) -> bool:
        """Whether calls are spread over time."""
        return self._requests is not None or self._tokens is not None

    @property
    def is_reduced(self) -> bool:
        """Whether the endpoint admits less than was asked for."""
        return self.concurrency < self._adaptive.most

    def delay(self, now: float) -> float:
        """Seconds until the next call may start; zero or less means at once."""
        paces = (pace.delay(now) for pace in (self._requests, self._tokens) if pace)
        return max((self._paused_until - now, *paces))

    def started(self, now: float, size: int) -> float:
        """A call whose body has `size` bytes starts. Returns the tokens it was estimated at, for `ended`."""
        if self._requests:
            self._requests.use(now)
        estimate = size * self._tokens_per_byte
        if self._tokens:
            self._tokens.use(now, estimate)
        return estimate

    def ended(self, now: float, started: float, size: int, estimate: float, tokens: int | None) -> None:
        """A call ended with an answer that took `tokens`, as far as the endpoint says."""
        self._adaptive.answered(now, started)
        if tokens is not None and self._tokens:
            self._tokens.use(now, tokens - estimate)
            self._tokens_per_byte += (tokens / max(size, 1) - self._tokens_per_byte) * 0.1

    def failed(self, now: float, started: float, error: RetryableError) -> None:
        """A call failed in a way that may pass."""
        overloaded = isinstance(error, ServerError) and error.http_status == _OVERLOADED
        if isinstance(error, RateLimitError | APITimeoutError) or overloaded:
            self._adaptive.refused(now, started)
            if error.wait and self._adaptive.limit <= 1:
                self._paused_until = max(self._paused_until, now + error.wait)

    def learn(self, now: float, headers: Mapping[str, str]) -> None:
        """Reads the rate-limit headers of a reply: an empty bucket pauses everything until it is filled again."""
        wait = empty_wait(headers)
        if wait:
            self._paused_until = max(self._paused_until, now + min(wait, _MINUTE))
