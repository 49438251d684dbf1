"""What is measured. Each scenario yields its runs; clients take turns in every round, so that a noisy hour hits all."""

from __future__ import annotations

import heapq
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Final

from tests.bench.harness import EVENTS, LATENCY, OURS, Bench, Run, remove, review
from tests.bench.peers import BATCH
from tests.bench.processes import ROOT, Process, Stub, Watch
from tests.bench.tls import Certificate

FLOOR: Final = "aiohttp_loop"
SWIFT: Final = (OURS, FLOOR)
"""The clients that get more rows. The others would take many minutes, and their rate is the same after some seconds."""

VECTOR_PEERS: Final = ("embeddings_sdk", "embeddings_floor")
FLIGHTS: Final = (64, 256, 512, 1_024, 2_048)
SLOW_FLIGHT: Final = 512
"""The most calls in flight for the others, which reach less with more of them."""

ROWS: Final = (20_000, 3_000)
"""The most rows for swift clients and for the others."""

_LONG: Final = 16.0
"""Seconds that a run takes at most if nothing but the endpoint takes time."""

FORMATS: Final = (("jsonl", "jsonl"), ("csv", "csv"), ("csv", "parquet"), ("parquet", "parquet"), ("csv", "jsonl"))

STRAGGLER_SHARE: Final = 0.01
STRAGGLER_FACTOR: Final = 60
SHORT: Final = 0.05
"""Seconds of latency where stragglers are 60 times slower."""

_STARTS: Final = 7
_SMALL, _LARGE, _FULL = 20_000, 200_000, 5


def rows_for(client: str, latency: float, flight: int, seconds: float = _LONG) -> int:
    """How many rows a client gets: as many as so many calls in flight can answer in that time, and no more."""
    most = ROWS[client not in SWIFT]
    return most if not latency else min(most, int(seconds * flight / latency))


def throughput(bench: Bench) -> Iterator[Run]:
    """Whole tables, file to file, at 200 ms; on any core, as users run it."""
    for flight in FLIGHTS:
        clients = [client for client in (OURS, *bench.peers) if client in SWIFT or flight <= SLOW_FLIGHT]
        with Stub(LATENCY, free=True) as stub:
            for turn, client in product(range(bench.rounds), clients):
                count = bench.rows(rows_for(client, LATENCY, flight), flight)
                yield bench.measured(Run("throughput", client, str(flight), turn, count, 0), stub, flight, free=True)


def streaming(bench: Bench) -> Iterator[Run]:
    """The same with replies of 50 events, 64 in flight."""
    with Stub(LATENCY, f"--stream-chunks={EVENTS}") as stub:
        for turn, client in product(range(bench.rounds), (OURS, *bench.peers)):
            count = bench.rows(2_500 if client in SWIFT else 500, 64)
            yield bench.measured(Run("streaming", client, "64", turn, count, 0), stub, 64, stream=True)


def formats(bench: Bench) -> Iterator[Run]:
    """From file to file in other formats, 256 in flight at 200 ms."""
    with Stub(LATENCY) as stub:
        for turn, (given, output) in product(range(bench.rounds), FORMATS):
            run = Run("formats", OURS, f"{given} to {output}", turn, bench.rows(5_000, 256), 0)
            yield bench.measured(run, stub, 256, given=given, output=output)


def cpu(bench: Bench) -> Iterator[Run]:
    """An endpoint that answers at once: what is left is the client's own work."""
    with Stub(0) as stub:
        for turn, client in product(range(bench.rounds), (OURS, *bench.peers)):
            count = bench.rows(10_000 if client in SWIFT else 2_000, 64)
            yield bench.measured(Run("cpu", client, "64", turn, count, 0), stub, 64)


def stages(bench: Bench) -> Iterator[Run]:
    """Each stage on its own, for a few thousand rows; and the command that has them all."""
    command = [sys.executable, "-m", "tests.bench.profile", str(bench.rows(5_000, 500))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    yield from (Run(*json.loads(line)) for line in done.stdout.splitlines())


def vectors(bench: Bench) -> Iterator[Run]:
    """Vectors of 1,536 numbers, 64 texts a call and 16 calls in flight, from JSON lines to Parquet; on any core."""
    rows, target = bench.rows(20_000), bench.directory / "vectors.parquet"
    calls = -(-rows // BATCH)
    with Stub(0, free=True) as stub:
        for turn, client in product(range(bench.rounds), (*VECTOR_PEERS, OURS)):
            remove(target)
            yield bench.vectors(Run("vectors", client, "called", turn, rows, 0, calls=calls), stub, 16, target)
        for turn in range(bench.rounds):  # the ledger of the last run is still there
            yield bench.vectors(Run("vectors", OURS, "out of the ledger", turn, rows, 0), stub, 16, target)
    remove(target)


def unpinned(bench: Bench) -> Iterator[Run]:
    """As users run it, endpoint and client on any core, beside the same with a core for each."""
    for latency, flight, free in product((0.0, 0.02, LATENCY), (64, 512, 2_048), (True, False)):
        with Stub(latency, free=free) as stub:
            for turn, client in product(range(bench.rounds), SWIFT):
                count = bench.rows(rows_for(client, latency, flight, 5.0), flight)
                case = f"{1000 * latency:.0f} ms, {flight:,} in flight, {'any core' if free else 'one core'}"
                yield bench.measured(Run("unpinned", client, case, turn, count, 0), stub, flight, free=free)


def tls(bench: Bench) -> Iterator[Run]:
    """The same behind TLS, which every client verifies; on any core."""
    certificate = Certificate.made(bench.directory)
    for latency, flight in ((0.0, 64), (LATENCY, 256)):
        with Stub(latency, free=True, certificate=certificate) as stub:
            for turn, client in product(range(bench.rounds), (OURS, *bench.peers)):
                count = bench.rows(rows_for(client, latency, flight, 8.0) // (1 if client in SWIFT else 2), flight)
                case = f"{1000 * latency:.0f} ms, {flight} in flight"
                yield bench.measured(Run("tls", client, case, turn, count, 0), stub, flight, free=True)


def width(bench: Bench) -> Iterator[Run]:
    """A CSV of one row and many columns."""
    with Stub(0) as stub:
        for columns, turn in product((10, 400, 1_600), range(bench.rounds)):
            path = bench.directory / "1.csv"
            names = ["id", "text", *(f"column {number}" for number in range(columns - 2))]
            cells = ["0", f'"{review(0)}"', *map(str, range(columns - 2))]
            path.write_text(f"{','.join(names)}\n{','.join(cells)}\n", encoding="utf-8")
            run = Run("width", OURS, f"{columns:,}", turn, 1, 0)
            yield bench.measured(run, stub, 1, given="csv", output="csv")
            path.unlink()


def growth(bench: Bench) -> Iterator[Run]:
    """Ten times the rows: memory should not grow, nor the cost of a row."""
    with Stub(0) as stub:
        for usual in (_SMALL, _LARGE):
            count = bench.rows(usual * _FULL if bench.full else usual)
            yield bench.measured(Run("growth", OURS, f"{count:,}", 0, count, 0), stub, 256)


def stragglers(bench: Bench) -> Iterator[Run]:
    """One call in a hundred takes 60 times as long as the others."""
    options = (f"--straggler-share={STRAGGLER_SHARE}", f"--straggler-factor={STRAGGLER_FACTOR}")
    for turn, client in product(range(bench.rounds), (OURS, *set(bench.peers).intersection(SWIFT))):
        with Stub(SHORT, *options) as stub:  # a new one each time, so that the same calls are slow
            yield bench.measured(Run("stragglers", client, "64", turn, bench.rows(3_000, 640), 0), stub, 64)


def ideal_seconds(rows: int, flight: int) -> float:
    """How long so many calls take at best with so many in flight: each starts the moment that another has ended."""
    chance = random.Random(0)  # as the stub draws its stragglers
    ends = [0.0] * flight
    for _ in range(rows):
        factor = STRAGGLER_FACTOR if chance.random() < STRAGGLER_SHARE else 1
        heapq.heapreplace(ends, ends[0] + SHORT * factor)
    return max(ends)


def kill(bench: Bench) -> Iterator[Run]:
    """`kill -9` in the middle of a run, and the same command again."""
    rows, target = bench.rows(2_000, 640), bench.directory / "killed.jsonl"
    for turn in range(bench.rounds):
        with Stub(LATENCY) as stub:
            command = bench.command(OURS, stub, bench.table(rows), target, 64)
            first = Process(command, bench.directory / "stdout")
            while first.is_running and stub.stats()["calls"] < rows / 2:
                time.sleep(0.01)
            time.sleep(LATENCY * turn / bench.rounds)  # each round at another moment between two waves of replies
            first.kill()
            again = bench.measured(Run("kill", OURS, "64", turn, rows, 0), stub, 64, target=target)
            yield again._replace(calls=stub.stats()["calls"])
        remove(target)


def resume(bench: Bench) -> Iterator[Run]:
    """A finished run once more: everything is in the ledger."""
    rows, target = bench.rows(20_000), bench.directory / "finished.jsonl"
    with Stub(0) as stub:
        bench.measured(Run("resume", OURS, "first", 0, rows, 0), stub, 64, target=target)
        for turn in range(bench.rounds):
            yield bench.measured(Run("resume", OURS, "again", turn, rows, 0), stub, 64, target=target)
    remove(target)


def startup(bench: Bench) -> Iterator[Run]:
    """The smallest things: `spec`, and a table of one row, with clients beside us."""
    out, target = bench.directory / "stdout", bench.directory / "one.jsonl"
    with Stub(0) as stub:
        commands = {
            (client, "enrich"): bench.command(client, stub, bench.table(1), target, 1)
            for client in (OURS, *bench.peers)
        }
        commands[OURS, "spec"] = [sys.executable, "-m", "connector", "spec"]
        for turn, ((client, case), command) in product(range(max(1, int(_STARTS * bench.scale))), commands.items()):
            yield Run("startup", client, case, turn, 1, 0)._replace(**Process(command, out).spent()._asdict())
            remove(target)


def read(bench: Bench) -> Iterator[Run]:
    """Airbyte's `read` of an input whose replies are all in the ledger: messages a second, on one core."""
    rows, out = bench.rows(50_000), bench.directory / "messages.jsonl"
    with Stub(0) as stub:
        table, ledger = bench.table(rows), bench.directory / "read.ledger"
        config = bench.config(stub, 64, input={"type": "files", "path": str(table)}, cache=str(ledger))
        verb = [sys.executable, "-m", "connector", "read", f"--config={config}", f"--catalog={_catalog(bench, table)}"]
        Process(verb, out).spent()
        for turn in range(bench.rounds):
            with Watch(stub) as watch:
                spent = Process(verb, out).spent()
            with out.open("rb") as lines:
                records = sum(b'"type":"RECORD"' in line for line in lines)
            if records != rows:
                raise RuntimeError(f"{records} records came out of {rows}")
            run = Run("read", OURS, "ledger", turn, rows, 0)
            yield run._replace(**spent._asdict(), calls=watch.counted("calls"))
        remove(out)
        remove(ledger)


def _catalog(bench: Bench, table: Path) -> Path:
    stream = {"name": table.stem, "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    configured = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
    path = bench.directory / "catalog.json"
    path.write_text(json.dumps({"streams": [configured]}), encoding="utf-8")
    return path


ALL: Final[Mapping[str, Callable[[Bench], Iterator[Run]]]] = {
    each.__name__: each
    for each in (
        *(throughput, streaming, formats, cpu, unpinned, tls, vectors, stages, growth, width),
        *(stragglers, kill, resume, startup, read),
    )
}
