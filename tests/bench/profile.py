"""Where a row's time goes: what each stage of its path costs, and how that adds up to the whole.

The whole is the command itself, in this process, with 64 calls in flight and no latency. Stages and whole take turns in
every round. What is left of the whole beside the stages only happens together; it holds the noise of both as well.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

from connector import cli
from tests.bench.harness import OURS, Bench, Run, remove
from tests.bench.machine import cores, on
from tests.bench.path import ASIDE, FLOORS, STAGES, WHOLE
from tests.bench.processes import Stub
from tests.bench.stages import FLIGHT, Sample

_ROUNDS: Final = 5
_SWITCH_SECONDS: Final = 0.05  # as connector.cli has it


def main() -> None:
    """Prints each run as a line of JSON; the argument is how many rows to take."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for run in runs(Bench(Path(directory), (), _ROUNDS, 1), int(sys.argv[1])):
            print(json.dumps(run))  # noqa: T201 - this is its output


def runs(bench: Bench, rows: int) -> Iterator[Run]:
    """Each stage on its own, and the command that has them all."""
    with Stub(0) as stub, on(cores()[1]), Sample(bench, stub, rows) as sample:
        what = {name: partial(sample.go, name) for name in (*STAGES, *ASIDE, *FLOORS)}
        what[WHOLE] = partial(_command, bench, stub, rows)
        start = _cost(partial(_command, bench, stub, 1))
        for turn, (name, run) in product(range(bench.rounds), what.items()):
            cost = _cost(run) - (start if name == WHOLE else 0)
            yield Run("stages", OURS, name, turn, rows, cost, cost)


def _command(bench: Bench, stub: Stub, rows: int) -> None:
    target = bench.directory / "whole.jsonl"
    cli.run(bench.command(OURS, stub, bench.table(rows), target, FLIGHT)[3:])
    remove(target)


def _cost(run: Callable[[], object]) -> float:
    """Seconds of CPU, in user space and in the system, of all threads."""
    gc.collect()
    before = time.process_time()
    run()
    return time.process_time() - before


if __name__ == "__main__":
    main()
