"""A checkpoint is let through once everything before it has left, whatever the order in which work is finished."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Checkpoint, Record
from connector.run.checkpoint import Watermark

RECORD, CHECKPOINT = True, False


def test_a_checkpoint_with_nothing_before_it_passes_at_once() -> None:
    watermark = Watermark()
    watermark.hold(Checkpoint("start"))
    assert list(watermark.release()) == [Checkpoint("start")]


def test_a_checkpoint_waits_for_the_slowest_record_before_it_and_for_none_after_it() -> None:
    watermark = Watermark()
    for index in (0, 1):
        watermark.enter(index)
    watermark.hold(Checkpoint("two"))
    watermark.enter(2)
    watermark.leave(1)
    assert list(watermark.release()) == []
    watermark.leave(0)
    assert list(watermark.release()) == [Checkpoint("two")]


def test_a_run_that_is_resumed_may_begin_at_any_index() -> None:
    watermark = Watermark()
    watermark.enter(1_000_000)
    watermark.hold(Checkpoint("next"))
    assert list(watermark.release()) == []
    watermark.leave(1_000_000)
    assert list(watermark.release()) == [Checkpoint("next")]


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5), st.randoms(use_true_random=False))
def test_no_checkpoint_overtakes_a_record_and_all_come_in_order(items: list[bool], first: int, random: Random) -> None:
    watermark = Watermark()
    inside: set[int] = set()
    expected: list[Checkpoint] = []
    released: list[Checkpoint] = []
    index = first

    def release() -> None:
        for checkpoint in watermark.release():
            assert all(record >= checkpoint.state for record in inside)
            released.append(checkpoint)

    def leave() -> None:
        record = random.choice(sorted(inside))
        inside.remove(record)
        watermark.leave(record)
        release()

    for item in items:
        if item is RECORD:
            watermark.enter(index)
            inside.add(index)
            index += 1
        else:
            expected.append(Checkpoint(index))
            watermark.hold(expected[-1])
            release()
        while inside and random.random() < 0.5:
            leave()
    while inside:
        leave()
    assert released == expected


class Counting:
    """A span whose states are the number of rows."""

    def state_after(self, index: int) -> int:
        return index + 1


def test_a_checkpoint_can_follow_any_record_of_a_span_and_covers_no_record_twice() -> None:
    watermark, span = Watermark(), Counting()
    for index in range(5, 9):
        watermark.enter_record(Record(index, {}, span=span))
    assert watermark.reached() is None
    for index in (7, 5):
        watermark.leave(index)
    assert watermark.reached() == Checkpoint(6)
    assert watermark.reached() is None
    watermark.leave(6)
    assert watermark.reached() == Checkpoint(8)
    watermark.hold(Checkpoint(9))
    watermark.leave(8)
    assert list(watermark.release()) == [Checkpoint(9)]
    assert watermark.reached() is None
