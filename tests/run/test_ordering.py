"""Outcomes come back in input order, and the input is held back while too many wait for a slow one."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import IDLE, Checkpoint, Item, Message, Outcome, Provenance, Record, Result, Status
from connector.run import ordering
from connector.run.ordering import in_order


def outcome(record: Record) -> Outcome:
    return Outcome(record, Status.SUCCESS, {}, {}, Provenance(Status.SUCCESS))


def shuffled(items: Iterator[Item], random: Random, at_once: int) -> Generator[Result, None, None]:
    """Finishes records in any order, with so many under way at a time; messages and the rest pass."""
    under_way: list[Record] = []
    for item in items:
        if isinstance(item, Record):
            under_way.append(item)
        else:
            yield item
        if len(under_way) >= at_once or item is IDLE:
            while under_way and (len(under_way) >= at_once or item is IDLE):
                yield outcome(under_way.pop(random.randrange(len(under_way))))
    while under_way:
        yield outcome(under_way.pop(random.randrange(len(under_way))))


@given(st.integers(0, 200), st.integers(1, 50), st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_order_is_put_right(rows: int, at_once: int, first: int, random: Random) -> None:
    records = [Record(first + row, {}) for row in range(rows)]
    results = in_order(records, lambda items: shuffled(items, random, at_once))
    assert [result.record.index for result in results if isinstance(result, Outcome)] == [
        each.index for each in records
    ]


def test_messages_keep_their_place_among_the_records_and_checkpoints_pass_at_once() -> None:
    items: list[Item] = [Record(0, {}), Message(1, b"a"), Checkpoint("c"), Record(2, {}), Message(3, b"b")]
    results = list(in_order(items, lambda given: shuffled(given, Random(1), 5)))
    assert results[0] == Checkpoint("c")
    assert results[1:] == [outcome(Record(0, {})), Message(1, b"a"), outcome(Record(2, {})), Message(3, b"b")]


@pytest.mark.parametrize(("bound", "most"), [("WINDOW", 10), ("ROOM", 200_000)])
def test_a_slow_row_holds_the_input_back(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    monkeypatch.setattr(ordering, bound, most)
    taken: list[Record] = []

    def slow_first(items: Iterator[Item]) -> Generator[Result, None, None]:
        first = next(items)
        assert isinstance(first, Record)
        for item in items:
            if item is IDLE:
                break
            assert isinstance(item, Record)
            taken.append(item)
            yield outcome(item)._replace(
                columns={"text": "x" * 9_000 + "🦊", "vector": array("f", [1]), "list": [{"a": "b"}], "null": None}
            )  # 36,000 bytes, as one wide character makes all of them wide
        yield outcome(first)
        for item in items:
            if isinstance(item, Record):
                yield outcome(item)

    results = list(in_order((Record(row, {}) for row in range(100)), slow_first))
    assert len(taken) == (10 if bound == "WINDOW" else 6)
    assert [result.record.index for result in results if isinstance(result, Outcome)] == list(range(100))


def test_a_run_that_is_stopped_ends_the_sequence_at_the_first_row_without_an_outcome() -> None:
    def stopped(items: Iterator[Item]) -> Generator[Result, None, None]:
        for item in items:
            if isinstance(item, Record) and item.index != 2:
                yield outcome(item)

    results = list(in_order([Record(row, {}) for row in range(5)], stopped))
    assert [result.record.index for result in results if isinstance(result, Outcome)] == [0, 1]


def test_closing_it_closes_the_run() -> None:
    closed: list[str] = []

    def run(items: Iterator[Item]) -> Generator[Result, None, None]:
        try:
            for item in items:
                assert isinstance(item, Record)
                yield outcome(item)
        finally:
            closed.append("run")

    results = in_order([Record(row, {}) for row in range(5)], run)
    next(results)
    results.close()
    assert closed == ["run"]
