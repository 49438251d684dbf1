"""When to call again: how long the endpoint asks to wait, and how long we wait of our own accord.

Nothing here sleeps or looks at a clock: times come in as numbers of seconds, and waits go out as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from connector.errors import RetryableError

_WAITS: Final = ("retry-after", "llm_provider-retry-after", "x-ratelimit-retry-after")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(duration: str) -> float | None:
    """Reads a duration as rate-limit headers write it: `20ms`, `6m0s`, `1h2m3.5s`, or a bare number of seconds."""
    duration = duration.strip()
    if _DURATION.sub("", duration) == "" and duration:
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))
    try:
        value = float(duration)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def asked_wait(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that a reply asks to wait: `retry-after-ms`, Retry-After (RFC 9110, 10.2.3) in seconds or as a date.

    Where it says nothing of the kind, the reset time of a bucket that is empty (`x-ratelimit-remaining-*: 0`).
    `None` where it asks for nothing, or for what cannot be read.
    """
    milliseconds = seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    for name in _WAITS:
        if name in headers:
            wait = seconds(headers[name])
            return wait if wait is not None else _until(headers[name], now)
    return empty_wait(headers)


def empty_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate-limit buckets that are empty now are filled again; `None` where none is."""
    waits = [
        seconds(headers.get(f"x-ratelimit-reset-{bucket}", ""))
        for bucket in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{bucket}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _until(date: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None


class Backoff(NamedTuple):
    """How a row's call is tried again: exponential, with full jitter, and never before the endpoint allows it.

    Attributes:
        max_retries: Attempts after the first.
        max_wait: Seconds that a single wait may take; a row that is asked to wait longer fails at once.
        max_elapsed: Seconds that a row may take in all, from its first attempt on.
        base: Seconds of the first wait, at most; each further one doubles it, up to `cap`.
    """

    max_retries: int = 4
    max_wait: float = 120.0
    max_elapsed: float = 600.0
    base: float = 0.5
    cap: float = 30.0

    def wait(self, error: RetryableError, attempt: int, elapsed: float, random: Callable[[], float]) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) failed; `None` where the row has to fail.

        `random` gives numbers from 0 up to 1.
        """
        if attempt > self.max_retries:
            return None
        own = random() * min(self.cap, self.base * 2 ** (attempt - 1))
        wait = own if error.wait is None else error.wait + own * 0.1
        if wait > self.max_wait or elapsed + wait > self.max_elapsed:
            return None
        return wait
