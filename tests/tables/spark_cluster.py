"""A real Spark cluster on this machine: a driver and two executors, each a JVM, that serve Spark Connect as well."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
EXECUTORS: Final = 2


class Cluster(NamedTuple):
    """A running cluster: a classic session, a session of Spark Connect to the same driver, and its event logs."""

    classic: Any
    connect: Any
    events: Path

    def session(self, kind: str) -> Any:
        return getattr(self, kind)

    def rows(self, kind: str, count: int, partitions: int = 4) -> Any:
        """A data frame of so many rows with the columns `id` and `text`."""
        return self.session(kind).range(0, count, numPartitions=partitions).selectExpr("id", "concat('row ', id) text")


def executors() -> list[int]:
    """The executors of this process's clusters."""
    return [process for process, parent in _mine(b"CoarseGrainedExecutorBackend").items() if parent]


def python_workers() -> list[int]:
    """The Python workers of its executors: forks of a daemon that looks the same."""
    found = _mine(b"pyspark.daemon")
    return [process for process, parent in found.items() if parent in found]


def _mine(command: bytes) -> dict[int, int]:
    """The descendants of this process whose command line has these words, with their parents."""
    parents: dict[int, int] = {}
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if command in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:  # it has ended meanwhile
            continue

    def is_mine(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return {process: parents[process] for process in found if is_mine(process)}


class Attempts:
    """Passes the rows of a task on; each attempt leaves a file, and one of them may fail in the middle.

    Args:
        folder: Where the files are: `0-1` is that of the second attempt at partition 0, `failed` links to the one that
            has failed.
        fails: Whether one fails: the first of all tasks to have passed rows on, whichever Spark lets come so far.
    """

    def __init__(self, folder: Path, *, fails: bool = False) -> None:
        self._folder = folder
        self._fails = fails

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext  # noqa: PLC0415 - takes a while

        task = TaskContext.get()
        assert task is not None
        attempt = f"{task.partitionId()}-{task.attemptNumber()}"
        (self._folder / attempt).touch()
        for batch in batches:
            yield batch
            if self._fails and self._is_first(attempt):
                raise RuntimeError("a bug behind it")

    def _is_first(self, attempt: str) -> bool:
        try:
            (self._folder / "failed").symlink_to(attempt)
        except FileExistsError:
            return False
        return True


def skip_without_java() -> None:
    """Skips a test, or in CI fails it, where there is no Java for Spark."""
    if shutil.which("java") is None:
        reason = "Spark needs Java 17 or newer, and there is none here: install openjdk-17-jre-headless"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """Starts a cluster, and stops it at the end of the block."""
    from pyspark.sql import SparkSession  # noqa: PLC0415 - takes a while
    from pyspark.sql.connect.session import SparkSession as RemoteSession  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    events = folder / "events"
    events.mkdir()
    for name, value in {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}.items():
        os.environ[name] = value
    builder = SparkSession.builder.master(f"local-cluster[{EXECUTORS},1,1024]")
    options = {
        "spark.driver.memory": "512m",
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.port": str(port),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": events.as_uri(),
        "spark.executorEnv.PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "spark.executorEnv.XDG_CACHE_HOME": str(folder / "cache"),
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    classic = builder.getOrCreate()
    classic.sparkContext.setLogLevel("ERROR")
    try:
        connect = RemoteSession.builder.remote(f"sc://127.0.0.1:{port}").create()
        yield Cluster(classic, connect, events)
        connect.stop()
    finally:
        classic.stop()
