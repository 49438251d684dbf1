"""Confidence intervals and significance tests, by SciPy (the extra `evaluate`). All intervals are at 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 2_000
_AT_ONCE: Final = 2_000_000  # numbers of resamples in memory at a time
_BOTH_ENDS: Final = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2))
_POWER: Final = float(stats.norm.ppf(0.8))
_LEAST: Final = 2  # values that an interval needs


class Interval(NamedTuple):
    """An estimate, and the ends of its 95 % interval; these are `None` if there is too little data."""

    value: float
    low: float | None
    high: float | None


def proportion(count: int, total: int) -> Interval | None:
    """Returns a share with its interval; `None` if `total` is 0.

    Wilson's score interval: it holds its level with few rows, and has a width at 0 % and 100 % (Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 22:209-212, 1927; recommended by Brown, Cai and
    DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16:101-133, 2001)::

        (p + z²/2n ± z·√(p(1 - p)/n + z²/4n²)) / (1 + z²/n)
    """
    if not total:
        return None
    found = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(count / total, float(found.low), float(found.high))


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the probability of this difference or a greater one if both are right equally often.

    McNemar's exact test: only the rows on which one is right and the other wrong count, and each of them is then the
    toss of a fair coin (McNemar, Psychometrika 12:153-157, 1947; exact by the binomial distribution, two-sided).
    """
    rows = only_first + only_second
    return float(stats.binomtest(only_first, rows).pvalue) if rows else 1.0


def paired_difference(both: int, only_first: int, only_second: int, neither: int) -> Interval | None:
    """Returns by how much more often the second is right than the first, on the same rows; `None` without rows.

    Newcombe's hybrid score interval for paired proportions, with his continuity correction of φ (Newcombe, "Improved
    confidence intervals for the difference between binomial proportions based on paired data", Statistics in Medicine
    17:2635-2650, 1998, method 10). It combines both Wilson intervals and their correlation φ, and has a width even if
    all rows agree::

        θ - √((p₂ - l₂)² - 2φ(p₂ - l₂)(u₁ - p₁) + (u₁ - p₁)²)   to   θ + √(…)   with θ = p₂ - p₁
    """
    rows = both + only_first + only_second + neither
    first, second = proportion(both + only_first, rows), proportion(both + only_second, rows)
    if first is None or second is None:
        return None
    phi = _correlation(both, only_first, only_second, neither)
    below_second, above_second = second.value - (second.low or 0), (second.high or 0) - second.value
    below_first, above_first = first.value - (first.low or 0), (first.high or 0) - first.value
    difference = (only_second - only_first) / rows
    return Interval(
        difference,
        difference - _hypotenuse(below_second, above_first, phi),
        difference + _hypotenuse(above_second, below_first, phi),
    )


def _hypotenuse(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    excess: float = both * neither - only_first * only_second
    if excess > 0:
        excess = max(0, excess - (both + only_first + only_second + neither) / 2)
    return float(excess / math.sqrt(margins))


def mean(values: Sequence[float]) -> Interval | None:
    """Returns a mean with its bootstrap percentile interval; `None` without values.

    On paired differences it is the paired bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapters 13 and 8.5). The seed is fixed, so the same values give the same interval.
    """
    if not values:
        return None
    data = np.asarray(values, dtype=float)
    average = float(data.mean())
    if len(values) < _LEAST:
        return Interval(average, None, None)
    found = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(average, float(found.low), float(found.high))


def rows_needed(only_first: int, only_second: int, rows: int) -> int | None:
    """Returns how many rows would show a difference of this size four times out of five; `None` if there is none.

    Connor's sample size for paired proportions at 5 % and a power of 80 % (Connor, "Sample size for testing differences
    in proportions for the paired-sample design", Biometrics 43:207-211, 1987), where ψ is the share of rows on which
    only one is right, and δ the difference::

        n = (z₀.₉₇₅·√ψ + z₀.₈·√(ψ - δ²))² / δ²
    """
    if only_first == only_second:
        return None
    share, difference = (only_first + only_second) / rows, (only_second - only_first) / rows
    root = _BOTH_ENDS * math.sqrt(share) + _POWER * math.sqrt(share - difference**2)
    return math.ceil((root / difference) ** 2)
