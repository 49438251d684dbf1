"""Sketches of a stream of any length, in bounded memory: a random sample, counts of values, the top, a timeline."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from connector.report.figures import Bin, Distribution, Interval, ValueCount

_SAMPLED: Final = 10_000
_SPARE: Final = 2_500  # more that are kept before the sample is pruned again
_ALL: Final = 2**64 - 1
_BINS: Final = 24
_STEPS: Final = (1, 2, 2.5, 5, 10)
_FAR: Final = 3  # a tail that reaches so many times as far as most values is counted in the last bin
_HUGE: Final = 1e300  # beyond this there is no room for edges
_MOST: Final = 0.99
_MOST_VALUES: Final = 1_000
_LONGEST_VALUE: Final = 80  # characters; a longer value is not a category
_INTERVALS: Final = 60
_PER_OCTAVE: Final = 16  # bins of latencies: about 4 % wide

Item = TypeVar("Item")


def rank_of(number: int) -> int:
    """Returns 64 pseudorandom bits for the number of a row, always the same (the finalizer of SplitMix64)."""
    mixed = (number + 1) * 0x9E3779B97F4A7C15 & _ALL
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _ALL
    return mixed ^ (mixed >> 31)


class Sample:
    """A uniform random sample of numbers that does not depend on their order, with exact count, extremes and mean."""

    def __init__(self) -> None:
        self._kept = array("d")
        self._ranks = array("Q")
        self._limit = _ALL + 1
        self.count = 0
        self._sum = 0.0
        self._least = math.inf
        self._most = -math.inf

    def add(self, value: float, rank: int) -> None:
        """Adds a finite number. The numbers of the lowest ranks are the sample."""
        self.count += 1
        self._sum += value
        self._least = min(self._least, value)
        self._most = max(self._most, value)
        if rank < self._limit:
            self._kept.append(value)
            self._ranks.append(rank)
            if len(self._kept) >= _SAMPLED + _SPARE:
                self._prune()

    def _prune(self) -> None:
        """Keeps the numbers of the lowest ranks."""
        lowest = sorted(range(len(self._ranks)), key=self._ranks.__getitem__)[:_SAMPLED]
        self._limit = self._ranks[lowest[-1]]
        self._kept = array("d", [self._kept[place] for place in lowest])
        self._ranks = array("Q", [self._ranks[place] for place in lowest])

    def distribution(self) -> Distribution | None:
        """Returns the distribution of all values; `None` if there were none."""
        if not self.count:
            return None
        if len(self._kept) > _SAMPLED:
            self._prune()
        ordered = sorted(self._kept)
        mean = clean(self._sum / self.count)
        bins, beyond = _bins(ordered, self._least, self._most, self.count)
        return Distribution(
            self.count,
            self._least,
            self._most,
            mean if math.isfinite(mean) else _at(ordered, 0.5),
            _at(ordered, 0.5),
            _at(ordered, 0.95),
            len(ordered),
            beyond,
            bins,
        )


def _at(ordered: list[float], share: float) -> float:
    """Returns a quantile: the smallest value that is at least as large as this share of all values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _bins(ordered: list[float], least: float, most: float, count: int) -> tuple[list[Bin], int]:
    """Returns a histogram with round edges, its counts scaled up to `count`, and how many lie beyond the last edge."""
    are_whole = all(value.is_integer() for value in ordered)
    nearly = _at(ordered, _MOST)
    top = nearly if most - least > _FAR * (nearly - least) > 0 else most
    step = float(_step((top - least) / _BINS, are_whole=are_whole))
    digits = 2 - math.floor(math.log10(step))  # of edges: adding steps leaves more, which mean nothing
    low = round(math.floor(least / step) * step, digits)
    if low > least:  # the quotient was rounded up, to a whole number or from a tiny one to zero
        low = round(low - step, digits)
    largest = max(abs(least), abs(top))
    if largest >= _HUGE or step <= 4 * math.ulp(largest) or (top - low) / step >= 2 * _BINS:  # no room for edges
        return [Bin(least, most, count)], 0
    number = max(1, math.floor((top - low) / step) + 1)
    edges = [round(low + place * step, digits) for place in range(number + 1)]
    if edges[-1] < top:  # as with the first one
        edges.append(round(low + (number + 1) * step, digits))
        number += 1
    counts = Counter(min(int((value - low) / step), number - 1) for value in ordered)
    beyond = sum(value >= low + number * step for value in ordered)
    scale = count / len(ordered)
    bins = [Bin(edges[place], edges[place + 1], round(counts[place] * scale)) for place in range(number)]
    return bins, round(beyond * scale)


def _step(width: float, *, are_whole: bool) -> float:
    """Returns a round width, at least the given one."""
    if width <= 0 or not math.isfinite(width):
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next((factor * power for factor in _STEPS if factor * power >= width), 10 * power)
    return max(1.0, math.ceil(step)) if are_whole else step


def clean(value: float) -> float:
    """Returns a number without its last digits, which depend on the order in which numbers were added."""
    return float(f"{value:.12g}")


class Values:
    """Counts each different value; gives up if there are more than 1,000, or a long one."""

    def __init__(self) -> None:
        self._counts: Counter[str] | None = Counter()

    def add(self, value: str) -> None:
        """Counts a value."""
        counts = self._counts
        if counts is None:
            return
        if len(value) > _LONGEST_VALUE or (len(counts) >= _MOST_VALUES and value not in counts):
            self._counts = None
        else:
            counts[value] += 1

    @property
    def distinct(self) -> int | None:
        """How many different values there are; `None` if it gave up."""
        return None if self._counts is None else len(self._counts)

    def most_common(self, number: int, also: Iterable[str] = ()) -> list[ValueCount]:
        """Returns the most frequent values, then those of `also` that never occurred; at most `number` in all."""
        counts = self._counts or Counter()
        never = [ValueCount(value, 0) for value in also if value not in counts]
        ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))  # whatever the order in which rows end
        return [*(ValueCount(value, count) for value, count in ordered[:number]), *never][:number]


class Top(Generic[Item]):
    """The items with the highest marks; at equal marks, those with the lower number, whatever the order of arrival."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._heap: list[tuple[float, int, int, Item]] = []
        self._seen = 0

    def add(self, mark: float, number: int, make: Callable[[], Item]) -> None:
        """Keeps the item that `make` returns if its mark is among the highest so far."""
        self._seen += 1
        if len(self._heap) < self._number:
            heapq.heappush(self._heap, (mark, -number, -self._seen, make()))
        elif (mark, -number) > self._heap[0][:2]:
            heapq.heapreplace(self._heap, (mark, -number, -self._seen, make()))

    def items(self) -> list[Item]:
        """Returns the items, highest mark first."""
        return [item for *_, item in sorted(self._heap, reverse=True)]


class _Stretch(NamedTuple):
    """Counts of one interval: new answers, failures, and latencies by the bin of their logarithm."""

    answered: int
    failed: int
    latencies: Counter[int]

    def with_(self, other: _Stretch) -> _Stretch:
        """Returns the sum of both."""
        return _Stretch(self.answered + other.answered, self.failed + other.failed, self.latencies + other.latencies)


class Timeline:
    """Answers and latencies over time, in at most 60 intervals, whose length doubles as the run goes on.

    Args:
        seconds: The length of the first intervals, at least the resolution of the times.
    """

    def __init__(self, seconds: float = 0.1) -> None:
        self._seconds = seconds
        self._stretches: dict[int, _Stretch] = {}
        self._last = 0.0

    def add(self, at: float, latency_ms: float | None, *, is_failed: bool) -> None:
        """Counts an answer, `at` seconds after the start."""
        at = max(at, 0.0)
        self._last = max(self._last, at)
        while at >= self._seconds * _INTERVALS:
            self._seconds *= 2
            self._merge()
        place = int(at / self._seconds)
        known = self._stretches.get(place)
        stretch = _Stretch(0, 0, Counter()) if known is None else known
        if latency_ms is not None:
            stretch.latencies[round(math.log2(max(latency_ms, 1)) * _PER_OCTAVE)] += 1
        self._stretches[place] = stretch._replace(
            answered=stretch.answered + (not is_failed), failed=stretch.failed + is_failed
        )

    def _merge(self) -> None:
        merged: dict[int, _Stretch] = {}
        for place, each in self._stretches.items():
            other = merged.get(place // 2)
            merged[place // 2] = each if other is None else other.with_(each)
        self._stretches = merged

    def intervals(self) -> list[Interval]:
        """Returns the intervals from the start to the last answer, including empty ones."""
        if not self._stretches:
            return []
        last = max(self._stretches)
        rest = self._last - last * self._seconds
        if last and rest < self._seconds / 4:  # too short to have a rate of its own
            last -= 1
            rest += self._seconds
        found = []
        for place in range(last + 1):
            each = self._stretches.get(place, _Stretch(0, 0, Counter()))
            if place == last and last + 1 in self._stretches:
                each = each.with_(self._stretches[last + 1])
            seconds = max(rest, self._seconds / 4) if place == last else self._seconds
            start, latencies = place * self._seconds, each.latencies
            median, p95 = _latency(latencies, 0.5), _latency(latencies, 0.95)
            found.append(Interval(clean(start), clean(seconds), each.answered, each.failed, median, p95))
        return found


def _latency(counts: Counter[int], share: float) -> float | None:
    left = share * counts.total()
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return round(2 ** (place / _PER_OCTAVE), 1)
    return None
