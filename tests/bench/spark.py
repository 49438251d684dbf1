"""`python -m tests.bench.spark`: one table through Spark, by this connector, by what people write, and by distribatch.

One run, side by side: a cluster of two executors with one core each, on this machine. Each way makes the new column for
the same rows; the endpoint counts its calls. Needs Java, the extras `spark` and `postgres`, and `openai`; distribatch
takes part where it is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from connector import Connector
from tests.bench import pages
from tests.bench.machine import load
from tests.bench.peers import KEY, MODEL, PROMPT
from tests.bench.processes import ROOT, Process, Stub
from tests.databases import base
from tests.tables.spark_cluster import Attempts, Cluster, executors, started

ROWS: Final = 2_000
PARTITIONS: Final = 4
CONCURRENCY: Final = 32
"""Calls in flight of each executor."""
LATENCY: Final = 0.1

Way = Callable[[Any], Any]
"""Returns a data frame with the new column `content`."""


class Figures(NamedTuple):
    """What one way came to. Calls are those of `ROWS` rows; `None` where the way has no such thing."""

    name: str
    rows_per_second: float
    twice: int
    failed_task: int | None
    killed: int


def sdk(url: str) -> Way:
    """What people write: OpenAI's SDK in `mapInPandas`, as many calls at once as may be."""

    def enriched(batches: Iterator[Any]) -> Iterator[Any]:
        from openai import AsyncOpenAI  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - on the worker

        async def answers(texts: list[str]) -> list[str]:
            room = asyncio.Semaphore(CONCURRENCY)
            async with AsyncOpenAI(base_url=url, api_key=KEY, timeout=60) as client:

                async def answer(text: str) -> str:
                    async with room:
                        messages = [{"role": "user", "content": PROMPT.format(text=text)}]
                        reply = await client.chat.completions.create(model=MODEL, messages=messages)
                        return reply.choices[0].message.content or ""

                return await asyncio.gather(*map(answer, texts))

        for batch in batches:
            yield batch.assign(content=asyncio.run(answers(list(batch["text"]))))

    return lambda frame: frame.mapInPandas(enriched, "id bigint, text string, content string")


def connector(url: str, folder: Path, name: str) -> Way:
    """This connector, with a ledger of its own that both executors share."""
    place = folder / name
    place.mkdir()
    given = {"url": url, "model": MODEL, "prompt": PROMPT.format(text="{{ text }}"), "api_key": KEY}
    return Connector({**given, "concurrency": CONCURRENCY, "cache": base("postgresql", place).url}).enrich


def distribatch(url: str, checkpoint: Path) -> Way:
    """distribatch, with its checkpoints in a folder, and as few ends of its batches as may be."""
    library: Any = import_module("distribatch")
    model = library.models.OpenAIModel(model=MODEL, base_url=url, api_key_env="BENCH_KEY")
    job = library.GenerateJob(model=model, prompt=PROMPT, engine_options={"max_concurrency": CONCURRENCY})
    kept = {"checkpoint": str(checkpoint), "id_col": "id", "batch_size": 10_000}
    return lambda frame: job.run(frame, backend="spark", output_col="content", **kept)


def measured(name: str, cluster: Cluster, stub: Stub, folder: Path, make: Callable[[str], Way]) -> Figures:
    """Runs one way: `count` and `write`, then a task that fails, then an executor that is killed; each from nothing."""
    frame = cluster.rows("classic", ROWS, PARTITIONS)

    def calls(what: Callable[[Way], None], case: str) -> int:
        before: int = stub.stats()["calls"]
        what(make(case))
        after: int = stub.stats()["calls"]
        return after - before

    seconds = 0.0

    def twice(way: Way) -> None:
        nonlocal seconds
        begun = time.perf_counter()
        found = way(frame)
        assert found.where("content is not null").count() == ROWS
        seconds = time.perf_counter() - begun
        found.write.parquet(str(folder / f"{name}.parquet"))

    def failing(way: Way) -> None:
        attempts = folder / f"{name}-attempts"
        attempts.mkdir()
        found = way(frame)
        assert found.mapInArrow(Attempts(attempts, fails=True), found.schema).count() == ROWS

    def killing(way: Way) -> None:
        before = stub.stats()["calls"]
        with ThreadPoolExecutor(1) as driver:
            done = driver.submit(lambda: way(frame).where("content is not null").count())
            while stub.stats()["calls"] - before < ROWS // 2:
                time.sleep(0.02)
            os.kill(executors()[-1], signal.SIGKILL)
            assert done.result() == ROWS

    way = make("warm")
    way(cluster.rows("classic", 8, 2)).count()  # starts the Python workers
    made = calls(twice, "twice")
    return _told(Figures(name, ROWS / seconds, made, calls(failing, "failing"), calls(killing, "killing")))


def _told(figures: Figures) -> Figures:
    print(figures, file=sys.stderr)  # noqa: T201 - a run takes minutes
    return figures


def command(stub: Stub, folder: Path) -> Figures:
    """The command line on the same rows, with as many calls in flight as both executors have."""
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"id": n, "text": f"row {n}"}) + "\n" for n in range(ROWS)))

    def run(output: str) -> Process:
        config = folder / "config.json"
        given = {"url": stub.url, "model": MODEL, "prompt": PROMPT.format(text="{{ text }}"), "api_key": KEY}
        config.write_text(json.dumps({**given, "concurrency": 2 * CONCURRENCY, "cache": str(folder / f"{output}.l")}))
        options = ["--config", str(config), "--output", str(folder / output)]
        return Process([sys.executable, "-m", "connector", "enrich", str(source), *options], folder / f"{output}.out")

    before = stub.stats()["calls"]
    seconds = run("a.jsonl").spent().seconds
    (folder / "a.jsonl").unlink()
    run("a.jsonl").spent()
    twice = stub.stats()["calls"] - before
    before = stub.stats()["calls"]
    killed = run("b.jsonl")
    while stub.stats()["calls"] - before < ROWS // 2:
        time.sleep(0.02)
    killed.kill()
    run("b.jsonl").spent()
    return _told(Figures("command line", ROWS / seconds, twice, None, stub.stats()["calls"] - before))


def main() -> None:
    """Runs all ways, one after the other."""
    before = load()
    folder = Path(tempfile.mkdtemp(prefix="bench-spark-"))
    os.environ["BENCH_KEY"] = KEY
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    try:
        with started(folder) as cluster, Stub(LATENCY) as stub:
            figures = [
                measured("this connector", cluster, stub, folder, lambda case: connector(stub.url, folder, case)),
                measured("OpenAI SDK in mapInPandas", cluster, stub, folder, lambda _: sdk(stub.url)),
                command(stub, folder),
            ]
            if find_spec("distribatch"):
                name = "distribatch, with checkpoints"
                figures.append(
                    measured(
                        name, cluster, stub, folder, lambda case: distribatch(stub.url, folder / f"checkpoint-{case}")
                    )
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write(figures, before)


def write(figures: Sequence[Figures], load_before: str) -> None:
    """Puts the figures onto the page of benchmarks, beside those of `make bench`."""
    found = json.loads(pages.FIGURES.read_text(encoding="utf-8"))
    packages = [name for name in ("pyspark", "pyarrow", "openai", "distribatch") if find_spec(name)]
    found["spark"] = {
        "rows": ROWS,
        "in_flight": 2 * CONCURRENCY,
        "latency": LATENCY,
        "load": f"{load_before} before and {load()} after",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "ways": [each._asdict() for each in figures],
    }
    pages.FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for path, text in pages.files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
