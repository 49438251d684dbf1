"""Runs that learn of one endpoint go as one run would: as many calls, as few refusals, whoever comes and goes."""

from __future__ import annotations

import json
from itertools import count
from random import Random
from typing import NamedTuple

import pytest

from connector.base.errors import RateLimitError
from connector.base.records import Reply
from connector.calls.limits import Limits, Ticket
from connector.calls.shared_learner import Change, divided
from connector.ledger import SharedTime, Spending
from tests.simulation import Endpoint, admits, answers, refills, window

_STEP = 0.004
_TRIP = 0.006
_BEAT = 1.5
_CLOCKS_APART = 5_000.0


@pytest.fixture(autouse=True)
def _runs_have_the_same_names_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names = count()
    monkeypatch.setattr("secrets.token_hex", lambda _: f"{next(names):03}")


class World:
    """A clock that is moved by hand, the texts that all runs change, and the calls that reached the endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.now = 0.0
        self.endpoint = endpoint
        self.texts: dict[str, str] = {}
        self.exchanges = 0
        self.sent: list[tuple[float, bool]] = []

    def between(self, begins: float, ends: float) -> tuple[int, int]:
        """Returns how many calls were admitted in a span of time, and how many were not."""
        admitted = [is_admitted for at, is_admitted in self.sent if begins <= at < ends]
        return sum(admitted), len(admitted) - sum(admitted)


class Text:
    """A text as one run sees it: what it asks for is done after a round trip, and now and then anyhow."""

    def __init__(self, world: World, name: str, change: Change) -> None:
        self._world, self._name, self._change = world, name, change
        self._due = 0.0
        self.is_cut_off = False
        self.do()

    def ask(self) -> None:
        self._due = min(self._due, self._world.now + _TRIP)

    def step(self) -> None:
        if self.is_cut_off:
            return
        if self._world.now >= self._due:
            self.do()

    def do(self, *, is_leaving: bool = False) -> None:
        world = self._world
        self._due = world.now + _BEAT
        world.exchanges += 1
        world.texts[self._name] = self._change(world.texts.get(self._name, ""), world.now + _CLOCKS_APART, is_leaving)


class Flight(NamedTuple):
    """A call on its way."""

    ends: float
    ticket: Ticket
    ending: Reply | BaseException


class Run:
    """A run that has work, for so many calls at a time, from one time to another; see `connector.ledger.Shared`."""

    def __init__(
        self,
        world: World,
        calls: int,
        begins: float = 0.0,
        ends: float = 1e9,
        *,
        needs: int = 1_000,
        is_killed: bool = False,
        is_alone: bool = False,
    ) -> None:
        self._world = world
        self._calls, self._needs = calls, needs
        self.begins, self.ends = begins, ends
        self._is_killed = is_killed
        self._is_alone = is_alone
        self.limits: Limits | None = None
        self._flying: list[Flight] = []
        self._waiting: list[float] = []
        self.admitted = 0

    def text(self, name: str, change: Change) -> Text:
        self._text = Text(self._world, name, change)
        return self._text

    def time(self, name: str) -> SharedTime:
        raise NotImplementedError

    def spending(self, job: str) -> Spending:
        raise NotImplementedError

    def cut_off(self) -> None:
        self._text.is_cut_off = True

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def step(self, chance: Random) -> None:
        now = self._world.now
        if not self.begins <= now < self.ends:
            if self.limits is not None and not self._is_killed:
                self._text.do(is_leaving=True)
            self.limits = None
            return
        if self.limits is None:
            self.limits = Limits(self._calls)
            if not self._is_alone:
                self.limits.share(self, "endpoint", lambda: len(self._flying), lambda: self._world.now)
        if not self._is_alone:
            self._text.step()
        limits = self.limits
        for flight in sorted((each for each in self._flying if each.ends <= now), key=lambda each: each.ends):
            self._flying.remove(flight)
            if isinstance(flight.ending, Reply):
                limits.answered(now, flight.ticket, 100, flight.ending)
                self.admitted += 1
            else:
                assert isinstance(flight.ending, RateLimitError)
                wait = chance.random() * 0.5 + (flight.ending.wait or 0.0)
                limits.failed(now, flight.ticket, len(self._flying), wait, flight.ending)
                self._waiting.append(now + wait)
        self._waiting = [due for due in self._waiting if due > now]
        while (
            len(self._flying) < min(limits.room(now), self._needs) and len(self._waiting) < 2 * self._calls
        ) and limits.delay(now) <= 0:
            seconds, ending = self._world.endpoint(now, b"")
            self._world.sent.append((now, isinstance(ending, Reply)))
            ticket = limits.started(now, 100, len(self._flying))
            self._flying.append(Flight(now + max(seconds, _STEP), ticket, ending))


def go(world: World, runs: list[Run], seconds: float, seed: int = 1) -> None:
    """Lets them all go on, in any order at each moment."""
    chance = Random(seed)
    ends = world.now + seconds
    while world.now < ends:
        world.now += _STEP
        for run in chance.sample(runs, len(runs)):
            run.step(chance)


def admitting(most: int) -> Endpoint:
    return admits(lambda _: most, answers(0.2), refusal=0.005)


def of_one_run(endpoint: Endpoint, calls: int, seconds: float) -> World:
    """What becomes of one run without others."""
    world = World(endpoint)
    go(world, [Run(world, calls, is_alone=True)], seconds)
    return world


def limiting(counts: str) -> Endpoint:
    if counts == "bucket":
        return refills(6_000, 20, answers(0.2), tells=False)
    return window(100, 1.0, answers(0.2), slides=True) if counts == "window" else admitting(20)


@pytest.mark.parametrize("counts", ["number", "bucket"])
def test_a_run_that_shares_with_nobody_goes_as_it_does_without_a_shared_ledger(counts: str) -> None:
    world = World(limiting(counts))
    go(world, [Run(world, 64)], 8)
    alone = of_one_run(limiting(counts), 64, 8)
    assert world.between(0, 8)[0] >= 0.97 * alone.between(0, 8)[0]
    assert world.between(0, 8)[1] <= 1.3 * alone.between(0, 8)[1]


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_what_is_admitted_at_a_time_is_used_with_no_more_refusals_than_one_run_has(workers: int) -> None:
    world = World(admitting(40))
    go(world, [Run(world, 256 // workers) for _ in range(workers)], 15)
    one = of_one_run(admitting(40), 256, 15)
    assert world.between(0, 5)[1] <= 1.25 * one.between(0, 5)[1]
    assert world.between(5, 15)[0] >= 0.95 * one.between(5, 15)[0]
    assert world.between(5, 15)[1] <= 1.5 * one.between(5, 15)[1]


@pytest.mark.parametrize("counts", ["bucket", "window"])
def test_most_of_a_rate_that_is_admitted_is_used_with_no_more_refusals_than_one_run_has(counts: str) -> None:
    world = World(limiting(counts))
    go(world, [Run(world, 64) for _ in range(4)], 20)
    one = of_one_run(limiting(counts), 256, 20)
    assert world.between(5, 20)[0] >= 0.85 * one.between(5, 20)[0]
    assert sum(world.between(5, 20)) <= 1.05 * sum(one.between(5, 20))


def test_what_one_run_does_not_need_another_uses_and_what_one_leaves_behind_too() -> None:
    world = World(admitting(40))
    steady, idle = Run(world, 64), Run(world, 64, needs=3)
    killed, leaving = Run(world, 64, 0, 8, is_killed=True), Run(world, 64, 0, 8)
    late = Run(world, 64, begins=18)
    go(world, [steady, idle, killed, leaving, late], 24)
    assert world.between(4, 8)[0] >= 0.8 * 40 * 4 / 0.2
    assert world.between(17, 18)[0] >= 0.9 * 40 / 0.2, "what a killed run had is free once it was not heard of for 8 s"
    assert world.between(18, 24)[0] >= 0.9 * 40 * 6 / 0.2
    assert world.between(18, 24)[1] <= 30, "a run that comes knows what the others have learned"
    assert late.in_flight >= 15


def test_runs_take_turns_if_fewer_calls_than_runs_are_admitted() -> None:
    world = World(admitting(2))
    runs = [Run(world, 8) for _ in range(4)]
    go(world, runs, 40)
    assert min(run.admitted for run in runs) >= 10
    assert world.between(10, 40)[0] >= 0.6 * 2 * 30 / 0.2


def test_all_runs_wait_if_one_is_asked_to_wait() -> None:
    world = World(answers(0.2))
    runs = [Run(world, 4) for _ in range(3)]
    go(world, runs, 1)
    empty = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}
    world.endpoint = answers(0.2, Reply(200, {}, empty))
    go(world, runs[:1], 0.3)
    told, world.endpoint = world.now, answers(0.2)
    go(world, runs, 4)
    assert world.between(told + 0.1, told + 4) == (0, 0)
    go(world, runs, 2)
    assert all(run.in_flight for run in runs)


def test_a_run_whose_database_is_away_goes_on_with_what_it_has() -> None:
    world = World(admitting(10))
    runs = [Run(world, 8) for _ in range(2)]
    go(world, runs, 4)
    for run in runs:
        run.cut_off()
    go(world, runs, 4)
    assert world.between(4.5, 8)[0] >= 0.5 * 10 * 3.5 / 0.2


@pytest.mark.parametrize(
    ("total", "wanted", "parts"),
    [
        (10, [64, 64], [5, 5]),
        (10, [3, 64], [3, 7]),
        (11, [64, 2, 64, 64], [3, 2, 3, 3]),
        (10, [1, 1], [1, 1]),
        (1, [5, 5, 5], [0, 0, 1]),
        (0, [5], [0]),
    ],
)
def test_concurrency_is_divided_by_need(total: int, wanted: list[int], parts: list[int]) -> None:
    assert divided(total, wanted) == parts


def test_runs_take_turns_at_a_number_that_does_not_suffice_for_all() -> None:
    assert sorted(divided(1, [5, 5, 5], turn).index(1) for turn in range(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        '{"learner": {}, "members": {}}',
        '{"learner": {}, "members": {"a": [5000, 1, 1, 1, 1]}}',
        '{"learner": null, "members": {"a": [5000, 1, 1, 1, 1]}}',
        '{"learner": [], "members": {"a": [5000, 1, 1, 1, 1]}}',
        '{"members": {"a": [5000]}}',
        f'{{"members": {{"a": [1{"0" * 400}, 1, 1, 1, 1]}}}}',
        "[" * 100_000,
    ],
)
def test_a_text_of_another_version_is_replaced(text: str) -> None:
    world = World(answers(0.2))
    world.texts["learned\nendpoint"] = text
    run = Run(world, 4)
    go(world, [run], 0.1)
    assert run.in_flight == 4
    assert len(json.loads(world.texts["learned\nendpoint"])["members"]) == 1
