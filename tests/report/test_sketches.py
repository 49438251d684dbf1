"""What is kept of a stream: right where it is short, close where it is long, and as large in both cases."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.report.sketches import Sample, Timeline, Top, Values, rank_of

FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9).map(float)


def sample(values: Iterable[float]) -> Sample:
    kept = Sample()
    for number, value in enumerate(values):
        kept.add(value, rank_of(number))
    return kept


@given(st.lists(FINITE, min_size=1, max_size=300))
@example([2.4e71, -3.1e-254])  # in steps from zero, the lesser one is too close to it for a float
@example([math.nextafter(0.7, 0), 1.7])  # a hair below an edge
@example([1_700_000_000.006, 1_700_000_000.1])  # edges need more digits than most numbers
def test_a_short_stream_is_known_exactly_whatever_its_numbers(values: list[float]) -> None:
    known = sample(values).distribution()
    assert known is not None
    ordered = sorted(values)
    assert (known.count, known.minimum, known.maximum) == (len(values), ordered[0], ordered[-1])
    assert known.median == ordered[math.ceil(len(values) / 2) - 1]
    assert sum(each.count for each in known.bins) == len(values)
    assert len(known.bins) <= 60
    assert all(each.low <= each.high for each in known.bins)
    assert all(math.isfinite(each.low + each.high) or abs(each.high) > 1e300 for each in known.bins)
    if len(known.bins) > 1:
        assert known.bins[0].low <= ordered[0]
        assert all(one.high == pytest.approx(other.low) for one, other in zip(known.bins, known.bins[1:], strict=False))


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "even": lambda rng: rng.uniform(-5, 5),
    "skewed": lambda rng: rng.lognormvariate(6, 0.5),
    "far from zero": lambda rng: 1.7e9 + rng.random(),
    "whole": lambda rng: float(rng.randint(0, 9)),
}


@pytest.mark.parametrize("draw", SHAPES.values(), ids=SHAPES)
def test_a_long_stream_is_sampled_closely_in_the_same_memory(draw: Callable[[random.Random], float]) -> None:
    rng = random.Random(5)
    values = [draw(rng) for _ in range(200_000)]
    kept = sample(values)
    known = kept.distribution()
    assert known is not None
    ordered = sorted(values)
    assert (known.sampled, known.count, known.maximum) == (10_000, 200_000, ordered[-1])
    assert known.mean == pytest.approx(sum(values) / len(values))
    assert ordered[95_000] <= known.median <= ordered[105_000]
    assert ordered[188_000] <= known.p95 <= ordered[192_000]
    assert sum(each.count for each in known.bins) == pytest.approx(200_000, rel=0.01)
    assert sys.getsizeof(kept._kept) < 200_000  # noqa: SLF001 - its memory is what is held to a bound


def test_the_same_rows_give_the_same_sample_in_whatever_order_they_come() -> None:
    rows = [(number, number * 7919 % 100_003 / 7) for number in range(50_000)]
    found = []
    for seed in range(3):
        kept = Sample()
        for number, value in rows:
            kept.add(value, rank_of(number))
        found.append(kept.distribution())
        random.Random(seed).shuffle(rows)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("period", [2, 3, 5, 7, 8, 13, 89, 610, 1_000])
def test_the_sample_of_what_comes_again_and_again_is_even(period: int) -> None:
    known = sample(float(number % period < period / 2) for number in range(100_000)).distribution()
    assert known is not None
    assert known.mean == pytest.approx((period + 1) // 2 / period, abs=0.001)
    ones = sum(each.count for each in known.bins if each.low == 1)
    assert ones / 100_000 == pytest.approx(known.mean, abs=0.02)


def test_few_far_numbers_do_not_flatten_the_others() -> None:
    known = sample([*map(float, range(990)), 1e6, 2e6]).distribution()
    assert known is not None
    assert known.beyond == 2
    assert known.bins[-1].high < 2_000
    assert sum(each.count for each in known.bins) == 992


def test_whole_numbers_get_whole_edges() -> None:
    known = sample([1.0, 2.0, 2.0, 3.0]).distribution()
    assert known is not None
    assert [(each.low, each.high, each.count) for each in known.bins] == [(1, 2, 1), (2, 3, 2), (3, 4, 1)]


def test_no_number_has_no_distribution() -> None:
    assert Sample().distribution() is None


def test_values_are_counted_until_there_are_too_many_or_one_is_long() -> None:
    few, many, long = Values(), Values(), Values()
    for number in range(5_000):
        few.add(f"v{number % 3}")
        many.add(f"v{number}")
    long.add("x" * 81)
    assert (few.distinct, many.distinct, long.distinct) == (3, None, None)
    assert [(each.value, each.count) for each in few.most_common(2)] == [("v0", 1667), ("v1", 1667)]
    assert [(each.value, each.count) for each in few.most_common(5, ["v9"])][-1] == ("v9", 0)


def test_the_top_is_that_of_all_and_the_earlier_of_equals() -> None:
    marks = list(enumerate([5, 1, 9, 9, 2, 9, 9]))
    for order in (marks, marks[::-1], marks[3:] + marks[:3]):
        top: Top[int] = Top(3)
        for number, mark in order:
            top.add(mark, number, partial(int, number))
        assert top.items() == [2, 3, 5]


@pytest.mark.parametrize("seconds", [0.01, 3, 59.99, 6_000, 1e6])
def test_a_timeline_has_few_intervals_however_long_it_is(seconds: float) -> None:
    timeline = Timeline()
    for number in range(1_000):
        timeline.add(seconds * number / 1_000, 100, is_failed=number % 4 == 0)
    found = timeline.intervals()
    assert len(found) <= 60
    assert (sum(each.answered for each in found), sum(each.failed for each in found)) == (750, 250)
    assert all(each.median_ms == pytest.approx(100, rel=0.05) for each in found)
    if len(found) > 10:
        rates = [(each.answered + each.failed) / each.seconds for each in found]
        assert max(rates) < 1.5 * min(rates)


def test_a_pause_is_a_part_of_the_timeline() -> None:
    timeline = Timeline()
    timeline.add(0.05, 10, is_failed=False)
    timeline.add(2.05, None, is_failed=True)
    found = timeline.intervals()
    assert (found[0].answered, found[-1].failed) == (1, 1)
    assert [each.median_ms for each in found if not each.answered] == [None] * (len(found) - 1)


def test_latencies_over_time_keep_their_order_of_size() -> None:
    timeline = Timeline()
    for number in range(100):
        timeline.add(0, 100 if number < 90 else 20_000, is_failed=False)
    (found,) = timeline.intervals()
    assert found.median_ms == pytest.approx(100, rel=0.05)
    assert found.p95_ms == pytest.approx(20_000, rel=0.05)
