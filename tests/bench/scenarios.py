"""What is measured. Each scenario yields its trials; clients take turns in every round, so that a noisy hour hits all.

How many rows a trial has follows from how long it should take and from how fast its client is: some seconds tell a rate
as well as a minute does, so nobody waits for the slow ones.
"""

from __future__ import annotations

import heapq
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench.harness import EVENTS, LATENCY, OURS, Bench, Run, Trial, remove, review
from tests.bench.peers import BATCH
from tests.bench.processes import ROOT, Process, Stub, Watch
from tests.bench.tls import Certificate

FLOOR: Final = "aiohttp_loop"
SWIFT: Final = (OURS, FLOOR)
"""The clients that are close to each other. The others are slower by far, so that one round less tells it as well."""


class Pace(NamedTuple):
    """How fast a client is on two cores: seconds to start, and rows a second, whole or streamed.

    It decides how many rows a trial has, and tells how long it will take; no figure depends on it.
    """

    start: float
    rate: float
    streamed: float


PACES: Final[Mapping[str, Pace]] = {
    OURS: Pace(0.2, 10_000, 3_000),
    FLOOR: Pace(0.2, 8_000, 3_000),
    "openai_sdk": Pace(0.6, 600, 160),
    "openai_aiohttp": Pace(0.6, 900, 200),
    "langchain_batch": Pace(1.2, 160, 80),
    "litellm_loop": Pace(2.0, 200, 80),
}

VECTOR_PEERS: Final[Mapping[str, float]] = {"embeddings_sdk": 8.0, "embeddings_floor": 2.5}
"""With the seconds that each of them takes."""

FLIGHTS: Final = (64, 256, 512, 1_024, 2_048)
SLOW_FLIGHT: Final = 512
"""The most calls in flight for the others, which reach less with more of them."""

ROWS: Final = 20_000
"""The most rows of a trial."""

FORMATS: Final = (("jsonl", "jsonl"), ("csv", "csv"), ("csv", "parquet"), ("parquet", "parquet"), ("csv", "jsonl"))

STRAGGLER_SHARE: Final = 0.01
STRAGGLER_FACTOR: Final = 60
SHORT: Final = 0.05
"""Seconds of latency where stragglers are 60 times slower."""

_STARTS: Final = 7
_SMALL, _LARGE, _FULL = 20_000, 200_000, 5
_CHECKED: Final = 100_000
"""Rows a second that the harness makes, and checks, beside what it measures."""


class Load(NamedTuple):
    """What clients are put to: seconds that each call takes, calls in flight, and whether replies are streamed."""

    latency: float
    flight: int
    stream: bool = False

    def rate(self, client: str) -> float:
        """Rows a second that a client reaches about: what the calls in flight allow, or its own pace."""
        pace = PACES[client].streamed if self.stream else PACES[client].rate
        return min(pace, self.flight / self.latency) if self.latency else pace

    def rows(self, client: str, seconds: float, most: int = ROWS) -> int:
        """How many rows a client gets, so that it is busy for so long; each call in flight has one."""
        return max(self.flight, min(most, int(seconds * self.rate(client))))

    def seconds(self, client: str, rows: int) -> float:
        """About how long that many rows take, with all that goes with it."""
        return PACES[client].start + rows / self.rate(client) + rows / _CHECKED


def _turns(bench: Bench, clients: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Who runs when: all in turn, the slow ones in one round less."""
    for turn, client in product(range(bench.rounds), clients):
        if client in SWIFT or turn < max(1, bench.rounds - 1):
            yield turn, client


def _trial(bench: Bench, run: Run, stub: Stub, load: Load, **how: Any) -> Trial:
    """A client over a whole table."""

    def measure() -> Sequence[Run]:
        return [bench.measured(run, stub, load.flight, stream=load.stream, **how)]

    return Trial(run, load.seconds(run.client, run.rows), measure)


def throughput(bench: Bench) -> Iterator[Trial]:
    """Whole tables, file to file, at 200 ms; on any core, as users run it."""
    with Stub(LATENCY, free=True) as stub:
        for flight in FLIGHTS:
            load = Load(LATENCY, flight)
            clients = [client for client in (OURS, *bench.peers) if client in SWIFT or flight <= SLOW_FLIGHT]
            for turn, client in _turns(bench, clients):
                count = bench.rows(load.rows(client, 12.0 if client in SWIFT else 8.0), flight)
                yield _trial(bench, Run("throughput", client, str(flight), turn, count, 0), stub, load, free=True)


def streaming(bench: Bench) -> Iterator[Trial]:
    """The same with replies of 50 events, 64 in flight."""
    load = Load(LATENCY, 64, stream=True)
    with Stub(LATENCY, f"--stream-chunks={EVENTS}") as stub:
        for turn, client in _turns(bench, (OURS, *bench.peers)):
            count = bench.rows(load.rows(client, 6.0), 64)
            yield _trial(bench, Run("streaming", client, "64", turn, count, 0), stub, load)


def formats(bench: Bench) -> Iterator[Trial]:
    """From file to file in other formats, 256 in flight at 200 ms."""
    load = Load(LATENCY, 256)
    with Stub(LATENCY) as stub:
        for turn, (given, output) in product(range(bench.rounds), FORMATS):
            run = Run("formats", OURS, f"{given} to {output}", turn, bench.rows(4_000, 256), 0)
            yield _trial(bench, run, stub, load, given=given, output=output)


def cpu(bench: Bench) -> Iterator[Trial]:
    """An endpoint that answers at once: what is left is the client's own work."""
    load = Load(0, 64)
    with Stub(0) as stub:
        for turn, client in _turns(bench, (OURS, *bench.peers)):
            count = bench.rows(load.rows(client, 3.0, 10_000), 64)
            yield _trial(bench, Run("cpu", client, "64", turn, count, 0), stub, load)


def stages(bench: Bench) -> Iterator[Trial]:
    """Each stage on its own, for a few thousand rows; and the command that has them all."""
    rows = bench.rows(5_000, 500)
    command = [sys.executable, "-m", "tests.bench.profile", str(rows)]

    def measure() -> Sequence[Run]:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return [Run(*json.loads(line)) for line in done.stdout.splitlines()]

    yield Trial(Run("stages", OURS, "all", 0, rows, 0), 30.0, measure)


def vectors(bench: Bench) -> Iterator[Trial]:
    """Vectors of 1,536 numbers, 64 texts a call and 16 calls in flight, from JSON lines to Parquet; on any core."""
    rows, target = bench.rows(20_000), bench.directory / "vectors.parquet"
    calls = -(-rows // BATCH)

    def measure(run: Run) -> Sequence[Run]:
        if run.calls:
            remove(target)  # with the ledger beside it
        return [bench.vectors(run, stub, 16, target)]

    with Stub(0, free=True) as stub:
        for turn, client in product(range(bench.rounds), (*VECTOR_PEERS, OURS)):
            run = Run("vectors", client, "called", turn, rows, 0, calls=calls)
            yield Trial(run, VECTOR_PEERS.get(client, 3.5) + 2.0, partial(measure, run))
        for turn in range(bench.rounds):  # the ledger of the last run is still there
            run = Run("vectors", OURS, "out of the ledger", turn, rows, 0)
            yield Trial(run, 4.0, partial(measure, run))
    remove(target)


def unpinned(bench: Bench) -> Iterator[Trial]:
    """As users run it, endpoint and client on any core, beside the same with a core for each."""
    for latency in (0.0, 0.02, LATENCY):
        with Stub(latency, free=True) as free, Stub(latency) as bound:
            for flight, turn, stub, client in product((64, 512, 2_048), range(bench.rounds), (free, bound), SWIFT):
                load = Load(latency, flight)
                count = bench.rows(load.rows(client, 2.5, 12_000), flight)
                where = "any core" if stub is free else "one core"
                case = f"{1000 * latency:.0f} ms, {flight:,} in flight, {where}"
                yield _trial(bench, Run("unpinned", client, case, turn, count, 0), stub, load, free=stub is free)


def tls(bench: Bench) -> Iterator[Trial]:
    """The same behind TLS, which every client verifies; on any core."""
    certificate = Certificate.made(bench.directory)
    for latency, flight in ((0.0, 64), (LATENCY, 256)):
        load = Load(latency, flight)
        with Stub(latency, free=True, certificate=certificate) as stub:
            for turn, client in _turns(bench, (OURS, *bench.peers)):
                count = bench.rows(load.rows(client, 6.0, 12_000), flight)
                case = f"{1000 * latency:.0f} ms, {flight} in flight"
                yield _trial(bench, Run("tls", client, case, turn, count, 0), stub, load, free=True)


def width(bench: Bench) -> Iterator[Trial]:
    """A CSV of one row and many columns."""

    def measure(run: Run, columns: int) -> Sequence[Run]:
        path = bench.directory / "1.csv"
        names = ["id", "text", *(f"column {number}" for number in range(columns - 2))]
        cells = ["0", f'"{review(0)}"', *map(str, range(columns - 2))]
        path.write_text(f"{','.join(names)}\n{','.join(cells)}\n", encoding="utf-8")
        try:
            return [bench.measured(run, stub, 1, given="csv", output="csv")]
        finally:
            path.unlink()

    with Stub(0) as stub:
        for columns, turn in product((10, 400, 1_600), range(bench.rounds)):
            run = Run("width", OURS, f"{columns:,}", turn, 1, 0)
            yield Trial(run, 0.7, partial(measure, run, columns))


def growth(bench: Bench) -> Iterator[Trial]:
    """Ten times the rows: memory should not grow, nor the cost of a row."""
    with Stub(0) as stub:
        for usual in (_SMALL, _LARGE):
            count = bench.rows(usual * _FULL if bench.full else usual)
            yield _trial(bench, Run("growth", OURS, f"{count:,}", 0, count, 0), stub, Load(0, 256))


def stragglers(bench: Bench) -> Iterator[Trial]:
    """One call in a hundred takes 60 times as long as the others."""
    options = (f"--straggler-share={STRAGGLER_SHARE}", f"--straggler-factor={STRAGGLER_FACTOR}")
    rows = bench.rows(3_000, 640)
    for turn, client in product(range(bench.rounds), [each for each in (OURS, *bench.peers) if each in SWIFT]):
        run = Run("stragglers", client, "64", turn, rows, 0)
        with Stub(SHORT, *options) as stub:  # a new one each time, so that the same calls are slow
            yield _trial(bench, run, stub, Load(SHORT, 64))._replace(seconds=0.5 + ideal_seconds(rows, 64))


def ideal_seconds(rows: int, flight: int) -> float:
    """How long so many calls take at best with so many in flight: each starts the moment that another has ended."""
    chance = random.Random(0)  # as the stub draws its stragglers
    ends = [0.0] * flight
    for _ in range(rows):
        factor = STRAGGLER_FACTOR if chance.random() < STRAGGLER_SHARE else 1
        heapq.heapreplace(ends, ends[0] + SHORT * factor)
    return max(ends)


def kill(bench: Bench) -> Iterator[Trial]:
    """`kill -9` in the middle of a run, and the same command again."""
    rows, target, load = bench.rows(2_000, 640), bench.directory / "killed.jsonl", Load(LATENCY, 64)

    def measure(run: Run) -> Sequence[Run]:
        with Stub(LATENCY) as stub:
            first = Process(bench.command(OURS, stub, bench.table(rows), target, 64), bench.directory / "stdout")
            try:
                while first.is_running and stub.stats()["calls"] < rows / 2:
                    time.sleep(0.01)
                time.sleep(LATENCY * run.round / bench.rounds)  # each at another moment between two waves of replies
                first.kill()
                again = bench.measured(run, stub, 64, target=target)
                return [again._replace(calls=stub.stats()["calls"])]
            finally:
                remove(target)

    for turn in range(bench.rounds):
        run = Run("kill", OURS, "64", turn, rows, 0)
        yield Trial(run, 1.0 + load.seconds(OURS, rows), partial(measure, run))


def resume(bench: Bench) -> Iterator[Trial]:
    """A finished run once more: everything is in the ledger."""
    rows, target, load = bench.rows(20_000), bench.directory / "finished.jsonl", Load(0, 64)
    with Stub(0) as stub:
        first = _trial(bench, Run("resume", OURS, "first", 0, rows, 0), stub, load, target=target)
        yield first._replace(measure=lambda: first.measure()[:0])
        for turn in range(bench.rounds):
            run = Run("resume", OURS, "again", turn, rows, 0)
            yield _trial(bench, run, stub, load, target=target)._replace(seconds=1.0)
    remove(target)


def startup(bench: Bench) -> Iterator[Trial]:
    """The smallest things: `spec`, and a table of one row, with clients beside us."""
    out, target = bench.directory / "stdout", bench.directory / "one.jsonl"

    def measure(run: Run) -> Sequence[Run]:
        command = [sys.executable, "-m", "connector", "spec"]
        if run.case == "enrich":
            command = bench.command(run.client, stub, bench.table(1), target, 1)
        try:
            return [run._replace(**Process(command, out).spent()._asdict())]
        finally:
            remove(target)

    cases = [*((client, "enrich") for client in (OURS, *bench.peers)), (OURS, "spec")]
    with Stub(0) as stub:
        for turn, (client, case) in product(range(max(1, int(_STARTS * bench.scale))), cases):
            run = Run("startup", client, case, turn, 1, 0)
            yield Trial(run, PACES[client].start, partial(measure, run))


def read(bench: Bench) -> Iterator[Trial]:
    """Airbyte's `read` of an input whose replies are all in the ledger: messages a second, on one core."""
    rows, out, ledger = bench.rows(50_000), bench.directory / "messages.jsonl", bench.directory / "read.ledger"

    def measure(run: Run) -> Sequence[Run]:
        table = bench.table(rows)
        config = bench.config(stub, 64, input={"type": "files", "path": str(table)}, cache=str(ledger))
        verb = [sys.executable, "-m", "connector", "read", f"--config={config}", f"--catalog={_catalog(bench, table)}"]
        with Watch(stub) as watch:
            spent = Process(verb, out).spent()
        with out.open("rb") as lines:
            records = sum(b'"type":"RECORD"' in line for line in lines)
        if records != rows:
            raise RuntimeError(f"{records} records came out of {rows}")
        return [run._replace(**spent._asdict(), calls=watch.counted("calls"))]

    with Stub(0) as stub:
        first = Run("read", OURS, "first", 0, rows, 0)
        yield Trial(first, Load(0, 64).seconds(OURS, rows), lambda: measure(first)[:0])
        for turn in range(bench.rounds):
            run = Run("read", OURS, "ledger", turn, rows, 0)
            yield Trial(run, 2.0, partial(measure, run))
    remove(out)
    remove(ledger)


def _catalog(bench: Bench, table: Path) -> Path:
    stream = {"name": table.stem, "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    configured = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
    path = bench.directory / "catalog.json"
    path.write_text(json.dumps({"streams": [configured]}), encoding="utf-8")
    return path


ALL: Final[Mapping[str, Callable[[Bench], Iterator[Trial]]]] = {
    each.__name__: each
    for each in (
        *(throughput, streaming, formats, cpu, unpinned, tls, vectors, stages, growth, width),
        *(stragglers, kill, resume, startup, read),
    )
}
