"""Data frames of Spark, classic and of Spark Connect, on a real cluster: lazy, typed, and paid for once."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import pyarrow as pa
import pytest
from pyspark import SparkFiles, TaskContext
from pyspark.sql.types import StringType, StructField, StructType

from connector import AuthenticationError, ConfigError, Connector, ConnectorError
from connector.base.errors import LedgerUnavailableError
from connector.tables import spark
from connector.tables._spark_stage import Enriched
from tests.databases import base
from tests.endpoint import Action, Call, Endpoint, act, answer_to, good
from tests.faults import Step, play, render
from tests.patience import PATIENCE
from tests.tables.spark_cluster import Attempts, Cluster, executors, python_workers, skip_without_java, started

KEY: Final = "sk-canary-0123456789"
KINDS: Final = ("classic", "connect")
NONE: Final = "none"
CONCURRENCY: Final = 4
SCHEMA: Final = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "stars": {"type": "integer"}, "sure": {"type": "boolean"}},
    "required": ["label", "stars", "sure"],
}

pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    skip_without_java()
    with started(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger that all workers share."""
    return base("postgresql", tmp_path).url


def connector(endpoint: Endpoint, ledger: str, **more: Any) -> Connector:
    given = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "api_key": KEY, "cache": ledger}
    return Connector({**given, **more})


def enriched(endpoint: Endpoint, partition: Any) -> Iterator[Any]:
    """What a Python worker of Spark's makes of a partition."""
    yield from connector(endpoint, NONE).enrich(partition)


class Frame:
    """What a data frame with one column is asked for: it returns the function that Spark would call."""

    def __init__(self, column: str) -> None:
        self.schema = StructType([StructField(column, StringType())])

    def mapInArrow(self, func: Any, schema: Any, barrier: bool = False) -> Any:  # noqa: N802 - Spark's name
        del schema, barrier
        return func


@each_kind
def test_a_lazy_frame_comes_out_that_is_paid_for_once(
    kind: str, cluster: Cluster, endpoint: Endpoint, ledger: str, tmp_path: Path
) -> None:
    found = connector(endpoint, ledger, output_schema=SCHEMA).enrich(cluster.rows(kind, 60))
    assert type(found) is type(cluster.rows(kind, 1))
    types = {field.name: field.dataType.simpleString() for field in found.schema}
    assert types["_llm"].startswith("struct<status:string,error:struct<class:string,")
    names = ("id", "text", "label", "stars", "sure")
    assert [types[name] for name in names] == ["bigint", "string", "string", "bigint", "boolean"]
    assert endpoint.journal.calls == []
    assert found.where("_llm.status = 'success' and stars = 1").count() == 60
    found.write.parquet(str(tmp_path / "table"))
    rows = cluster.session(kind).read.parquet(str(tmp_path / "table")).orderBy("id").collect()
    assert [(row.text, row.label) for row in rows] == [(f"row {n}", answer_to(f"row {n}")) for n in range(60)]
    assert endpoint.journal.by_prompt == {f"row {n}": 1 for n in range(60)}


def test_whatever_is_lost_costs_what_was_in_flight(cluster: Cluster, ledger: str, tmp_path: Path) -> None:
    """An executor and a Python worker are killed, and a task fails behind the new columns."""
    with Endpoint(latency=0.1) as endpoint, ThreadPoolExecutor(1) as driver:
        found = connector(endpoint, ledger, concurrency=CONCURRENCY).enrich(cluster.rows("classic", 400, partitions=2))
        done = driver.submit(found.mapInArrow(Attempts(tmp_path, fails=True), found.schema).count)
        for victims, calls in ((python_workers, 80), (executors, 200)):
            endpoint.journal.wait_for(calls=calls)
            os.kill(victims()[-1], signal.SIGKILL)
        assert done.result() == 400
    partition, _, number = (tmp_path / "failed").readlink().name.partition("-")
    assert max(int(path.name.partition("-")[2]) for path in tmp_path.glob(f"{partition}-*")) > int(number)
    asked = endpoint.journal.by_prompt
    assert len(asked) == 400
    assert asked.total() - 400 <= 3 * 3 * CONCURRENCY  # three losses; what is answered is stored within 50 ms


def test_a_copy_of_a_task_costs_nothing(cluster: Cluster, ledger: str, tmp_path: Path) -> None:
    """Two jobs run the same tasks at once, as a task and its speculative copy: a row is answered once both have begun.

    Spark makes no speculative copy on the host of the task itself, and a cluster on one machine has one host.
    """
    folders = (tmp_path / "task", tmp_path / "copy")

    def held(call: Call) -> Action | None:
        return Action("held", waited(call)) if call.prompt == "row 0" else None

    def waited(call: Call) -> Iterator[Step]:
        while not all((folder / "0-0").exists() for folder in folders):
            yield 0.05
        yield from play(render(good(call)))

    with Endpoint(held) as endpoint, ThreadPoolExecutor(2) as driver:
        rows = cluster.rows("classic", 40, partitions=2)
        found = connector(endpoint, ledger, config={"timeout": 600}).enrich(rows)
        jobs = []
        for folder in folders:
            folder.mkdir()
            jobs.append(driver.submit(found.mapInArrow(Attempts(folder), found.schema).count))
        assert [job.result() for job in jobs] == [40, 40]
    assert endpoint.journal.by_prompt == {f"row {n}": 1 for n in range(40)}


@each_kind
def test_a_refused_key_ends_the_job_with_its_sentence(
    kind: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with Endpoint(lambda call: act(call, "401")) as endpoint:
        found = connector(endpoint, NONE, concurrency=2).enrich(cluster.rows(kind, 400, partitions=20))
        found.explain(True)
        with pytest.raises(Exception, match=r"errors\.AuthenticationError: .*key") as error:
            found.count()
    assert len(endpoint.journal.calls) <= 2 * (2 + 3)  # of each executor: calls in flight, and what check asks
    shown = f"{error.value}{capsys.readouterr()}"
    assert "MapInArrow Enriched" in shown
    told = "".join(path.read_text() for path in cluster.events.rglob("*events*") if path.is_file())
    assert KEY not in f"{shown}{told}"


BEGUN: Final[list[str]] = []


def failing(error: ConnectorError, _batches: Iterator[Any]) -> Iterator[Any]:
    """Work of a partition that begins, and fails."""
    BEGUN.append(type(error).__name__)
    yield from ()
    raise error


@pytest.mark.parametrize(
    ("error", "begun"), [(AuthenticationError("no"), 1), (ConfigError("no"), 1), (LedgerUnavailableError("later"), 2)]
)
def test_what_cannot_work_ends_the_stage_and_what_passes_is_tried_again(
    error: ConnectorError, begun: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a worker of Spark's, which has set these."""
    task = TaskContext()
    monkeypatch.setattr(task, "_stageId", 7)
    monkeypatch.setattr(TaskContext, "_taskContext", task)
    monkeypatch.setattr(SparkFiles, "_is_running_on_worker", True)
    monkeypatch.setattr(SparkFiles, "_root_directory", str(tmp_path))
    BEGUN.clear()
    work = Enriched(partial(failing, error))
    for _ in range(2):
        with pytest.raises(type(error), match=error.message):
            list(work(iter([])))
    assert [type(error).__name__] * begun == BEGUN


def test_an_attempt_imports_nothing_slow_before_it_knows_that_its_stage_goes_on(endpoint: Endpoint) -> None:
    """Spark starts a Python worker anew for each of them, and waits for all that it imports."""
    frame: Any = Frame("text")
    function = pickle.dumps(connector(endpoint, NONE).enrich(frame))
    loaded = "import pickle, sys; pickle.load(sys.stdin.buffer); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], input=function, capture_output=True, check=True)
    modules = set(done.stdout.decode().split())
    assert "connector.tables._spark_stage" in modules
    assert not modules & {"pyarrow", "pandas", "pydantic", "jinja2", "connector.tables.spark", "connector.run.pipeline"}


def test_a_driver_may_have_the_client_of_spark_connect_alone() -> None:
    """The package pyspark-client has no `pyspark.core`, and so no `SparkFiles`."""
    script = """
import sys
sys.modules["pyspark.core"] = None
import pyspark
from connector import Connector
from pyspark.sql.types import StringType, StructField, StructType
assert not hasattr(pyspark, "SparkFiles")
class Frame:
    schema = StructType([StructField("text", StringType())])
    def mapInArrow(self, func, schema):
        return type(func).__name__
print(Connector({"url": "http://host/v1", "model": "m", "prompt": "{{ text }}"}).enrich(Frame()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Enriched\n"


def test_limit_pays_for_few_rows(cluster: Cluster) -> None:
    """It has its rows although from the 200th on no row is answered."""
    with Endpoint(lambda call: act(call, "hang") if int(call.prompt.split()[1]) >= 200 else None) as endpoint:
        found = connector(endpoint, NONE).enrich(cluster.rows("classic", 2_000, partitions=1))
        assert len(found.limit(5).collect()) == 5


def test_rows_of_a_stream_are_enriched_once_as_they_come(cluster: Cluster, endpoint: Endpoint, tmp_path: Path) -> None:
    """What is enriched is up to the stream's checkpoint: a query that is started again goes on behind it."""
    session = cluster.classic
    come, table, checkpoint = (tmp_path / name for name in ("come", "table", "checkpoint"))
    come.mkdir()
    found = connector(endpoint, NONE).enrich(session.readStream.schema("text string").json(str(come)))
    for text in ("a", "b"):
        (come / f"{text}.json").write_text(f'{{"text": "{text}"}}')
        writer = found.writeStream.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True)
        writer.start(str(table), format="parquet").awaitTermination()
    rows = session.read.parquet(str(table)).orderBy("text").collect()
    assert [(row.text, row.content) for row in rows] == [(text, answer_to(text)) for text in ("a", "b")]
    assert endpoint.journal.by_prompt == {"a": 1, "b": 1}


def test_rows_come_out_one_by_one_at_first_and_then_together(endpoint: Endpoint) -> None:
    """Where Spark wants no more of them, as after `limit`, a worker learns it when it next fills a buffer of 64 KB."""
    whole = pa.RecordBatch.from_pydict({"text": [f"row {number}" for number in range(600)]})
    sizes = [batch.num_rows for batch in enriched(endpoint, spark.Partition(whole, iter([])))]
    assert sum(sizes) == 600
    assert sizes[:200] == [1] * 200
    assert sizes[-2] == 5
    assert sorted(sizes[:-1]) == sizes[:-1]


def test_the_end_of_a_batch_holds_up_no_row(endpoint: Endpoint) -> None:
    """Spark makes the next batch only once the rows of the first one have come out."""
    first, second = (pa.RecordBatch.from_pydict({"text": texts}) for texts in (["a", "b"], ["c"]))
    have_come = Event()

    def rest() -> Iterator[pa.RecordBatch]:
        assert have_come.wait(PATIENCE)
        yield second

    results = enriched(endpoint, spark.Partition(first, rest()))
    assert [next(results)["content"].to_pylist() for _ in range(2)] == [[answer_to("a")], [answer_to("b")]]
    have_come.set()
    assert [batch["content"].to_pylist() for batch in results] == [[answer_to("c")]]


def test_what_goes_wrong_with_the_input_is_raised(endpoint: Endpoint) -> None:
    first = pa.RecordBatch.from_pydict({"text": ["a"]})

    def rest() -> Iterator[pa.RecordBatch]:
        yield first
        raise OSError("the shuffle is gone")

    with pytest.raises(OSError, match="the shuffle is gone"):
        list(enriched(endpoint, spark.Partition(first, rest())))


def test_what_cannot_work_is_refused_at_once(endpoint: Endpoint) -> None:
    frame: Any = Frame("review")
    with pytest.raises(ConfigError, match='"text"'):
        connector(endpoint, NONE).enrich(frame)
    with pytest.raises(ConfigError, match="pandas: a Spark data frame stays one"):
        connector(endpoint, NONE).enrich(frame, into="pandas")
    with pytest.raises(ConfigError, match=r"cache: some\.ledger: a file serves one process at a time"):
        connector(endpoint, "some.ledger", prompt="{{ review }}").enrich(frame)


def test_workers_find_a_folder_whatever_their_own_is(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(connector(endpoint, "replies/"))
    here = Path.cwd()
    monkeypatch.chdir("/")
    assert f"cache='file://{here}/replies'" in repr(pickle.loads(sent))


def test_a_key_of_the_environment_stays_there(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for given in ({"api_key": "${SOME_KEY}"}, {"headers": {"X-Key": "Bearer ${SOME_KEY}"}}, {}):
        sent = pickle.dumps(Connector({"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", **given}))
        assert KEY.encode() not in sent
        list(pickle.loads(sent).enrich([{"text": str(given)}]))
        assert KEY in str(endpoint.journal.calls[-1].headers)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY, which the config refers to, is not set in this process"):
        pickle.loads(sent)
