"""A sample stands for the whole table: each row has the same chance, and the same seed gives the same rows."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from connector import Config
from connector.base.records import IDLE, Record
from connector.run.plan import Plan
from connector.run.sampling import candidates, sample


def records(count: int) -> list[Record]:
    return [Record(number, {"id": number}) for number in range(count)]


@given(st.integers(0, 50), st.integers(0, 20), st.integers(0, 9))
def test_it_has_so_many_rows_in_input_order_and_counts_all(rows: int, count: int, seed: int) -> None:
    found, total = sample(iter(records(rows)), count, seed)
    numbers = [record.index for record in found]
    assert (len(numbers), total) == (min(rows, count), rows)
    assert numbers == sorted(set(numbers))
    assert [record.index for record in sample(records(rows), count, seed)[0]] == numbers


def test_each_row_has_the_same_chance() -> None:
    drawn = Counter(record.index for seed in range(4_000) for record in sample(records(20), 5, seed)[0])
    assert all(850 < drawn[number] < 1_150 for number in range(20))  # 1,000 each, with a deviation of 27


def test_rows_that_where_skips_are_no_candidates_and_those_that_it_cannot_judge_are() -> None:
    plan = Plan(Config(model="m", prompt="{{ id }}", where="{{ id > 1 }}"))
    rows = [*records(4), IDLE, Record(4, {"id": None}), Record(5, {}, problem="broken")]
    assert [record.index for record in candidates(rows, plan)] == [2, 3, 4, 5]
