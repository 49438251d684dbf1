"""What is kept of a stream of any length, in bounded memory: a random sample, counts of values, the top, a timeline."""

from __future__ import annotations

import heapq
import math
import random
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from connector.report.figures import Bin, Distribution, Interval, ValueCount

_SAMPLED: Final = 10_000
_SEED: Final = 20_261_129  # the same rows give the same report
_BINS: Final = 24
_STEPS: Final = (1, 2, 2.5, 5, 10)
_FAR: Final = 3  # times as far as most values: such a tail is counted in the last bin
_HUGE: Final = 1e300  # beyond which there is no room for edges
_MOST: Final = 0.99
_MOST_VALUES: Final = 1_000
_LONGEST_VALUE: Final = 80  # characters; what is longer is no category
_INTERVALS: Final = 60
_PER_OCTAVE: Final = 16  # bins of latencies: about 4 % wide

Item = TypeVar("Item")


class Sample:
    """A uniform random sample of numbers (Li's algorithm L), with exact count, extremes and mean."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)  # noqa: S311 - a sample, no secret
        self._kept = array("d")
        self._skip = 0
        self._weight = 1.0
        self.count = 0
        self._sum = 0.0
        self._least = math.inf
        self._most = -math.inf

    def add(self, value: float) -> None:
        """Counts a finite number."""
        self.count += 1
        self._sum += value
        self._least = min(self._least, value)
        self._most = max(self._most, value)
        if self._skip:
            self._skip -= 1
        elif len(self._kept) < _SAMPLED:
            self._kept.append(value)
            if len(self._kept) == _SAMPLED:
                self._draw()
        else:
            self._kept[self._random.randrange(_SAMPLED)] = value
            self._draw()

    def _draw(self) -> None:
        """Draws how many values to pass over until one takes the place of another."""
        self._weight *= math.exp(math.log(1.0 - self._random.random()) / _SAMPLED)
        self._skip = int(math.log(1.0 - self._random.random()) / math.log1p(-self._weight))

    def distribution(self) -> Distribution | None:
        """Returns what is known of all values; `None` if there were none."""
        if not self.count:
            return None
        ordered = sorted(self._kept)
        mean = self._sum / self.count
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
    """Returns a quantile: the smallest value that is not less than this share of all."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _bins(ordered: list[float], least: float, most: float, count: int) -> tuple[list[Bin], int]:
    """Returns a histogram with round edges, counts scaled up to all values, and how many lie beyond the last edge."""
    are_whole = all(value.is_integer() for value in ordered)
    nearly = _at(ordered, _MOST)
    top = nearly if most - least > _FAR * (nearly - least) > 0 else most
    step = float(_step((top - least) / _BINS, are_whole=are_whole))
    digits = 2 - math.floor(math.log10(step))  # of edges: adding steps makes more, which mean nothing
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
    """Returns a round width that is not less than the given one."""
    if width <= 0 or not math.isfinite(width):
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next((factor * power for factor in _STEPS if factor * power >= width), 10 * power)
    return max(1.0, math.ceil(step)) if are_whole else step


def _clean(value: float) -> float:
    """Returns a number without the last digits, which adding steps has made of it."""
    return float(f"{value:.12g}")


class Values:
    """Counts each different value; gives up where there are more than 1,000, or a long one."""

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
        """How many there are; `None` if that is not known."""
        return None if self._counts is None else len(self._counts)

    def most_common(self, number: int, also: Iterable[str] = ()) -> list[ValueCount]:
        """Returns the most frequent values, and of `also` those that never came."""
        counts = self._counts or Counter()
        never = [ValueCount(value, 0) for value in also if value not in counts]
        ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))  # the same in whatever order rows end
        return [*(ValueCount(value, count) for value, count in ordered[:number]), *never][:number]


class Top(Generic[Item]):
    """The items with the highest marks; of equal ones the earlier."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._heap: list[tuple[float, int, Item]] = []
        self._seen = 0

    def add(self, mark: float, item: Item) -> None:
        """Keeps an item if its mark is among the highest so far."""
        self._seen += 1
        if len(self._heap) < self._number:
            heapq.heappush(self._heap, (mark, -self._seen, item))
        elif mark > self._heap[0][0]:
            heapq.heapreplace(self._heap, (mark, -self._seen, item))

    def items(self) -> list[Item]:
        """Returns them, the highest mark first."""
        return [item for _, _, item in sorted(self._heap, reverse=True)]


class _Stretch(NamedTuple):
    """Counts of one interval: new answers, failures, and latencies by the bin of their logarithm."""

    answered: int
    failed: int
    latencies: Counter[int]

    def with_(self, other: _Stretch) -> _Stretch:
        """Returns both together."""
        return _Stretch(self.answered + other.answered, self.failed + other.failed, self.latencies + other.latencies)


class Timeline:
    """Answers and latencies over time, in at most 60 intervals, whose length doubles as the run goes on.

    Args:
        seconds: The length of the first intervals: no shorter than what times are rounded to.
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
        """Returns the intervals from the start to the last answer, the empty ones too."""
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
            found.append(Interval(_clean(start), _clean(seconds), each.answered, each.failed, median, p95))
        return found


def _latency(counts: Counter[int], share: float) -> float | None:
    left = share * counts.total()
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return round(2 ** (place / _PER_OCTAVE), 1)
    return None
