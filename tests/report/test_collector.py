"""Figures of a run: the right ones for every type of column, without secrets, in bounded memory."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from connector.base.records import Outcome
from connector.report.figures import Spending
from tests.report.samples import HOSTILE, SECRET, answered, config, failed, figures_of, mixed, usual


def test_figures_are_plain_json_and_nothing_is_counted_twice() -> None:
    figures = figures_of(usual(200))
    told = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert told["outcomes"] == {
        "rows": 200,
        "failed": 20,
        "cached": 20,
        "statuses": {"success": 180, "invalid_output": 20},
    }
    spending = told["spending"]
    assert (spending["paid_rows"], spending["costly_rows"], spending["input_tokens"]) == (180, 160, 1600)
    assert spending["cost_usd"] == pytest.approx(sum(mixed(n) for n in range(1, 201) if n % 5) * 1e-6)
    assert told["attempts"] == {"1": 160, "2": 20}
    assert sum(each["answered"] + each["failed"] for each in told["timeline"]) == 180
    assert told["concessions"] == [{"name": "json_object", "model": "small"}]
    assert told["version"] == 1


def test_each_column_is_shown_by_what_it_holds() -> None:
    columns = {column.name: column for column in figures_of(usual(400)).columns}
    assert {name: column.kind for name, column in columns.items()} == {
        "label": "values",
        "score": "values",
        "price": "numbers",
        "words": "texts",
        "tags": "lists",
        "sure": "values",
        "more": "other",
    }
    assert [(each.value, each.count) for each in columns["label"].values] == [("good", 240), ("bad", 120), ("mixed", 0)]
    assert [each.value for each in columns["score"].values] == ["1", "2", "3", "4", "5"]
    assert (columns["sure"].nulls, columns["sure"].rows) == (sum(n % 6 == 0 and n % 10 > 0 for n in range(1, 401)), 360)
    assert columns["tags"].distribution
    assert (columns["tags"].distribution.minimum, columns["tags"].distribution.maximum) == (0, 3)


ODD_VALUES: list[tuple[list[Any], str]] = [
    ([], "nothing"),
    ([None, None], "nothing"),
    ([1, "a"], "other"),
    ([{}, {"a": 1}], "other"),
    ([float("nan"), 1.5, 2.5, 3.5, 4.5], "numbers"),
    ([Decimal("1.5")] * 4, "values"),
    ([10**400, 1, 2, 3], "numbers"),
    ([date(2026, 1, 1)] * 3, "values"),
    (["x" * 5000, "y"], "texts"),
    (["", "", "a"], "values"),
    ([True, False], "values"),
    ([[0.0] * 1536] * 3, "lists"),
    (list(range(500)), "numbers"),
    ([f"text {number}" for number in range(2000)], "texts"),
]


@pytest.mark.parametrize(("values", "kind"), ODD_VALUES)
def test_no_value_is_too_odd(values: list[Any], kind: str) -> None:
    figures = figures_of(answered(n, {}, {"x": value}) for n, value in enumerate(values, 1))
    column = {each.name: each for each in figures.columns}.get("x")
    json.dumps(figures.to_dict(), allow_nan=False)
    assert (column.kind if column else "nothing") == kind


@pytest.mark.parametrize("large", [1e3, 999_999.0, 1_234_567.0, 10.0**14])
def test_large_whole_numbers_that_differ_are_counted_apart_and_shown_in_full(large: float) -> None:
    figures = figures_of(answered(n, {}, {"x": large + n % 2}) for n in range(1, 9))
    (column,) = (each for each in figures.columns if each.name == "x")
    assert [(each.value, each.count) for each in column.values] == [(str(int(large)), 4), (str(int(large) + 1), 4)]


def test_examples_show_the_row_the_reply_and_the_error_of_each_cause() -> None:
    rows = [failed(n, {"text": f"row {n}"}, f'"{n}" is no label', f"reply {n}") for n in range(1, 9)]
    (cause,) = figures_of(rows).causes
    assert (cause.count, cause.reason, cause.rows) == (8, "… is no label", [1, 2, 3, 4, 5])
    assert [(each.number, each.input, each.reply) for each in cause.examples] == [
        (n, {"text": f"row {n}"}, f"reply {n}") for n in (1, 2, 3)
    ]


def test_the_slowest_and_the_most_expensive_rows_are_shown() -> None:
    figures = figures_of(usual(300))
    assert [row.latency_ms for row in figures.slowest] == sorted(
        (100 + mixed(n) for n in range(1, 301) if n % 5), reverse=True
    )[:10]
    dearest = sorted((n for n in range(1, 301) if n % 5), key=mixed, reverse=True)[:10]
    assert [row.number for row in figures.dearest] == dearest
    assert figures.dearest[0].input["text"].startswith(f"review {dearest[0]}")
    assert figures.slowest[0].output["label"] == "good"


def test_no_secret_is_in_the_figures() -> None:
    given = config(
        headers={"x-key": SECRET + "h"},
        query={"api-version": "1", "code": SECRET + "q"},
        system_prompt=f"use {SECRET}",
        url=f"https://llm.example/v1?key={SECRET}u",
    )
    row = {"text": SECRET, SECRET: 1}
    outcomes = [
        answered(1, row, {"label": SECRET}, model=SECRET),
        failed(2, row, f"bad {SECRET}", f"I know {'x' * 290}{SECRET}"),
    ]
    told = json.dumps(
        figures_of(outcomes, given, source=SECRET, output=SECRET, stopped_by=f"stopped: {SECRET}").to_dict()
    )
    assert SECRET[:20] not in told
    assert "***" in told


def test_what_is_hostile_stays_text_in_the_figures() -> None:
    for text in HOSTILE:
        figures = figures_of([answered(n, {"text": text}, {"words": text}) for n in range(4)])
        assert text in {each.value for column in figures.columns for each in column.values}


def test_memory_does_not_grow_with_the_rows() -> None:
    used = []
    for count in (15_000, 45_000):  # samples are full at 12,500 rows
        tracemalloc.start()
        figures_of(usual(count))
        used.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert used[1] < 1.2 * used[0]
    assert used[1] < 12_000_000


def test_memory_does_not_grow_with_what_the_rows_hold() -> None:
    """Rows that are shown, as the slowest are, are kept by their beginning: a reply may have megabytes."""

    def large() -> Iterator[Outcome]:
        for number in range(1, 61):
            text = f"{number} " + "x" * 1_000_000
            if number % 3:
                yield answered(number, {"text": text}, {"words": text}, cost_usd=number * 1e-6)
            else:
                yield failed(number, {"text": text}, f"wrong {number}: {text}", text)

    tracemalloc.start()
    figures_of(large())
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 12_000_000


@pytest.mark.parametrize(("count", "told"), [(200, []), (300, ["and 100 further ones"]), (900, ["more than 200"])])
def test_columns_that_nobody_declared_are_shown_but_not_without_end(count: int, told: list[str]) -> None:
    figures = figures_of([answered(1, {}, {f"c{number}": 1 for number in range(count - 7)})])  # 7 are declared
    assert len(figures.columns) == 200
    assert len(figures.notes) == len(told)
    assert all(words in note for words, note in zip(told, figures.notes, strict=True))


def test_the_order_in_which_rows_are_done_changes_no_figure() -> None:
    outcomes = list(usual(15_000))
    in_order = figures_of(outcomes)
    random.Random(3).shuffle(outcomes)
    shuffled = figures_of(outcomes)
    assert {**shuffled.to_dict(), "timeline": None} == {**in_order.to_dict(), "timeline": None}


def test_what_nobody_has_counted_is_not_zero() -> None:
    uncounted = [answered(n, {}, {}, input_tokens=None, output_tokens=None) for n in range(1, 4)]
    spending = figures_of(uncounted).spending
    assert (spending.calls, spending.input_tokens, spending.output_tokens, spending.cost_usd) == (0, None, None, None)
    untold = figures_of([answered(1, {}, {}, attempts=0, latency_ms=None)])
    assert untold.spending == Spending()
    assert untold.outcomes.cached is None
    assert 'only if the config says metadata "full"' in untold.notes[0]
    assert figures_of([]).spending.input_tokens == 0


def test_a_column_of_the_input_that_gets_a_new_value_is_shown_with_both() -> None:
    (row,) = figures_of([answered(1, {"words": "old", "label": "good"}, {"words": "new", "label": "good"})]).slowest
    assert (row.input, row.output) == ({"words": "old", "label": "good"}, {"words": "new"})


def test_models_that_are_named_differently_in_each_reply_take_bounded_memory() -> None:
    figures = figures_of(answered(n, {}, {}, model=f"model-{n}") for n in range(1, 3_000))
    assert len(figures.run.models) == 10
