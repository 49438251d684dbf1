"""Holds each stage to its budget: `make profile` runs it.

Of all rounds the best counts, by CPU time, and a budget leaves half as much again for noise. pytest does not find this
file by itself, so `make test` never waits for a clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.bench.harness import Bench
from tests.bench.machine import cores, on
from tests.bench.path import ASIDE, FLOORS, STAGES
from tests.bench.processes import Stub
from tests.bench.stages import Sample

ROWS: Final = 2_000
ROUNDS: Final = 7


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    with Stub(0) as stub, on(cores()[1]):
        bench = Bench(tmp_path_factory.mktemp("bench"), (), ROUNDS, 1)
        with Sample(bench, stub, ROWS) as opened:
            yield opened


@pytest.fixture(scope="module")
def floors(sample: Sample) -> Mapping[str, float]:
    """Seconds of CPU, at best."""
    return {name: _best(sample, name) for name in FLOORS}


@pytest.mark.benchmark(timer=time.process_time, disable_gc=True)
@pytest.mark.parametrize("name", [*STAGES, *ASIDE])
def test_a_stage_keeps_within_its_budget(
    name: str, benchmark: Any, sample: Sample, floors: Mapping[str, float]
) -> None:
    benchmark.pedantic(sample.go, args=(name,), rounds=ROUNDS, warmup_rounds=1)
    stage = {**STAGES, **ASIDE}[name]
    multiple = benchmark.stats.stats.min / floors[stage.floor]
    assert multiple < stage.budget, f"{name} costs {multiple:.2f} times its floor"


def _best(sample: Sample, name: str) -> float:
    found = []
    for _ in range(3 * ROUNDS):
        started = time.process_time()
        sample.go(name)
        found.append(time.process_time() - started)
    return min(found)
