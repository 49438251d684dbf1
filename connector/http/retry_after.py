"""How long a reply's headers ask to wait: Retry-After in all its spellings, and rate-limit resets.

Nothing here sleeps or reads a clock: `now` is in seconds since 1970, and waits are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from connector.base.regex import regex

_WAITS: Final = ("retry-after", "llm_provider-retry-after", "x-ratelimit-retry-after")
_BUCKETS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER: Final = regex(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_DURATION: Final = regex(rf"({_NUMBER.pattern})({'|'.join(_UNITS)})")
_LONGEST: Final = 1e9  # seconds; a larger number is a date in disguise (Unix time), not a wait
_READ: Final = 100  # characters: no date or duration is longer


def seconds(duration: str) -> float | None:
    """Returns the seconds of a duration in a rate-limit header: `20ms`, `6m0s`, `1h2m3.5s` (Go) or a bare number.

    `None` for anything else.
    """
    duration = duration.strip()
    if not duration or len(duration) > _READ:
        return None
    if _NUMBER.fullmatch(duration):
        value = float(duration)
    else:
        value, end = 0.0, 0
        while part := _DURATION.match(duration, end):
            value, end = value + float(part[1]) * _UNITS[part[2]], part.end()
        if end < len(duration):
            return None
    return value if value < _LONGEST else None


def asked_wait(headers: Mapping[str, str], *, now: float) -> float | None:
    """Returns the seconds that a reply asks to wait: `retry-after-ms`, or Retry-After (RFC 9110, section 10.2.3).

    Without these, the time until an empty bucket (`x-ratelimit-remaining-*: 0`) is full again. `None` if the
    headers ask for nothing, or for what cannot be read. `now` is the wall clock, in seconds since 1970.
    """
    milliseconds = seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    for name in _WAITS:
        if name in headers:
            wait = seconds(headers[name])
            wait = _until(headers[name], now) if wait is None else wait
            if wait is not None:
                return wait
    return empty_wait(headers)


def empty_wait(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds until all empty rate-limit buckets are full again; `None` where none is empty."""
    longest: float | None = None
    for remaining, reset in _BUCKETS:
        if headers.get(remaining) == "0":
            wait = seconds(headers.get(reset, ""))
            longest = wait if longest is None or (wait is not None and wait > longest) else longest
    return longest


def has_room(headers: Mapping[str, str]) -> bool:
    """Returns whether a reply reports rate-limit buckets, none of them empty."""
    told = [headers[remaining] for remaining, _ in _BUCKETS if remaining in headers]
    return bool(told) and "0" not in told


def _until(date: str, now: float) -> float | None:
    """Returns the seconds until an HTTP date (RFC 9110, section 5.6.7), without a zone in GMT; `None` if it is none."""
    if len(date) > _READ:
        return None
    try:
        parsed = parsedate_to_datetime(date)
        return max(0.0, (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None
