"""Notices that the endpoint limits the rate, so that whoever waits for rows can be told why there are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from connector.errors import RateLimitError, RetryableError
from connector.retry import Backoff
from connector.streams import Limited

_QUIET: Final = 60.0  # seconds without another word where the endpoint does not say how long it limits


class Quota(Backoff):
    """A `Backoff` that keeps in mind what it is asked about. Make it with `watching`."""

    _time: Callable[[], float]
    _until: float
    _news: Limited | None

    @classmethod
    def watching(cls, backoff: Backoff, time: Callable[[], float]) -> Quota:
        """The same backoff. `time` tells the seconds since 1970."""
        quota = cls(*backoff)
        quota._time, quota._until, quota._news = time, -math.inf, None
        return quota

    def wait(self, error: RetryableError, attempt: int, elapsed: float, random: Callable[[], float]) -> float | None:
        """See `Backoff.wait`."""
        now = self._time()
        if isinstance(error, RateLimitError) and now >= self._until:
            self._news = Limited(None if error.wait is None else now + error.wait)
            self._until = now + (_QUIET if error.wait is None else error.wait)
        return super().wait(error, attempt, elapsed, random)

    def told(self, results: Iterable[Any]) -> Iterator[Any]:
        """Passes results on, and between them, once for each time that the endpoint limits the rate, a `Limited`."""
        try:
            for result in results:
                yield from self._take()
                yield result
        except Exception:
            yield from self._take()
            raise

    def _take(self) -> Iterator[Limited]:
        if self._news is not None:
            yield self._news
            self._news = None
