"""Amounts in words: no cost, rate or time that is told as nothing, and no wrong plural."""

from __future__ import annotations

import pytest

from connector.base.amounts import counted, dollars, duration, pace, size


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ("call",), "0 calls"),
        (1, ("call",), "1 call"),
        (1_200, ("retry", "retries"), "1,200 retries"),
        (1, ("retry", "retries"), "1 retry"),
    ],
)
def test_one_thing_is_told_apart_from_several(number: int, words: tuple[str, ...], told: str) -> None:
    assert counted(number, *words) == told


@pytest.mark.parametrize(
    ("rows", "told"),
    [(1_240.4, "1,240 rows/s"), (3.44, "3.4 rows/s"), (0.99, "59 rows/min"), (0.001, "3.6 rows/h")],
)
def test_a_slow_run_is_shown_by_the_minute_and_never_as_zero(rows: float, told: str) -> None:
    assert pace(rows) == told


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (0, "$0.00"),
        (1_234.567, "$1,234.57"),
        (0.03061, "$0.031"),
        (0.37, "$0.37"),
        (8.7e-6, "$0.0000087"),
        (1e-12, "$1.0e-12"),
        (5e-324, "$4.9e-324"),
    ],
)
def test_no_amount_is_shown_as_nothing(amount: float, told: str) -> None:
    assert dollars(amount) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.97, "1m00s"), (187, "3m07s"), (7500, "2h05m")]
)
def test_a_time_is_shown_in_the_units_that_people_use(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1.0 kB"), (1.9e6, "1.9 MB"), (5e12, "5,000.0 GB")],
)
def test_a_size_is_shown_in_the_unit_that_people_read(count: float, told: str) -> None:
    assert size(count) == told
