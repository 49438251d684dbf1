"""Amounts as text for people: counts, money, times, rates and sizes."""

from __future__ import annotations

import math
from typing import Final

_TINY: Final = 1e-9
_MINUTE: Final = 60
_TEN: Final = 10  # from here on, a rate is shown as a whole number
_BYTES: Final = 1000  # of a kB


def counted(number: int, one: str, many: str = "") -> str:
    """Returns a count with its noun: 1 call, 1,200 calls; `many` is the plural if it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def dollars(amount: float) -> str:
    """Returns an amount of USD, to the cent or to two significant digits: $12.50, $0.031, $0.0000087."""
    if 0 < amount < _TINY:
        return f"${amount:.1e}"
    decimals = max(2, 1 - math.floor(math.log10(amount))) if amount else 2
    return f"${amount:,.{decimals}f}"


def duration(seconds: float) -> str:
    """Returns a time: 4.2 s, 3m07s, 2h05m."""
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def pace(rows: float) -> str:
    """Returns a rate per second, minute or hour, whichever is easiest to read: 1,240 rows/s, 3.4 rows/s, 59 rows/min.

    Args:
        rows: Rows per second.
    """
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if rows * seconds >= 1 or unit == "h":
            break
    number = rows * seconds
    return f"{number:,.0f} rows/{unit}" if number >= _TEN else f"{number:.1f} rows/{unit}"


def size(count: float) -> str:
    """Returns a number of bytes: 1 byte, 740 bytes, 1.9 MB."""
    if count < _BYTES:
        return counted(round(count), "byte")
    for unit in ("kB", "MB"):
        count /= _BYTES
        if count < _BYTES:
            return f"{count:,.1f} {unit}"
    return f"{count / _BYTES:,.1f} GB"
