"""An evaluation in plain words: lines for a terminal, and sentences for the page."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from connector.base.amounts import counted, dollars
from connector.base.terminal import aligned
from connector.evaluate.figures import Comparison, Evaluation, Row, Score, Standing
from connector.evaluate.statistics import Interval
from connector.report.html import ms, number

_SHOWN_ROWS: Final = 5
_SHOWN_LABELS: Final = 8
_WIDTH: Final = 100
_CELL: Final = 70
_ENOUGH: Final = 0.005  # the smallest share by which costs count as different
_MANY: Final = 100_000  # more rows than anybody labels


def lines(found: Evaluation) -> Iterator[str]:
    """Yields an evaluation as lines of text."""
    about = f" against {', '.join(found.targets)}" if found.targets else ""
    chosen = f", a random sample with seed {found.seed}" if found.sampled else ""
    yield f"{counted(found.compared, 'row')} of {found.input}{about}{chosen}"
    if found.left_out:
        yield f"{counted(found.left_out, 'row')} left out: skipped by where"
    yield ""
    yield from aligned([["", *(f"{each.name}  {_short(each.title, 24)}" for each in found.variants)], *_figures(found)])
    for variant in found.variants:
        for score in variant.scores:
            if score.labels:
                yield ""
                yield f"{variant.name}: {score.target}"
                yield from aligned([["label", "rows", "precision", "recall", "F1"], *_labels(score)])
    for each in found.comparisons:
        yield ""
        yield from textwrap.wrap(verdict(each), _WIDTH)
    differing = [row for row in found.rows if row.rank < 2]  # noqa: PLR2004 - the ranks of rows that differ
    wrong = [row for row in found.rows if row.rank == 2]  # noqa: PLR2004 - the rank of rows that all get wrong
    for title, rows in (("the variants differ", differing), ("all are wrong", wrong)):
        if rows:
            yield ""
            yield f"{counted(len(rows), 'row')} on which {title}{', such as' if len(rows) > _SHOWN_ROWS else ''}:"
            for row in rows[:_SHOWN_ROWS]:
                yield from _row(row)


def verdict(each: Comparison) -> str:
    """Returns the result of a comparison in a sentence or two."""
    first, second = each.first, each.second
    cost = costs(each)
    if each.by == "nothing":
        share = 100 * each.same / each.rows if each.rows else 0
        return f"{first} and {second} give the same answer for {share:.1f} % of the rows{_and(cost, second)}."
    if each.difference is None:
        return f"There are no rows to compare {first} and {second} on."
    points = 100 * each.difference.value
    if each.by == "judge":
        told = (
            f"the judge prefers {second} on {counted(each.only_second, 'row')}, {first} on {each.only_first:,}, "
            f"and neither on {each.neither:,}"
        )
        head = {
            "better": f"{second} is better than {first} according to the judge",
            "worse": f"{second} is worse than {first} according to the judge",
            "unclear": f"The judge does not show which of {first} and {second} is better",
        }[each.verdict]
        unsteady = (
            f" Its verdict changed with the order of the answers on {counted(each.unsteady, 'row')}."
            if each.unsteady
            else ""
        )
        return f"{head}: {told} ({p_value(each.p_value)}){_and(cost, second)}.{unsteady}"
    span = f"95 % interval {span_of(each.difference)} points, {p_value(each.p_value)}"
    errors = "".join(f" {_error(name, found, second)}" for name, found in each.errors.items())
    if each.verdict == "unclear":
        rows = each.rows_needed
        enough = (
            "" if rows is None or rows <= each.rows else f" About {_about(rows)} rows would show such a difference."
        )
        how = f"{second} is right on {abs(each.only_second - each.only_first):,} "
        how += "more" if points > 0 else "fewer"
        how = "both are right equally often" if not points else how
        return (
            f"{counted(each.rows, 'row')} do not show whether {second} is better than {first}: {how} ({span})"
            f"{_and(cost, second)}.{enough}{errors}"
        )
    return f"{second} is {each.verdict} than {first} by {abs(points):.1f} points ({span}){_and(cost, second)}.{errors}"


def _error(name: str, found: Interval, second: str) -> str:
    """Returns a sentence on how much the error of a number differs, and whether that may be chance."""
    if found.low is None or found.high is None or not found.value:
        return f"Its mean absolute error of {name} is the same."
    change = "less" if found.value < 0 else "more"
    may_be = "" if found.low > 0 or found.high < 0 else ", which may be chance"
    ends = f"95 % interval {found.low:+.3g} to {found.high:+.3g}"
    return f"The mean absolute error of {second} in {name} is {abs(found.value):.3g} {change} ({ends}{may_be})."


def costs(each: Comparison) -> str:
    """Returns what the second costs compared with the first; empty if that is unknown."""
    if each.cost_ratio is None:
        return ""
    change = each.cost_ratio - 1
    if abs(change) < _ENOUGH:
        return "costs the same"
    if change >= 1:
        return f"costs {each.cost_ratio:.1f} times as much"
    return f"costs {abs(change):.0%} {'less' if change < 0 else 'more'}".replace("%", " %")


def _and(cost: str, name: str) -> str:
    return f"; {name} {cost}" if cost else ""


def _about(rows: int) -> str:
    return "a hundred thousand or more" if rows >= _MANY else f"{rows:,}"


def p_value(value: float | None) -> str:
    """Returns a probability for people: p = 0.042."""
    return "p unknown" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"  # noqa: PLR2004


def percent(found: Interval | None) -> str:
    """Returns a share with its interval: 90.0 % (69.9 to 97.2)."""
    if found is None:
        return "n/a"
    return f"{100 * found.value:.1f} % ({100 * (found.low or 0):.1f} to {100 * (found.high or 0):.1f})"


def amount(found: Interval | None) -> str:
    """Returns a number with its interval."""
    if found is None:
        return "n/a"
    ends = "" if found.low is None or found.high is None else f" ({number(found.low)} to {number(found.high)})"
    return f"{number(found.value)}{ends}"


def span_of(found: Interval) -> str:
    """Returns the ends of an interval of a difference, in points: -2.0 to +6.8."""
    return f"{100 * (found.low or 0):+.1f} to {100 * (found.high or 0):+.1f}"


def figures_of(found: Evaluation) -> Iterator[tuple[str, list[str]]]:
    """Yields the figures: the name of each, and a text for each variant."""
    variants = found.variants
    yield "model", [each.model or "n/a" for each in variants]
    if any(each.accuracy for each in variants) and len(found.targets) > 1:
        yield "all right", [percent(each.accuracy) for each in variants]
    for place, target in enumerate(found.targets):
        yield from _of_target(target, [each.scores[place] for each in variants])
    yield "answered", [f"{each.answered:,} of {each.rows:,}" for each in variants]
    yield "cost per 1,000 rows", [_cost(each) for each in variants]
    yield "tokens in / out", [f"{_count(each.input_tokens)} / {_count(each.output_tokens)}" for each in variants]
    yield "latency, half / 95 %", [f"{ms(each.median_ms)} / {ms(each.p95_ms)}" for each in variants]
    yield "paid for now", [_paid(each) for each in variants]


def _of_target(target: str, scores: Sequence[Score]) -> Iterator[tuple[str, list[str]]]:
    exact = {"text": "exact: ", "list": "same set: ", "number": "exact: "}.get(scores[0].scale, "")
    yield f"{exact}{target}", [percent(each.accuracy) for each in scores]
    if any(each.mean_error for each in scores):
        yield "mean absolute error", [amount(each.mean_error) for each in scores]
    if any(each.close for each in scores):
        yield "close", [percent(each.close) for each in scores]
    if any(each.overlap for each in scores):
        name = "similarity" if scores[0].scale == "text" else "overlap (F1)"
        yield name, [amount(each.overlap) for each in scores]


def _figures(found: Evaluation) -> Iterator[list[str]]:
    for name, cells in figures_of(found):
        yield [name, *cells]


def _labels(score: Score) -> Iterator[list[str]]:
    for each in score.labels[:_SHOWN_LABELS]:
        f1 = "n/a" if each.f1 is None else f"{each.f1:.3f}"
        yield [_short(each.label, 30), f"{each.rows:,}", percent(each.precision), percent(each.recall), f1]
    if len(score.labels) > _SHOWN_LABELS:
        yield [f"and {len(score.labels) - _SHOWN_LABELS} more", "", "", "", ""]


def _cost(each: Standing) -> str:
    return "unknown" if each.cost_per_1000_usd is None else dollars(each.cost_per_1000_usd)


def _paid(each: Standing) -> str:
    cost = "" if each.paid_usd is None else f", {dollars(each.paid_usd)}"
    return f"{counted(each.paid_rows, 'row')}{cost}" if each.paid_rows else "nothing: all known"


def _count(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"


def _row(row: Row) -> Iterator[str]:
    texts = (str(value) for value in row.input.values() if isinstance(value, str))
    yield f"  row {row.number:,}  {_short(max(texts, key=len, default=''), _CELL)}"
    if row.truth:
        yield f"    truth  {_short(cells(row.truth), _CELL)}"
    for name, each in row.answers.items():
        word = {True: "right", False: "wrong", None: ""}[each.is_right]
        said = cells(each.columns) if each.error is None else f"{each.status}: {each.error}"
        yield f"    {name:5}  {_short(said, _CELL)}{f'  {word}' if word else ''}"


def cells(columns: dict[str, object]) -> str:
    """Returns the values of columns on one line; a single one without its name."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        for name, value in columns.items()
    }
    return (
        next(iter(texts.values())) if len(texts) == 1 else ", ".join(f"{name}: {text}" for name, text in texts.items())
    )


def _short(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
