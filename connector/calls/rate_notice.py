"""Notices of the endpoint's rate limits, which tell consumers of rows why none come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from connector.base.errors import RateLimitError, RetryableError
from connector.base.streams import Limited

_QUIET: Final = 60.0  # seconds until the next notice if the endpoint does not say how long the limit lasts


class RateNotice:
    """Whether the endpoint limits the rate, as its failed calls show. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._notice: Limited | None = None

    def failed(self, error: RetryableError, now: float) -> None:
        """Records a failed call if its error is a rate limit that was not yet known."""
        if isinstance(error, RateLimitError) and now >= self._until:
            self._notice = Limited(None if error.wait is None else now + error.wait)
            self._until = now + (_QUIET if error.wait is None else error.wait)

    def interleaved(self, results: Iterable[Any]) -> Iterator[Any]:
        """Passes on results, and adds one `Limited` each time the endpoint limits the rate."""
        try:
            for result in results:
                if self._notice is not None:
                    yield from self._take()
                yield result
        except Exception:
            yield from self._take()
            raise

    def _take(self) -> Iterator[Limited]:
        if self._notice is not None:
            yield self._notice
            self._notice = None
