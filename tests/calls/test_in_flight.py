"""Calls in flight: identical rows share one, also where it waits on disk, and it comes back with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connector.base.errors import ServerError
from connector.base.records import Record, Reply
from connector.calls.call import Call
from connector.calls.in_flight import InFlight

KEY = b"k" * 16


def call(row: int, value: Any = "text") -> Call:
    return Call(KEY, b"{}", [Record(row, {"value": value}, "reviews")])


def joins(calls: InFlight, made: Call) -> bool:
    return calls.join(made, calls.parked([made]))


def unwritable() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("first", ["text", unwritable()], ids=["written", "not"])
@pytest.mark.parametrize("second", ["text", unwritable()], ids=["written", "not"])
def test_rows_join_a_call_wherever_it_waits(first: Any, second: Any) -> None:
    calls = InFlight()
    assert not joins(calls, call(0))
    one = call(0, first)
    calls.add(one)
    calls.park(one, 7)
    assert joins(calls, call(1, second))
    assert joins(calls, call(2))
    assert calls.keys_at(7) == [KEY]
    assert calls.take(KEY, 6) is None
    taken = calls.take(KEY, 7)
    assert taken is not None
    assert [(row.index, row.stream, row.data["value"]) for row in taken.records] == [
        (0, "reviews", first),
        (1, "reviews", second),
        (2, "reviews", "text"),
    ]
    assert calls.take(KEY, 7) is None
    assert calls.records == 3
    calls.remove(taken)
    assert (calls.records, list(calls), joins(calls, call(3))) == (0, [], False)
    calls.close()


def test_a_call_that_was_made_comes_back_as_it_was() -> None:
    calls, made = InFlight(), call(0)
    calls.add(made)
    made.attempts, made.other_attempts, made.first_started = 2, 1, 5.0
    made.error, made.is_untried = ServerError("busy", http_status=503), False
    made.origins, made.paid = (1, 2), (Reply(200, {"a": 1}, {}),)
    made.revise("repair", b'{"again":1}')
    calls.park(made, 3)
    assert [(each.body, each.paid) for each in calls] == [(made.body, made.paid)]
    taken = calls.take(KEY, 3)
    assert taken is not None
    same = set(Call.__slots__) - {"records", "error", "ticket"}
    assert {name: getattr(taken, name) for name in same} == {name: getattr(made, name) for name in same}
    assert (type(taken.error), vars(taken.error)) == (ServerError, vars(made.error))
    assert list(calls) == [taken]
    calls.close()
