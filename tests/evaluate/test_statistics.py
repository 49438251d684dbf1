"""Intervals and tests, held to the figures of the papers that they come from, and to what chance really does."""

from __future__ import annotations

import math
import random

import pytest

pytest.importorskip("scipy", reason="the extra evaluate is not installed")

from connector.evaluate import statistics


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_shares_have_wilsons_interval(count: int, total: int, low: float, high: float) -> None:
    """The examples of Newcombe, Statistics in Medicine 17:857-872 (1998), table I, method 3."""
    found = statistics.proportion(count, total)
    assert found is not None
    assert found == pytest.approx((count / total, low, high), abs=5e-5)


def test_paired_differences_have_newcombes_interval() -> None:
    """The first example of Newcombe, Statistics in Medicine 17:2635-2650 (1998), table III, method 10."""
    found = statistics.paired_difference(both=36, only_first=2, only_second=12, neither=0)
    assert found == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    swapped = statistics.paired_difference(both=36, only_first=12, only_second=2, neither=0)
    assert swapped == pytest.approx((-0.2, -0.3404, -0.0569), abs=5e-5)


def test_twenty_rows_that_agree_prove_nothing() -> None:
    found = statistics.paired_difference(20, 0, 0, 0)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.1 < 0.1 < found.high
    assert statistics.mcnemar(0, 0) == 1


def test_mcnemars_test_is_exact() -> None:
    assert statistics.mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert statistics.mcnemar(9, 1) == statistics.mcnemar(1, 9)
    assert statistics.mcnemar(5, 5) == 1


def test_means_have_an_interval_that_holds_them_as_often_as_it_says() -> None:
    drawn = random.Random(7)
    hits = 0
    for _ in range(100):
        found = statistics.mean([drawn.gauss(3, 1) for _ in range(60)])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3 <= found.high
    assert 88 <= hits <= 100
    assert statistics.mean([]) is None
    assert statistics.mean([4.0]) == (4.0, None, None)


def test_the_rows_that_are_needed_show_the_difference_four_times_in_five() -> None:
    rows = statistics.rows_needed(only_first=4, only_second=10, rows=50)
    assert rows is not None
    drawn = random.Random(3)
    shown = 0
    for _ in range(200):
        values = [drawn.random() for _ in range(rows)]
        first, second = sum(each < 4 / 50 for each in values), sum(4 / 50 <= each < 14 / 50 for each in values)
        shown += statistics.mcnemar(first, second) < 0.05
    assert 0.7 <= shown / 200 <= 0.9
    assert statistics.rows_needed(3, 3, 50) is None
    assert math.isfinite(rows)
