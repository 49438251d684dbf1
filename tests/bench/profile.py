"""`make profile`: what each stage of a row's path costs, in microseconds of CPU, and how that adds up to the whole.

The whole is the command itself, in this process, with 64 calls in flight and no latency. What is left between the sum
and the whole is what only happens together: generators, locks that are waited for, caches that are cold.
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

from connector import cli
from tests.bench.harness import OURS, Bench, remove
from tests.bench.machine import cores, on
from tests.bench.processes import Stub
from tests.bench.stages import FLIGHT, STAGES, Sample


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.05)  # as connector.cli has it
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Stub(0) as stub, on(cores()[1]):
        bench = Bench(Path(directory), (), arguments.rounds, 1)
        with Sample(bench, stub, arguments.rows) as sample:
            found = {name: _median(partial(stage, sample), bench.rounds) for name, stage in STAGES.items()}
            socket = _median(sample.bare_socket, bench.rounds)
        together = whole(bench, stub, arguments.rows)
    micros = 1e6 / arguments.rows
    each = {name: micros * seconds for name, seconds in found.items()}
    print("\n".join(lines(each, micros * together, micros * socket)))  # noqa: T201 - this is its output


def whole(bench: Bench, stub: Stub, rows: int) -> float:
    """Seconds of CPU that the command takes for a table, less what it takes for one row."""
    one, many = (median(_command(bench, stub, count) for _ in range(bench.rounds)) for count in (1, rows))
    return many - one


def lines(stages: Mapping[str, float], together: float, socket: float) -> Iterator[str]:
    """The table, in microseconds for each row."""
    total = sum(stages.values())
    for name, cost in {**stages, "sum": total, "the rest": together - total, "whole path": together}.items():
        what = (STAGES[name].__doc__ or "") if name in STAGES else ""
        yield f"{name.replace('_', '-'):<10} {cost:8.1f} µs {cost / together:6.1%}  {what}".rstrip()
    yield f"Of `send`, {socket:.1f} µs are the system's: a bare socket takes as much for the same bytes."


def _command(bench: Bench, stub: Stub, rows: int) -> float:
    target = bench.directory / "whole.jsonl"
    argv = bench.command(OURS, stub, bench.table(rows), target, FLIGHT)[3:]
    seconds = _cost(lambda: cli.run(argv))
    remove(target)
    return seconds


def _median(run: Callable[[], object], rounds: int) -> float:
    return median(_cost(run) for _ in range(rounds))


def _cost(run: Callable[[], object]) -> float:
    """Seconds of CPU, in user space and in the system, of all threads."""
    gc.collect()
    before = time.process_time()
    run()
    return time.process_time() - before


if __name__ == "__main__":
    main()
