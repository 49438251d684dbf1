"""A benchmark's runs: which client does what to which table, whether it did it right, and the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from tests.bench.peers import BATCH, KEY, MODEL, PROMPT
from tests.bench.processes import Process, Stub, Watch

OURS: Final = "connector"
LATENCY: Final = 0.2
EVENTS: Final = 50
"""Events with text in a streamed reply; each but the first adds a word."""


class Run(NamedTuple):
    """One run of one client. `case` is what was varied, `startup_cpu` what the same client takes for a single row.

    `sustained` is the rate, in calls a second, while the middle of the calls was made, as the stub saw it; `stub_busy`
    is the share of its core that the stub used, and `calls` what it was asked. If `is_free`, both ran on any core.
    """

    scenario: str
    client: str
    case: str
    round: int
    rows: int
    seconds: float
    cpu_seconds: float = 0.0
    startup_cpu: float = 0.0
    peak_mb: float = 0.0
    calls: int = 0
    sustained: float | None = None
    stub_busy: float = 0.0
    is_free: bool = False

    @property
    def rate(self) -> float:
        """Rows a second, from the start of the process to its end."""
        return self.rows / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU for each row beyond the first."""
        return 1000 * (self.cpu_seconds - self.startup_cpu) / max(1, self.rows - 1)


class Trial(NamedTuple):
    """A run that is still to be made, or several that one process makes.

    `seconds` is about how long that takes on an idle machine; `measure` does it, and raises whatever went wrong. What
    only prepares for others has no figures: its `measure` returns nothing.
    """

    run: Run
    seconds: float
    measure: Callable[[], Sequence[Run]]


class Bench:
    """Where a benchmark runs: a directory for its files, the clients to compare, how often and how much.

    Args:
        directory: Holds tables and outputs, which are removed as soon as they are checked.
        peers: The clients beside ours, by the names of their modules.
        rounds: How often each is run.
        scale: What the numbers of rows are multiplied by.
    """

    def __init__(self, directory: Path, peers: Sequence[str], rounds: int, scale: float, *, full: bool = False) -> None:
        self.directory = directory
        self.peers = tuple(peers)
        self.rounds = rounds
        self.scale = scale
        self.full = full
        self._startup_cpu: dict[str, float] = {}

    def rows(self, usual: int, least: int = 1) -> int:
        """How many rows to take where `usual` are usual."""
        return max(least, int(usual * self.scale))

    def table(self, rows: int, form: str = "jsonl") -> Path:
        """A table of so many rows; the format is a file's extension."""
        path = self.directory / f"{rows}.{form}"
        if path.exists():
            return path
        if form == "jsonl":
            with path.open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"id": i, "text": review(i)}) + "\n" for i in range(rows))
        else:
            _duckdb(f"COPY (FROM '{self.table(rows)}') TO '{path}'")
        return path

    def config(self, stub: Stub, concurrency: int, *, stream: bool = False, **more: Any) -> Path:
        """A config of ours for the job that the peers do."""
        prompt = PROMPT.format(text="{{ text }}")
        config: dict[str, Any] = {"url": stub.url, "api_key": KEY, "model": MODEL, "prompt": prompt}
        config["concurrency"] = concurrency
        if stub.certificate:
            config["ca_bundle"] = str(stub.certificate.path)
        path = self.directory / "config.json"
        path.write_text(json.dumps({**config, "is_stream": stream, **more}), encoding="utf-8")
        return path

    def command(
        self, client: str, stub: Stub, source: Path, target: Path, concurrency: int, *, stream: bool = False
    ) -> list[str]:
        """How a client is started."""
        if client == OURS:
            config = self.config(stub, concurrency, stream=stream)
            arguments = ["connector", "enrich", str(source), f"--config={config}", f"--output={target}", "--quiet"]
        else:
            arguments = [f"tests.bench.peers.{client}", stub.url, str(source), str(target)]
            arguments += [f"--concurrency={concurrency}", *(["--stream"] if stream else [])]
        return [sys.executable, "-m", *arguments]

    def measured(
        self,
        run: Run,
        stub: Stub,
        concurrency: int,
        *,
        stream: bool = False,
        target: Path | None = None,
        given: str = "jsonl",
        output: str = "jsonl",
        free: bool = False,
    ) -> Run:
        """Runs a client over a whole table, checks what it wrote, and returns `run` with the figures.

        `given` and `output` are formats, which only ours has to choose from. If `free`, it runs on any core.
        """
        source, out = self.table(run.rows, given), target or self.directory / f"out.{output}"
        command = self.command(run.client, stub, source, out, concurrency, stream=stream)
        try:
            with Watch(stub) as watch:
                spent = Process(command, self.directory / "stdout", free=free, certificate=stub.certificate).spent()
            check(out, run.rows, " word" * (EVENTS - 1) if stream else "")
        finally:
            if target is None:
                remove(out)  # or its ledger would answer the next run
        return run._replace(
            **spent._asdict(),
            startup_cpu=self.startup_cpu(run.client),
            calls=watch.counted("calls"),
            sustained=watch.sustained,
            stub_busy=watch.counted("cpu_seconds") / spent.seconds,
            is_free=free,
        )

    def vectors(self, run: Run, stub: Stub, concurrency: int, target: Path) -> Run:
        """Runs a client that embeds a table into a Parquet file, and checks every number.

        It has to make as many calls as `run` says: no ledger may know what a run is measured for.
        """
        source = self.table(run.rows)
        if run.client == OURS:
            config = self.directory / "config.json"
            url = f"{stub.url}/embeddings"
            options = {"url": url, "api_key": KEY, "model": MODEL, "prompt": "{{ text }}", "batch_size": BATCH}
            config.write_text(json.dumps({**options, "concurrency": concurrency}), encoding="utf-8")
            command = ["connector", "enrich", str(source), f"--config={config}", f"--output={target}", "--quiet"]
        else:
            command = [f"tests.bench.peers.{run.client}", stub.url, str(source), str(target)]
            command += [f"--concurrency={concurrency}"]
        with Watch(stub) as watch:
            spent = Process([sys.executable, "-m", *command], self.directory / "stdout", free=True).spent()
        subprocess.run([sys.executable, "-m", "tests.bench.check_vectors", str(target), str(run.rows)], check=True)
        if watch.counted("calls") != run.calls:
            raise RuntimeError(f"{run.client} has made {watch.counted('calls')} calls, not {run.calls}")
        return run._replace(**spent._asdict())

    def startup_cpu(self, client: str) -> float:
        """Seconds of CPU that a client takes for a table of one row."""
        if client not in self._startup_cpu:
            source, target = self.table(1), self.directory / "one.jsonl"
            with Stub(0) as stub:
                command = self.command(client, stub, source, target, 1)
                self._startup_cpu[client] = median(self._cpu_of_one(command, target) for _ in range(self.rounds))
        return self._startup_cpu[client]

    def _cpu_of_one(self, command: list[str], target: Path) -> float:
        spent = Process(command, self.directory / "stdout").spent()
        remove(target)
        return spent.cpu_seconds


def review(row: int) -> str:
    """The text of a row, told by its number; quotes and accents are among the characters."""
    return f"Review {row}: arrived “late”, très bien otherwise. " + "The box was dented but nothing inside broke. " * 3


def check(target: Path, rows: int, more: str = "") -> None:
    """Makes sure that every row is there once, with the reply that belongs to it: its text, and what follows it."""
    seen = bytearray(rows)
    for row, content in _written(target):
        seen[row] += 1
        if content != f"echo:{review(row)}{more}":
            raise RuntimeError(f"row {row} has the reply of another: {content[:80]!r}")
    if any(count != 1 for count in seen):
        raise RuntimeError(f"{sum(count != 1 for count in seen)} of {rows} rows are missing or there twice")


def _written(target: Path) -> Iterator[tuple[int, str]]:
    lines = target.with_suffix(".lines")
    if target.suffix == ".jsonl":
        lines = target
    else:
        _duckdb(f"COPY (FROM '{target}' SELECT id, content) TO '{lines}' (FORMAT json)")
    with lines.open("rb") as rows:
        yield from ((row["id"], row["content"]) for row in map(json.loads, rows))


def _duckdb(statement: str) -> None:
    """Has a process of its own run it: clients would begin their lives with this one's memory."""
    subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.execute({statement!r})"], check=True)


def remove(target: Path) -> None:
    """Removes an output and the ledger beside it."""
    for path in target.parent.glob(f"{target.name}*"):
        with suppress(FileNotFoundError):
            path.unlink()
