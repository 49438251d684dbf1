"""Notices that the endpoint limits the rate, so that whoever waits for rows can be told why there are none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from connector.base.errors import RateLimitError, RetryableError
from connector.base.streams import Limited

_QUIET: Final = 60.0  # seconds without another word where the endpoint does not say how long it limits


class Quota:
    """Is told of failed calls. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._news: Limited | None = None

    def failed(self, error: RetryableError, now: float) -> None:
        """Takes note of a failure, if it is a limit that is not known yet."""
        if isinstance(error, RateLimitError) and now >= self._until:
            self._news = Limited(None if error.wait is None else now + error.wait)
            self._until = now + (_QUIET if error.wait is None else error.wait)

    def told(self, results: Iterable[Any]) -> Iterator[Any]:
        """Passes results on, and between them, once for each time that the endpoint limits the rate, a `Limited`."""
        try:
            for result in results:
                if self._news is not None:
                    yield from self._take()
                yield result
        except Exception:
            yield from self._take()
            raise

    def _take(self) -> Iterator[Limited]:
        if self._news is not None:
            yield self._news
            self._news = None
