"""What each stage may cost, as a multiple of a floor that is measured in the same process: `make profile` runs it.

The floor of a row is its JSON, written and read once, and a little plain Python; that of `send` is a bare socket. Both
are as fast or slow as the machine and the interpreter are, so the multiples hold on others too. Of all rounds the best
counts, by CPU time, and half as much again is left for noise. pytest does not find this file by itself, so `make test`
never waits for a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson
import pytest

from tests.bench.harness import Bench
from tests.bench.machine import cores, on
from tests.bench.processes import Stub
from tests.bench.stages import ASIDE, STAGES, Sample

ROWS: Final = 2_000
ROUNDS: Final = 7
BUDGETS: Final[Mapping[str, float]] = {
    "read": 8.7,
    "render": 2.9,
    "hash": 0.85,
    "look_up": 0.6,
    "hand_over": 5.1,
    "send": 3.2,
    "decode": 2.8,
    "decode_stream": 110,
    "store": 3.7,
    "map": 6.6,
    "write": 4.5,
}


class Floors(NamedTuple):
    """Seconds of CPU, at best, for the rows on a bare socket and for their JSON."""

    socket: float
    json: float


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    with Stub(0) as stub, on(cores()[1]):
        bench = Bench(tmp_path_factory.mktemp("bench"), (), ROUNDS, 1)
        with Sample(bench, stub, ROWS) as opened:
            yield opened


@pytest.fixture(scope="module")
def floors(sample: Sample) -> Floors:
    return Floors(_best(sample.bare_socket), _best(lambda: _plain(sample)))


@pytest.mark.benchmark(timer=time.process_time, disable_gc=True)
@pytest.mark.parametrize("name", [*STAGES, "decode_stream"])
def test_a_stage_keeps_within_its_budget(name: str, benchmark: Any, sample: Sample, floors: Floors) -> None:
    benchmark.pedantic({**STAGES, **ASIDE}[name], args=(sample,), rounds=ROUNDS, warmup_rounds=1)
    multiple = benchmark.stats.stats.min / (floors.socket if name == "send" else floors.json)
    assert multiple < BUDGETS[name], f"{name} costs {multiple:.2f} times its floor"


def _plain(sample: Sample) -> None:
    for record in sample.records:
        line = orjson.dumps({**record.data, "reply": sample.reply.body})
        assert len({name.upper(): value for name, value in orjson.loads(line).items()}) > len(record.data)


def _best(run: Callable[[], None]) -> float:
    found = []
    for _ in range(3 * ROUNDS):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)
