"""The examples of docs/python.md, each run as it stands, with the real library, twice: the second time for nothing."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import duckdb
import pytest

from spec.generate import ROOT
from tests.databases import base
from tests.endpoint import Endpoint, answer_to
from tests.environments import environment
from tests.patience import PATIENCE

SECTIONS = dict(
    part.split("\n", 1) for part in (ROOT / "docs" / "python.md").read_text(encoding="utf-8").split("\n## ")
)
CONFIG = json.loads(re.findall(r"```json\n(.*?)```", "".join(SECTIONS.values()), re.DOTALL)[0])
EXAMPLES = {
    name: found[1] for name, text in SECTIONS.items() if (found := re.search(r"```python\n(.*?)```", text, re.DOTALL))
}
FILES = {number: f"review {number}" for number in range(30)}
INLINE = {1: "Arrived late.", 2: "Great pan!"}
Rows = Iterable[tuple[Any, Any]]


class Script:
    """An example as the file of a user, in a directory with a config and input in every format."""

    def __init__(self, path: Path, name: str, endpoint: Endpoint) -> None:
        self.path = path
        self._endpoint = endpoint
        self.environment = {
            "DLT_DATA_DIR": str(path / "dlt"),
            "HOME": str(path),
            "OPENAI_API_KEY": "sk-canary",
            "OPENAI_BASE_URL": endpoint.base_url,
            "OPENAI_MODEL": "m",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        self.file = path / "example.py"
        self.file.write_text(EXAMPLES[name], encoding="utf-8")
        (path / "config.json").write_text(json.dumps(CONFIG))
        (path / "reviews.jsonl").write_text(
            "".join(f'{{"id": {number}, "review": "{review}"}}\n' for number, review in FILES.items())
        )
        with duckdb.connect(path / "shop.duckdb") as database:
            database.execute(f"CREATE TABLE reviews AS FROM read_json('{path}/reviews.jsonl')")
            database.execute(f"COPY reviews TO '{path}/reviews.csv'")
            database.execute(f"COPY reviews TO '{path}/reviews.parquet'")

    def share(self) -> Self:
        """Puts the ledger where several processes share it."""
        (self.path / "config.json").write_text(json.dumps({**CONFIG, "cache": base("postgresql", self.path).url}))
        return self

    def run(self, *command: str | Path, **environment: str) -> str:
        """What a command says on stdout, in the directory of the script."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert "canary" not in done.stdout + done.stderr
        return done.stdout

    def labels(self, run: Callable[[], Rows], reviews: Mapping[int, str]) -> None:
        """Runs the example twice: each review has the label that its own prompt gets, and was asked for once."""
        prompts = {number: CONFIG["prompt"].replace("{{ review }}", review) for number, review in reviews.items()}
        for _ in range(2):
            found = {int(number): label for number, label in run()}
            assert found == {number: answer_to(prompt) for number, prompt in prompts.items()}
            assert sorted(call.prompt for call in self._endpoint.journal.calls) == sorted(prompts.values())


def query(database: Path | str, sql: str) -> Rows:
    with duckdb.connect(database) as connection:
        return connection.execute(sql).fetchall()


def printed(_script: Script, said: str) -> Rows:
    rows = [line.split() for line in said.splitlines()]
    assert {status for _, _, status in rows} == {"success"}
    return [(number, label) for number, label, _ in rows]


def in_csv(script: Script, _said: str) -> Rows:
    with (script.path / "labelled.csv").open(newline="") as file:
        return [(row["id"], row["label"]) for row in csv.DictReader(file)]


def in_lines(script: Script, _said: str) -> Rows:
    rows = map(json.loads, (script.path / "labelled.jsonl").read_text().splitlines())
    return [(row["id"], row["label"]) for row in rows]


def in_parts(script: Script, _said: str) -> Rows:
    found = query(":memory:", f"FROM '{script.path}/labelled/*.parquet' SELECT id, label")
    shutil.rmtree(script.path / "labelled")
    return found


def in_parquet(script: Script, _said: str) -> Rows:
    return query(":memory:", f"FROM '{script.path}/labelled.parquet' SELECT id, label")


LIBRARIES: dict[str, tuple[Callable[[Script, str], Rows], Mapping[int, str]]] = {
    "Plain Python": (printed, INLINE),
    "After a run": (printed, INLINE),
    "pandas": (in_csv, FILES),
    "Arrow": (in_parquet, FILES),
    "Polars": (in_parquet, FILES),
    "DuckDB": (lambda script, _: query(script.path / "shop.duckdb", "FROM labels SELECT id, label"), FILES),
    "Several processes": (in_lines, FILES),
    "dlt": (lambda script, _: query(script.path / "reviews.duckdb", "FROM shop.labelled SELECT id, label"), INLINE),
}
PLATFORMS = {"Airflow": "apache-airflow>=3.0,<4", "Dagster": "dagster>=1.11,<2"}
CLUSTERS = {"Ray Data": "ray[data]>=2.40,<3", "Dask": "dask[dataframe]>=2025.1"}
SHARED = {"Several processes", *CLUSTERS}


def test_every_example_is_run_and_short() -> None:
    assert set(EXAMPLES) == {*LIBRARIES, *PLATFORMS, *CLUSTERS}
    assert {name for name, code in EXAMPLES.items() if len(code.splitlines()) >= 15} == set()


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_example_gives_each_row_its_label_and_its_second_run_calls_nothing(
    name: str, tmp_path: Path, endpoint: Endpoint
) -> None:
    script = Script(tmp_path, name, endpoint)
    found, reviews = LIBRARIES[name]
    if name in SHARED:
        script.share()
    script.labels(lambda: found(script, script.run(sys.executable, script.file)), reviews)


@pytest.mark.parametrize("name", CLUSTERS)
def test_workers_of_a_cluster_share_what_is_paid_for(
    name: str, tmp_path: Path, endpoint: Endpoint, pytestconfig: pytest.Config
) -> None:
    script = Script(tmp_path, name, endpoint).share()
    python = environment(pytestconfig, name.partition(" ")[0].lower(), CLUSTERS[name], "psycopg[binary]>=3.2,<4")
    script.environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
    script.labels(lambda: in_parts(script, script.run(python / "python", script.file)), FILES)


def test_airflow_runs_its_example_as_a_dag(tmp_path: Path, endpoint: Endpoint, pytestconfig: pytest.Config) -> None:
    script = Script(tmp_path, "Airflow", endpoint)
    airflow = environment(pytestconfig, "airflow", PLATFORMS["Airflow"]) / "airflow"
    script.environment |= {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
    }
    script.run(airflow, "db", "migrate")
    script.run(airflow, "dags", "reserialize")

    def run() -> Rows:
        script.run(airflow, "dags", "test", "label_reviews")
        rows = map(json.loads, (tmp_path / "labelled.jsonl").read_text().splitlines())
        return [(row["id"], row["label"]) for row in rows]

    script.labels(run, FILES)


def test_dagster_materializes_its_example(tmp_path: Path, endpoint: Endpoint, pytestconfig: pytest.Config) -> None:
    script = Script(tmp_path, "Dagster", endpoint)
    dagster = environment(pytestconfig, "dagster", PLATFORMS["Dagster"]) / "dagster"
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    script.environment["DAGSTER_HOME"] = str(home)

    def run() -> Rows:
        script.run(dagster, "asset", "materialize", "-f", script.file, "--select", "*")
        rows = pickle.loads((home / "storage" / "labelled").read_bytes())
        return [(row["id"], row["label"]) for row in rows]

    script.labels(run, INLINE)
