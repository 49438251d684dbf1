"""The figures of an evaluation, as one record of plain values from which the table, the JSON and the page are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import quantiles
from typing import Any, Final

from connector.base.masking import Masker, bare_url
from connector.base.records import JSON, Outcome, Record, Status
from connector.base.version import __version__
from connector.evaluate import scales, statistics
from connector.evaluate.judge import Verdicts
from connector.evaluate.scales import Mark, Target
from connector.evaluate.statistics import Interval
from connector.evaluate.variants import Variant
from connector.run.forecast import mean

VERSION: Final = 1
"""The version of the JSON. Fields may be added; none changes its meaning."""

NO_ANSWER: Final = "(no answer)"
OTHER: Final = "(other)"
_MOST_LABELS: Final = 30
_MOST_ROWS: Final = 500  # quoted rows; those on which variants differ come first
_LEVEL: Final = 0.05
_PER: Final = 1_000


@dataclass(frozen=True)
class Label:
    """How well a variant predicts one label: recall on the rows that have it, precision on the rows that got it."""

    label: str
    rows: int
    answers: int
    right: int
    precision: Interval | None
    recall: Interval | None
    f1: float | None


@dataclass(frozen=True)
class Confusion:
    """How often each answer was given for each truth: `counts[truth][answer]`, by the indexes of their labels."""

    truths: list[str]
    answers: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Score:
    """How well a variant does on one target. A row without an answer is wrong; means are over the other rows.

    `mean_error` is the mean absolute error of numbers, `close` the share of texts that are nearly the same, `overlap`
    the mean similarity of texts or the mean F1 of lists.
    """

    target: str
    scale: str
    rows: int
    right: int
    accuracy: Interval | None
    labels: list[Label] = field(default_factory=list)
    confusion: Confusion | None = None
    mean_error: Interval | None = None
    close: Interval | None = None
    overlap: Interval | None = None


@dataclass(frozen=True)
class Standing:
    """A variant with its costs and results.

    `right` and `accuracy` count the rows that are right in every target. Costs and tokens are those of all replies,
    whenever they were paid for; `paid_usd` and `paid_rows` are those of this evaluation alone.
    """

    name: str
    title: str
    model: str | None
    url: str
    rows: int
    answered: int
    statuses: dict[str, int]
    right: int | None
    accuracy: Interval | None
    scores: list[Score]
    cost_per_1000_usd: float | None
    cost_source: str
    input_tokens: float | None
    output_tokens: float | None
    median_ms: float | None
    p95_ms: float | None
    paid_rows: int
    paid_usd: float | None


@dataclass(frozen=True)
class Comparison:
    """Two variants on the same rows.

    `verdict` is `better` or `worse` if p < 0.05 in McNemar's exact test (with a judge: the sign test), else `unclear`.
    `difference` is that of the accuracies, `cost_ratio` the cost of the second divided by that of the first, `errors`
    the paired differences of absolute errors by target, and `rows_needed` how many rows would show a difference of this
    size.
    """

    first: str
    second: str
    by: str
    rows: int
    same: int
    both: int = 0
    only_first: int = 0
    only_second: int = 0
    neither: int = 0
    difference: Interval | None = None
    p_value: float | None = None
    verdict: str = "unclear"
    rows_needed: int | None = None
    errors: dict[str, Interval] = field(default_factory=dict)
    cost_ratio: float | None = None
    unsteady: int = 0
    unjudged: int = 0


@dataclass(frozen=True)
class Answer:
    """The answer of a variant for a row."""

    columns: dict[str, JSON]
    status: str
    error: str | None
    is_right: bool | None
    wrong: list[str]


@dataclass(frozen=True)
class Row:
    """A row, its truth, and the answers by variant.

    `rank` is 0 if some variants are right and others wrong, 1 if only their answers differ, 2 if all are wrong, else 3.
    """

    number: int
    rank: int
    input: dict[str, JSON]
    truth: dict[str, JSON]
    answers: dict[str, Answer]
    verdict: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation. `rows` has at most 500 rows, disagreements first; `unquoted` counts the others."""

    program: str
    input: str
    compared: int
    left_out: int
    sampled: bool
    seed: int | None
    targets: list[str]
    variants: list[Standing]
    comparisons: list[Comparison]
    rows: list[Row]
    unquoted: int
    judge: dict[str, Any] | None = None
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns the evaluation as JSON values. Intervals are objects with `value`, `low` and `high`."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def evaluation(
    variants: Sequence[Variant],
    records: Sequence[Record],
    targets: Sequence[Target],
    *,
    source: str,
    sampled: bool = False,
    seed: int | None = None,
    verdicts: Sequence[Verdicts] = (),
) -> Evaluation:
    """Compares variants with the truth and with each other.

    Args:
        variants: The variants, with outcomes in the order of `records`.
        records: The whole rows, including the columns of the truth.
        targets: What to compare with the truth; empty if there is none.
        source: The name of the input.
    """
    places = [
        place
        for place in range(len(records))
        if all(variant.outcomes[place].status is not Status.SKIPPED for variant in variants)
        and (not targets or any(_truth(records[place], each) is not None for each in targets))
    ]
    marks = [_Marks(variant, records, places, targets) for variant in variants]
    standings = [_standing(variant, mine, places, targets) for variant, mine in zip(variants, marks, strict=True)]
    compared = [
        _compared(one, other, targets, standings[first], standings[second])
        for (first, one), (second, other) in combinations(enumerate(marks), 2)
        if targets or not verdicts
    ]
    compared += [_judged(each, places, marks) for each in verdicts]
    rows = _rows(marks, records, places, targets, verdicts)
    judge = None
    if verdicts:
        cost = [each.summary.cost_usd for each in verdicts if each.summary.cost_usd is not None]
        paid = sum(cost) if cost else None
        judge = {"prompt": verdicts[0].prompt, "model": verdicts[0].model, "paid_usd": paid}
    return Evaluation(
        program=f"openai-compatible-connector {__version__}",
        input=source,
        compared=len(places),
        left_out=len(records) - len(places),
        sampled=sampled,
        seed=seed,
        targets=[each.name for each in targets],
        variants=standings,
        comparisons=compared,
        rows=rows[:_MOST_ROWS],
        unquoted=max(0, len(rows) - _MOST_ROWS),
        judge=judge,
    )


def _truth(record: Record, target: Target) -> JSON:
    return scales.read(scales.at(record.data, target.truth), target)


class _Marks:
    """The answers of a variant and their marks, by target; only rows whose truth is known count for a target."""

    def __init__(
        self, variant: Variant, records: Sequence[Record], places: Sequence[int], targets: Sequence[Target]
    ) -> None:
        self.variant = variant
        self.places = places
        self.outcomes = [variant.outcomes[place] for place in places]
        self.truths = {each: [_truth(records[place], each) for place in places] for each in targets}
        self.answers = {each: [_answer(outcome, each) for outcome in self.outcomes] for each in targets}
        self.marks: dict[Target, list[Mark | None]] = {
            each: [
                None if truth is None else scales.mark(answer, truth, each.scale)
                for answer, truth in zip(self.answers[each], self.truths[each], strict=True)
            ]
            for each in targets
        }
        self.right = [
            all(mark.is_right for each in targets if (mark := self.marks[each][place]) is not None)
            for place in range(len(places))
        ]
        """Whether each row is right in all of its targets whose truth is known."""


def _answer(outcome: Outcome, target: Target) -> JSON:
    if outcome.status is not Status.SUCCESS:
        return None
    return scales.read(scales.at(outcome.columns, target.path), target)


def _standing(variant: Variant, marks: _Marks, places: Sequence[int], targets: Sequence[Target]) -> Standing:
    outcomes, summary, config = marks.outcomes, variant.summary, variant.plan.config
    known = [each.provenance for each in outcomes]
    latencies = sorted(each.latency_ms for each in known if each.latency_ms is not None)
    cost = mean(each.cost_usd for each in known)
    models = Counter(each.model for each in known if each.model)
    right = sum(marks.right) if targets else None
    mask = Masker(config.secrets)
    return Standing(
        name=variant.name,
        title=variant.title,
        model=models.most_common(1)[0][0] if models else variant.plan.requests.model,
        url=mask(bare_url(variant.plan.url)),
        rows=len(places),
        answered=sum(each.status is Status.SUCCESS for each in outcomes),
        statuses=dict(Counter(each.status.value for each in outcomes).most_common()),
        right=right,
        accuracy=None if right is None else statistics.proportion(right, len(places)),
        scores=[_score(marks, each) for each in targets],
        cost_per_1000_usd=None if cost is None else cost * _PER,
        cost_source=variant.plan.pricing.source if cost else "",
        input_tokens=mean(each.input_tokens for each in known),
        output_tokens=mean(each.output_tokens for each in known),
        median_ms=_quantile(latencies, 50),
        p95_ms=_quantile(latencies, 95),
        paid_rows=len(outcomes) - sum(each.cached or not each.attempts for each in known),
        paid_usd=summary.cost_usd,
    )


def _quantile(ordered: Sequence[int], percent: int) -> float | None:
    if not ordered:
        return None
    return float(ordered[0]) if len(ordered) == 1 else quantiles(ordered, n=100, method="inclusive")[percent - 1]


def _score(marks: _Marks, target: Target) -> Score:
    judged = [
        (mark, answer, truth)
        for mark, answer, truth in zip(marks.marks[target], marks.answers[target], marks.truths[target], strict=True)
        if mark is not None
    ]
    right = sum(mark.is_right for mark, *_ in judged)
    amounts = [mark.amount for mark, *_ in judged if mark.amount is not None]
    score = Score(target.name, target.scale, len(judged), right, statistics.proportion(right, len(judged)))
    if target.scale in ("category", "boolean"):
        pairs = [(_word(truth), NO_ANSWER if answer is None else _word(answer)) for _, answer, truth in judged]
        labels = _labels(pairs)
        return _with(score, labels=labels, confusion=_confusion(pairs))
    if target.scale == "number":
        return _with(score, mean_error=statistics.mean(amounts))
    if target.scale == "text":
        close = sum(amount >= scales.CLOSE for amount in amounts)
        return _with(score, close=statistics.proportion(close, len(judged)), overlap=statistics.mean(amounts))
    return _with(score, overlap=statistics.mean(amounts))


def _with(score: Score, **more: Any) -> Score:
    return Score(score.target, score.scale, score.rows, score.right, score.accuracy, **more)


def _word(value: JSON) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _labels(pairs: Sequence[tuple[str, str]]) -> list[Label]:
    """Returns precision, recall and F1 of each label of the truth, most frequent first."""
    truths, answers = Counter(truth for truth, _ in pairs), Counter(answer for _, answer in pairs)
    right = Counter(truth for truth, answer in pairs if truth == answer)
    found = []
    for label, rows in truths.most_common(_MOST_LABELS):
        hits, total = right[label], rows + answers[label]
        found.append(
            Label(
                label,
                rows,
                answers[label],
                hits,
                statistics.proportion(hits, answers[label]),
                statistics.proportion(hits, rows),
                2 * hits / total if total else None,
            )
        )
    return found


def _confusion(pairs: Sequence[tuple[str, str]]) -> Confusion:
    """Counts answers by truth. The rarest of many labels are counted as `OTHER`, like answers that are not a label."""
    truths = [label for label, _ in Counter(truth for truth, _ in pairs).most_common(_MOST_LABELS)]
    known = set(truths)

    def place(label: str) -> str:
        return label if label in known or label == NO_ANSWER else OTHER

    counts = Counter((place(truth), place(answer)) for truth, answer in pairs)
    rows = [*truths, *([OTHER] if any(truth == OTHER for truth, _ in counts) else [])]
    columns = [*truths, *(each for each in (OTHER, NO_ANSWER) if any(answer == each for _, answer in counts))]
    return Confusion(rows, columns, [[counts[truth, answer] for answer in columns] for truth in rows])


def _compared(one: _Marks, other: _Marks, targets: Sequence[Target], first: Standing, second: Standing) -> Comparison:
    pairs = Counter(zip(one.right, other.right, strict=True))
    both, neither = pairs[True, True], pairs[False, False]
    only_first, only_second = pairs[True, False], pairs[False, True]
    same = sum(_said(mine) == _said(yours) for mine, yours in zip(one.outcomes, other.outcomes, strict=True))
    ratio = None
    if first.cost_per_1000_usd and second.cost_per_1000_usd is not None:
        ratio = second.cost_per_1000_usd / first.cost_per_1000_usd
    known = {"first": first.name, "second": second.name, "rows": len(one.places), "same": same, "cost_ratio": ratio}
    if not targets:
        return Comparison(**known, by="nothing")
    p_value = statistics.mcnemar(only_first, only_second)
    rows = len(one.places)
    return Comparison(
        **known,
        by="truth",
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
        difference=statistics.paired_difference(both, only_first, only_second, neither),
        p_value=p_value,
        verdict=_verdict(only_first, only_second, p_value),
        rows_needed=statistics.rows_needed(only_first, only_second, rows) if p_value >= _LEVEL else None,
        errors={each.name: found for each in targets if (found := _error_difference(one, other, each)) is not None},
    )


def _verdict(only_first: int, only_second: int, p_value: float) -> str:
    if p_value >= _LEVEL:
        return "unclear"
    return "better" if only_second > only_first else "worse"


def _error_difference(one: _Marks, other: _Marks, target: Target) -> Interval | None:
    if target.scale != "number":
        return None
    pairs = zip(one.marks[target], other.marks[target], strict=True)
    return statistics.mean(
        [
            yours.amount - mine.amount
            for mine, yours in pairs
            if mine is not None and yours is not None and mine.amount is not None and yours.amount is not None
        ]
    )


def _said(outcome: Outcome) -> JSON:
    return outcome.columns if outcome.status is Status.SUCCESS else outcome.status


def _judged(verdicts: Verdicts, places: Sequence[int], marks: Sequence[_Marks]) -> Comparison:
    """Counts a judge's verdicts. The difference is that of the shares of rows on which each variant is better."""
    said = Counter(verdicts.by_row[place] for place in places)
    wins, losses, ties = said[verdicts.second], said[verdicts.first], said["tie"]
    one, other = (next(each for each in marks if each.variant.name == name) for name in verdicts[:2])
    same = sum(_said(mine) == _said(yours) for mine, yours in zip(one.outcomes, other.outcomes, strict=True))
    p_value = statistics.mcnemar(losses, wins)
    first, second = (mean(each.provenance.cost_usd for each in side.outcomes) for side in (one, other))
    return Comparison(
        verdicts.first,
        verdicts.second,
        by="judge",
        rows=len(places),
        same=same,
        only_first=losses,
        only_second=wins,
        neither=ties,
        difference=statistics.paired_difference(0, losses, wins, ties),
        p_value=p_value,
        verdict=_verdict(losses, wins, p_value),
        rows_needed=statistics.rows_needed(losses, wins, wins + losses + ties) if p_value >= _LEVEL else None,
        cost_ratio=second / first if first and second is not None else None,
        unsteady=verdicts.unsteady,
        unjudged=said[None],
    )


def _rows(
    marks: Sequence[_Marks],
    records: Sequence[Record],
    places: Sequence[int],
    targets: Sequence[Target],
    verdicts: Sequence[Verdicts],
) -> list[Row]:
    hidden = {each.truth[0] for each in targets}
    found = []
    for place, where in enumerate(places):
        record = records[where]
        truth = {each.name: marks[0].truths[each][place] for each in targets} if marks else {}
        row = Row(
            number=record.index + 1,
            rank=_rank([(each.right[place], _said(each.outcomes[place])) for each in marks], bool(targets)),
            input={name: _json(value) for name, value in record.data.items() if name not in hidden},
            truth={name: value for name, value in truth.items() if value is not None},
            answers={each.variant.name: _answer_of(each, place, targets) for each in marks},
            verdict=verdicts[0].by_row[where] if verdicts else None,
            reason=verdicts[0].reasons[where] if verdicts else "",
        )
        found.append(row)
    return sorted(found, key=lambda row: row.rank)


def _rank(answers: Sequence[tuple[bool, JSON]], is_known: bool) -> int:
    rights = [right for right, _ in answers]
    if is_known and any(rights) and not all(rights):
        return 0
    if any(said != answers[0][1] for _, said in answers):
        return 1
    return 2 if is_known and not any(rights) else 3


def _answer_of(marks: _Marks, place: int, targets: Sequence[Target]) -> Answer:
    outcome = marks.outcomes[place]
    error = outcome.provenance.error
    wrong = [each.name for each in targets if (mark := marks.marks[each][place]) is not None and not mark.is_right]
    mask = Masker(marks.variant.plan.config.secrets)
    return Answer(
        columns={name: _json(value) for name, value in outcome.columns.items()},
        status=outcome.status.value,
        error=mask(error.message) if error else None,
        is_right=marks.right[place] if targets else None,
        wrong=wrong,
    )


_JSON_TYPES: Final = (str, int, float, bool, type(None), list, dict)


def _json(value: Any) -> JSON:
    return value if isinstance(value, _JSON_TYPES) else str(value)


def unmet(
    found: Evaluation, *, min_accuracy: float | None = None, not_worse: bool = False, max_loss: float | None = None
) -> Iterator[str]:
    """Yields the demands that the last variant does not meet.

    Args:
        min_accuracy: The lowest accuracy allowed, in per cent.
        not_worse: Whether it must not be significantly worse than the first variant.
        max_loss: The most points of accuracy that it may lose to the first variant, at 95 % confidence.
    """
    first, last = found.variants[0], found.variants[-1]
    share = 100 * (last.accuracy.value if last.accuracy else 0)
    if min_accuracy is not None and share < min_accuracy:
        yield f"the accuracy of {last.name} is {share:.1f} %, less than {min_accuracy:g} %"
    for each in found.comparisons:
        if (each.first, each.second, each.by) != (first.name, last.name, "truth"):
            continue
        if not_worse and each.verdict == "worse":
            yield f"{last.name} is worse than {first.name}"
        low = -1.0 if each.difference is None or each.difference.low is None else each.difference.low
        if max_loss is not None and 100 * low < -max_loss:
            yield f"{last.name} may be {-100 * low:.1f} points worse than {first.name}, more than {max_loss:g}"
