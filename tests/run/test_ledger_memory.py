"""A run's ledger looks into earlier ones, keeps what it finds, and says which helped and why others did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import ConfigError, StorageError
from connector.base.records import Reply
from connector.ledger import Ledger
from connector.ledger.sqlite import SqliteLedger
from connector.run import ledger_memory
from connector.run.ledger_memory import Earlier, Remembering

Opening = Callable[[Path], AbstractContextManager[Ledger]]


def key(number: int) -> bytes:
    return blake2b(bytes([number]), digest_size=16).digest()


def reply(number: int) -> Reply:
    return Reply(200, {"n": number}, {}, cached=True)


def holding(numbers: set[int]) -> SqliteLedger:
    ledger = SqliteLedger(None)
    ledger.put((key(number), reply(number)) for number in numbers)
    return ledger


@given(st.sets(st.integers(0, 9)), st.lists(st.sets(st.integers(0, 9)), max_size=3), st.sets(st.integers(0, 9)))
def test_a_reply_in_any_earlier_ledger_is_found(own: set[int], earlier: list[set[int]], asked: set[int]) -> None:
    paths = [Earlier(Path(str(number))) for number in range(len(earlier))]
    mine = holding(own)
    with Remembering(mine, paths, lambda path: holding(earlier[int(path.name)]), lambda _: None) as ledger:
        known = own.union(*earlier)
        found = ledger.get([key(number) for number in asked]).known
        assert found == {key(number): reply(number) for number in asked & known}
        assert mine.get([key(number) for number in asked]).known == found  # so that the next run needs no other ledger


@pytest.fixture
def told() -> list[str]:
    return []


def test_no_earlier_ledger_is_opened_while_nothing_is_missing(told: list[str]) -> None:
    def opening(path: Path) -> AbstractContextManager[Ledger]:
        raise AssertionError(path)

    with Remembering(holding({1}), [Earlier(Path("a"))], opening, told.append) as ledger:
        assert ledger.get([key(1)]).known == {key(1): reply(1)}


def test_a_ledger_that_helps_and_one_that_was_expected_to_are_reported_once(told: list[str]) -> None:
    earlier = [Earlier(Path("good")), Earlier(Path("same.csv.ledger"), "the ledger of x"), Earlier(Path("other"))]
    opened = {"good": {1, 2}, "same.csv.ledger": {8}, "other": {9}}
    with Remembering(holding(set()), earlier, lambda path: holding(opened[path.name]), told.append) as ledger:
        ledger.get([key(1), key(3)])
        ledger.get([key(2), key(4)])
    good, same = told
    assert good == "replies to these requests are in good: they are not paid for again"
    assert same.startswith("same.csv.ledger, the ledger of x, has no reply to these requests: prompt, model, ")


@pytest.mark.parametrize(("why", "says"), [("", 0), ("the ledger of x", 1)])
@pytest.mark.parametrize("error", [ConfigError("a run is using this ledger"), StorageError("it is damaged")])
def test_an_earlier_ledger_that_cannot_be_opened_stops_nothing(
    told: list[str], why: str, says: int, error: Exception
) -> None:
    def opening(path: Path) -> AbstractContextManager[Ledger]:
        del path
        raise error

    with Remembering(holding(set()), [Earlier(Path("a"), why)], opening, told.append) as ledger:
        assert ledger.get([key(1)]).known == {}
    assert len(told) == says


@pytest.mark.parametrize("bound", ["_SMALL", "_ROOM"])  # five replies; fewer bytes than six have
@pytest.mark.parametrize(("numbers", "is_held"), [(set(range(10)), True), ({1, 2}, False), (set(range(5, 15)), False)])
def test_only_a_large_one_that_helps_is_held(
    monkeypatch: pytest.MonkeyPatch, numbers: set[int], bound: str, *, is_held: bool
) -> None:
    monkeypatch.setattr(ledger_memory, bound, 5 if bound == "_SMALL" else 5 * len('{"n":1}'))
    held = 0

    @contextmanager
    def opening(_: Path) -> Iterator[Ledger]:
        nonlocal held
        held += 1
        yield holding(numbers)
        held -= 1

    with Remembering(holding(set()), [Earlier(Path("a"))], opening, lambda _: None) as ledger:
        assert bool(ledger.get([key(1)]).known) is (1 in numbers)
        assert held == is_held
        assert bool(ledger.get([key(2)]).known) is (2 in numbers)
    assert held == 0


def test_without_keeping_the_runs_own_ledger_stays_as_it_is() -> None:
    mine = holding(set())
    with Remembering(mine, [Earlier(Path("a"))], lambda _: holding({1}), lambda _: None, is_kept=False) as ledger:
        assert ledger.get([key(1)]).known
        assert mine.stats().entries == 0
