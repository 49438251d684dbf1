"""Durations as ISO 8601 text."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_PARTS: Final = (("D", 86_400_000_000), ("H", 3_600_000_000), ("M", 60_000_000))


def iso(value: timedelta) -> str:
    """Returns a duration as ISO 8601, as PostgreSQL writes intervals: each part has the sign, so -1 h is `PT-1H`."""
    left = abs(value) // timedelta(microseconds=1)
    sign = "-" if value < timedelta() else ""
    counts = {}
    for unit, size in _PARTS:
        counts[unit], left = divmod(left, size)
    days = f"{sign}{counts.pop('D')}D" if counts["D"] else ""
    clock = "".join(f"{sign}{count}{unit}" for unit, count in counts.items() if count)
    if left:
        seconds, micros = divmod(left, 1_000_000)
        clock += f"{sign}{seconds}{f'.{micros:06d}'.rstrip('0') if micros else ''}S"
    return f"P{days}T{clock}" if clock else f"P{days}" if days else "PT0S"
