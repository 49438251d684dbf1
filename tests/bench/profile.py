"""`make profile`: what each stage of a row's path costs, in microseconds of CPU, and how that adds up to the whole.

The whole is the command itself, in this process, with 64 calls in flight and no latency. Stages and whole take turns in
every round, and the medians count. The rest is the difference between the whole and the sum, so it holds what only
happens together, and the noise of both: on a busy machine it can be negative.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from connector import cli
from tests.bench.harness import EVENTS, OURS, Bench, remove
from tests.bench.machine import cores, on
from tests.bench.processes import Stub
from tests.bench.stages import ASIDE, FLIGHT, STAGES, Sample

WHOLE: Final = "whole path"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.05)  # as connector.cli has it
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Stub(0) as stub, on(cores()[1]):
        bench = Bench(Path(directory), (), arguments.rounds, 1)
        with Sample(bench, stub, arguments.rows) as sample:
            runs = {name: partial(stage, sample) for name, stage in {**STAGES, **ASIDE}.items()}
            rounds = [
                {**{name: _cost(run) for name, run in runs.items()}, WHOLE: whole(bench, stub, arguments.rows)}
                for _ in range(bench.rounds)
            ]
    middle = {name: median(costs[name] for costs in rounds) for name in rounds[0]}
    print("\n".join(lines({name: 1e6 * cost / arguments.rows for name, cost in middle.items()})))  # noqa: T201 - this is its output


def whole(bench: Bench, stub: Stub, rows: int) -> float:
    """Seconds of CPU that the command takes for a table, less what it takes for one row."""
    return _command(bench, stub, rows) - _command(bench, stub, 1)


def lines(costs: Mapping[str, float]) -> Iterator[str]:
    """The table, in microseconds for each row."""
    together, total = costs[WHOLE], sum(costs[name] for name in STAGES)
    table = {name: costs[name] for name in STAGES} | {
        "sum": total,
        "the rest": together - total,
        WHOLE: together,
    }
    for name, cost in table.items():
        what = (STAGES[name].__doc__ or "") if name in STAGES else ""
        yield f"{name.replace('_', '-'):<10} {cost:8.1f} µs {cost / together:6.1%}  {what}".rstrip()
    yield f"A bare socket takes {costs['bare_socket']:.1f} µs for what `send` exchanges."
    yield f"In place of `decode`, a stream of {EVENTS} events takes {costs['decode_stream']:.1f} µs."


def _command(bench: Bench, stub: Stub, rows: int) -> float:
    target = bench.directory / "whole.jsonl"
    argv = bench.command(OURS, stub, bench.table(rows), target, FLIGHT)[3:]
    seconds = _cost(lambda: cli.run(argv))
    remove(target)
    return seconds


def _cost(run: Callable[[], object]) -> float:
    """Seconds of CPU, in user space and in the system, of all threads."""
    gc.collect()
    before = time.process_time()
    run()
    return time.process_time() - before


if __name__ == "__main__":
    main()
