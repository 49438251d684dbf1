"""Runs that share a timeline keep one limit together and use it, however unevenly they come, work and go."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from random import Random

import pytest

from connector.calls.shared_pace import SharedPace

_LATE = 0.25
_STEP = 0.01


class World:
    """A clock that is moved by hand, and the timeline that all runs take from, as the database does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.next = 0.0
        self.takes = 0
        self.known: float | None = None


class Time:
    """The timeline as one run sees it: what it asks for comes after a round trip."""

    def __init__(self, world: World, trip: float) -> None:
        self.known: float | None = None
        self._world = world
        self._trip = trip
        self._asked = 0.0
        self._comes = 0.0
        self.is_asked = False

    def ask(self, seconds: float) -> None:
        self.is_asked, self._asked, self._comes = True, seconds, self._world.now + self._trip

    def given(self) -> list[tuple[float, float]]:
        if not self.is_asked or self._world.now < self._comes:
            return []
        world = self._world
        world.takes += 1
        world.next = max(world.next, world.now - _LATE) + self._asked
        self.is_asked = False
        return [(world.next - self._asked, world.next)]


class Run:
    """A run with so many calls at once, each of which takes so long, from one time to another."""

    def __init__(
        self,
        world: World,
        per_minute: float,
        calls: int,
        latency: float,
        begins: float,
        ends: float,
        trip: float = 0.002,
    ) -> None:
        self.pace = SharedPace(per_minute, 0.0, Time(world, trip))
        self.begins, self.ends = begins, ends
        self._latency = latency
        self._free = [0.0] * calls

    def step(self, now: float) -> int:
        started = 0
        if not self.begins <= now < self.ends:
            return 0
        for worker, free in enumerate(self._free):
            if free <= now and self.pace.delay(now) <= 0:
                self.pace.charge(now, self.pace.cost())
                self._free[worker] = now + self._latency
                started += 1
        return started


def starts(world: World, runs: list[Run], seconds: float, random: Random) -> list[float]:
    """Runs them all, in any order at each moment; returns when calls started."""
    times: list[float] = []
    while world.now < seconds:
        world.now += _STEP
        for run in random.sample(runs, len(runs)):
            times += [world.now] * run.step(world.now)
    return times


def most_in_a_minute(times: list[float]) -> int:
    return max((bisect_left(times, each + 60) - place for place, each in enumerate(times)), default=0)


def in_window(times: list[float], begins: float, ends: float) -> int:
    return bisect_left(times, ends) - bisect_left(times, begins)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("per_minute", "number"), [(30, 3), (600, 1), (600, 4), (3_000, 4)])
def test_no_window_holds_more_than_the_limit_and_all_of_it_is_used_while_runs_come_and_go(
    per_minute: int, number: int, seed: int
) -> None:
    random, world = Random(seed), World()
    steady = Run(world, per_minute, calls=64, latency=0.5, begins=0, ends=200)
    others = []
    for _ in range(number * 2):
        begins = random.uniform(0, 120)
        others.append(
            Run(
                world,
                per_minute,
                calls=random.choice([1, 4, 64]),
                latency=random.choice([0.05, 0.5, 2.0]),
                begins=begins,
                ends=begins + random.uniform(5, 60),
                trip=random.choice([0.001, 0.02]),
            )
        )
    times = starts(world, [steady, *others], 130, random)
    assert most_in_a_minute(times) <= per_minute
    assert in_window(times, 10, 130) >= 0.9 * per_minute * 2 - 1


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_asks_some_ten_times_a_second_for_five_hundred_calls(workers: int) -> None:
    world = World()
    runs = [Run(world, 30_000, 150, 0.2, 0, 99) for _ in range(workers)]
    times = starts(world, runs, 10, Random(1))
    assert world.takes <= 10 * 15 * workers
    assert in_window(times, 5, 10) >= 0.95 * 2_500


def test_what_turns_out_to_take_more_is_paid_before_the_next_call_and_what_takes_less_is_given_back() -> None:
    world = World()
    pace = SharedPace(60, 0.0, Time(world, 0.0))
    tokens: Callable[[float], float] = pace.cost

    def wait() -> float:
        since = world.now
        while pace.delay(world.now) > 0:
            world.now += _STEP
        return world.now - since

    wait()
    pace.charge(world.now, tokens(1))
    pace.charge(world.now, tokens(5) - tokens(1))
    assert wait() > 4
    pace.charge(world.now, tokens(10))
    pace.charge(world.now, tokens(1) - tokens(10))
    assert wait() < 2


def test_a_first_call_goes_alone_and_takes_nothing_from_the_others() -> None:
    world = World()
    pace = SharedPace(600, 0.0, Time(world, 0.0))
    while pace.delay(world.now) > 0:
        world.now += _STEP
    pace.alone(world.now)
    taken = world.next
    assert pace.delay(world.now + 5) > 0
    assert world.next == taken
    pace.charge(world.now, pace.cost(2))
    world.now += 1
    pace.delay(world.now)
    assert pace.delay(world.now) <= 0
