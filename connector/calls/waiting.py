"""What a run waits for, in words, so that it does not seem to hang while no row comes."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from connector.base.errors import APIConnectionError, APITimeoutError, ConnectorError, CutError, RateLimitError

_TOLD: Final = 1.0  # seconds; a shorter wait is over before it is read
_WORDS: Final = (
    (RateLimitError, "rate limit"),
    (APITimeoutError, "no answer in time"),
    (APIConnectionError, "endpoint unreachable"),
    (CutError, "a reply broke off"),
)


class Waiting(NamedTuple):
    """What keeps the next call from starting; as text: `429: next call in 18 s`.

    Attributes:
        reason: For people, including what comes next: `429: next call`, `paced to 500 requests a minute`.
        seconds: The time until the next call may start; `None` if that is unknown or too short to report.
    """

    reason: str
    seconds: float | None = None

    def __str__(self) -> str:
        return self.reason if self.seconds is None else f"{self.reason} in {math.ceil(self.seconds)} s"


def paced(rate: str, seconds: float) -> Waiting:
    """Returns that calls are paced, and when the next one starts if people would notice the wait."""
    return Waiting(f"paced to {rate}") if seconds < _TOLD else Waiting(f"paced to {rate}: next call", seconds)


def kind_of(error: ConnectorError) -> str:
    """Returns what went wrong in a word or two: the HTTP status if there is one."""
    if error.http_status is not None:
        return str(error.http_status)
    return next((words for kind, words in _WORDS if isinstance(error, kind)), "the endpoint failed")
