"""Each kind of answer is told by what fits it, and two configs are compared row by row."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("scipy", reason="the extra evaluate is not installed")

from connector import Config
from connector.base.records import Outcome, Provenance, Record, Status
from connector.evaluate import words
from connector.evaluate.figures import NO_ANSWER, OTHER, Evaluation, evaluation, unmet
from connector.evaluate.scales import targets
from connector.evaluate.variants import Variant
from connector.run.plan import Plan
from connector.run.summary import Summary

SCHEMA = {
    "type": "object",
    "properties": {
        "price": {"type": "number"},
        "ok": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"type": "string"},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def variant(name: str, answers: list[dict[str, Any] | None], *, cost: float = 0.001) -> Variant:
    plan = Plan(Config(url="http://127.0.0.1:9/v1", prompt="x", output_schema=SCHEMA))
    outcomes = []
    for number, each in enumerate(answers):
        status = Status.ERROR if each is None else Status.SUCCESS
        known = Provenance(status, attempts=1, cost_usd=cost, latency_ms=100 * (number + 1), input_tokens=10)
        columns = dict.fromkeys(plan.columns) if each is None else each
        outcomes.append(Outcome(Record(number, {"id": number}), status, columns, {}, known))
    return Variant(name, name, plan, outcomes, Summary())


def compared(truths: list[dict[str, Any]], *variants: Variant) -> Evaluation:
    records = [Record(number, {"id": number, **each}) for number, each in enumerate(truths)]
    names = list(truths[0])
    wanted = [each for name in names for each in targets(name, variants[0].plan.columns, names, truths)]
    return evaluation(variants, records, wanted, source="t.csv")


def test_numbers_have_a_mean_error_and_its_paired_difference() -> None:
    truths = [{"price": str(number)} for number in range(40)]  # as CSV has them
    near = variant("A", [{"price": number + 0.5} for number in range(40)])
    far = variant("B", [{"price": number + 2.0} for number in range(39)] + [None], cost=0.0007)
    found = compared(truths, near, far)
    first, second = (each.scores[0] for each in found.variants)
    assert first.mean_error == pytest.approx((0.5, 0.5, 0.5))
    assert second.mean_error == pytest.approx((2.0, 2.0, 2.0))
    assert first.accuracy is not None
    assert first.accuracy.value == 0
    (pair,) = found.comparisons
    assert pair.errors["price"] == pytest.approx((1.5, 1.5, 1.5))
    assert pair.cost_ratio == pytest.approx(0.7)
    told = words.verdict(pair)
    assert "The mean absolute error of B in price is 1.5 more" in told
    assert "B costs 30 % less" in told
    assert found.variants[1].median_ms == pytest.approx(2050)


def test_texts_lists_booleans_and_fields_are_each_compared_by_what_fits_them() -> None:
    place = '{"city": "Rome"}'
    truths = [{"ok": "yes", "tags": "a; b", "note": f"It failed after {n} weeks.", "place": place} for n in range(4)]
    answers: list[dict[str, Any] | None] = [
        {"ok": True, "tags": ["b"], "note": f"it failed after {n} weeks", "place": {"city": "Oslo"}} for n in range(3)
    ]
    found = compared(truths, variant("A", [*answers, None]))
    scores = {each.target: each for each in found.variants[0].scores}
    assert list(scores) == ["ok", "tags", "note", "place.city"]
    assert scores["ok"].right == 3
    assert scores["ok"].confusion is not None
    assert scores["ok"].confusion.answers == ["true", NO_ANSWER]
    assert scores["ok"].confusion.counts == [[3, 1]]
    assert scores["tags"].overlap is not None
    assert scores["tags"].overlap.value == pytest.approx(2 / 3)
    assert scores["note"].right == 0
    assert scores["note"].close is not None
    assert scores["note"].close.value == pytest.approx(3 / 4)
    assert scores["place.city"].confusion is not None
    assert scores["place.city"].confusion.answers == ["rome", OTHER, NO_ANSWER]
    assert found.variants[0].right == 0
    assert {row.rank for row in found.rows} == {2}


def test_a_row_whose_truth_is_not_known_counts_nowhere() -> None:
    answers: list[dict[str, Any] | None] = [{"ok": True}] * 3
    found = compared([{"ok": True}, {"ok": None}, {"ok": False}], variant("A", answers), variant("B", answers))
    assert (found.compared, found.left_out) == (2, 1)
    assert found.variants[0].right == 1
    assert found.comparisons[0].p_value == 1
    assert found.comparisons[0].verdict == "unclear"
    assert list(unmet(found, min_accuracy=60)) == ["the accuracy of B is 50.0 %, less than 60 %"]
    assert not list(unmet(found, not_worse=True))
    assert list(unmet(found, max_loss=5))  # two rows prove nothing
