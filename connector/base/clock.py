"""Time and randomness as a parameter, so that waits and jitter are tested without sleeping."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Clock(NamedTuple):
    """The clocks `monotonic` for waits and `time` for dates (both in seconds), and `random` for jitter."""

    monotonic: Callable[[], float] = time.monotonic
    time: Callable[[], float] = time.time
    random: Callable[[], float] = random.random


def moment(seconds: float | None) -> str | None:
    """Returns seconds since 1970 as text in UTC, to the second (ISO 8601); `None` for none, or one of no calendar."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
