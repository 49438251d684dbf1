"""A real PyAirbyte client reads this source into its DuckDB cache and writes to this destination, again and again.

The client is installed once, from the package registry, into an environment beside pytest's cache: it brings libraries
that this project has in other versions. A script there runs the steps of a test and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from spec.generate import ROOT
from tests.endpoint import Endpoint, answer_to
from tests.environments import programs
from tests.patience import PATIENCE
from tests.protocols.test_airbyte import Project
from tests.stores.helpers import table
from tests.test_readme import BLOCKS

PACKAGE = "airbyte>=0.71,<1"
CLIENT = """\
import json, sys
from pathlib import Path
import airbyte

executables, config, home, steps = sys.argv[1:]
told = []

def source():
    name = "source-openai-compatible"
    given = json.loads(Path(config).read_text())
    return airbyte.get_source(name, config=given, local_executable=Path(executables, name))

def selected():
    made = source()
    made.select_streams(["reviews"])
    return made

def read(**options):
    cache = airbyte.DuckDBCache(db_path=Path(home) / "cache.duckdb", schema_name="main")
    result = selected().read(cache=cache, **options)
    columns = ("id", "text", "content")
    rows = [[row[name] for name in columns] for row in result.streams["reviews"]]
    return {"processed": result.processed_records, "rows": sorted(rows)}

def samples():
    return selected().get_samples(["reviews"], limit=3)

def write(**options):
    own = {"response_format": {"second": "{{ content }}"}, "metadata": "none", "output": OUTPUT, "input": None}
    given = {name: value for name, value in {**json.loads(Path(config).read_text()), **own}.items() if value}
    name = "destination-openai-compatible"
    made = airbyte.get_destination(name, config=given, local_executable=Path(executables, name))
    made.check()
    cache = airbyte.DuckDBCache(db_path=Path(home) / "cache.duckdb", schema_name="main") if options else False
    return made.write(selected(), cache=cache, state_cache=cache).processed_records

OUTPUT = {"type": "files", "path": str(Path(home) / "out_{stream}.jsonl")}
verbs = {
    "write": write,
    "write_cached": lambda: write(cached=True),
    "check": lambda: source().check(),
    "streams": lambda: source().get_available_streams(),
    "read": read,
    "refresh": lambda: read(force_full_refresh=True),
    "samples": lambda: [row.get("content") or row["label"] for row in samples()["reviews"]],
}
for step in steps.split():
    try:
        told.append(verbs[step]())
    except Exception as error:
        told.append({"error": type(error).__name__, "text": str(error), "cause": repr(error.__cause__)})
Path(home, "told.json").write_text(json.dumps(told, default=str))
"""


@pytest.fixture(scope="session")
def python(pytestconfig: pytest.Config) -> Path:
    """The interpreter of the client's environment, made once and used again by later runs."""
    return programs(pytestconfig, "airbyte", PACKAGE) / "python"


class Client:
    """The project's table and config, and PyAirbyte to read it."""

    def __init__(self, python: Path, path: Path, endpoint: Endpoint) -> None:
        self._python = python
        self._path = path
        self.project = Project(path, endpoint)

    def runs(self, *steps: str, **changes: Any) -> list[Any]:
        """What each step gave, all of them in one process."""
        options = {**self.project.config, **changes}
        config = self.project.file("config", {name: value for name, value in options.items() if value is not None})
        executables = Path(sys.executable).parent
        done = subprocess.run(
            [self._python, "-c", CLIENT, executables, config, self._path, " ".join(steps)],
            cwd=self._path,
            env={
                **os.environ,
                "AIRBYTE_OFFLINE_MODE": "1",
                "DO_NOT_TRACK": "1",
                "AIRBYTE_LOGGING_ROOT": str(self._path / "logs"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert "canary" not in done.stdout + done.stderr + self.log()
        told: list[Any] = json.loads((self._path / "told.json").read_text())
        return told

    def log(self) -> str:
        """What the client wrote into its log files."""
        return "".join(path.read_text() for path in (self._path / "logs").rglob("*.log"))


@pytest.fixture
def client(python: Path, tmp_path: Path, endpoint: Endpoint) -> Client:
    return Client(python, tmp_path, endpoint)


def answered(count: int) -> list[list[Any]]:
    return [[number, f"row {number}", answer_to(f"row {number}")] for number in range(count)]


def test_the_client_checks_reads_goes_on_and_refreshes(client: Client, endpoint: Endpoint) -> None:
    checked, streams, first = client.runs("check", "streams", "read")
    assert (checked, streams[0]) == (None, "reviews")
    assert first == {"processed": 25, "rows": answered(25)}
    client.project.write_rows(range(30))
    second, third, refreshed = client.runs("read", "read", "refresh")
    assert second == {"processed": 5, "rows": answered(30)}
    assert third == {"processed": 0, "rows": answered(30)}
    assert refreshed == {"processed": 30, "rows": answered(30)}
    asked = [call.prompt for call in endpoint.journal.calls if call.prompt.startswith("row ")]
    assert set(asked) == {f"row {number}" for number in range(30)}
    assert len(asked) <= 31  # the check may ask for the first row


def test_no_change_of_how_a_stream_is_read_blocks_the_next_read(client: Client) -> None:
    assert [step["processed"] for step in client.runs("refresh", "read", "refresh", "read")] == [25, 0, 25, 0]
    client.project.write_rows(range(30))
    assert [step["processed"] for step in client.runs("read", cursor_field="id")] == [30]
    assert [step["processed"] for step in client.runs("read", "refresh", "read", cursor_field=None)] == [30] * 3
    read, refreshed, again = client.runs("read", "refresh", "read")
    assert (read["processed"], refreshed["processed"], again["processed"]) == (30, 30, 0)
    assert again["rows"] == answered(30)


def test_the_readme_s_config_and_the_samples_are_taken(client: Client) -> None:
    (readme,) = (json.loads(block) for block in BLOCKS["json"])
    written = {**readme, "url": client.project.config["url"], "api_key": "sk-canary", "prompt": None, "model": None}
    written["request_format"]["messages"][0]["content"] = "{{ text }}"
    (read,) = client.runs("samples", **written)
    assert len(read) == 3
    for name in ("source", "destination"):
        given = json.loads((ROOT / "sample_configs" / "airbyte" / f"{name}.json").read_text())
        schema = json.loads((ROOT / "spec" / f"{name}.json").read_text())["connectionSpecification"]
        Draft7Validator(schema).validate(given)


def test_rows_without_a_primary_key_are_neither_lost_nor_doubled_by_another_read(client: Client) -> None:
    keyless: dict[str, Any] = {"primary_key": None, "cursor_field": None}
    assert client.runs("read", **keyless) == [{"processed": 25, "rows": answered(25)}]
    client.project.write_rows([29, *range(25), 0])
    twice = sorted([*answered(25), *answered(1), *answered(30)[-1:]])
    assert client.runs("read", **keyless) == [{"processed": 27, "rows": twice}]


def test_the_client_writes_what_it_reads_to_this_destination(client: Client, tmp_path: Path) -> None:
    columns = ("id", "text", "content", "second")
    enriched = [[*row, row[2]] for row in answered(25)]
    for step in ("write", "write_cached", "write"):
        assert client.runs(step) == [25]
        rows = table(tmp_path / "out_reviews.jsonl")
        assert sorted([row[name] for name in columns] for row in rows) == enriched


def test_samples_stop_early_without_an_error(client: Client) -> None:
    (samples,) = client.runs("samples")
    assert len(samples) == 3
    assert set(samples) <= {row[2] for row in answered(25)}


def test_a_bad_key_is_an_error_of_the_client_and_no_empty_success(client: Client) -> None:
    client.project.table.write_text("id,text,at\n1,[[fault:401]],2024-01-01\n")
    (failed,) = client.runs("read")
    assert failed["error"] == "AirbyteConnectorFailedError"
    assert "Exit Code: 1" in failed["text"]
    assert "the endpoint refuses the key" in client.log()


def test_a_failed_check_tells_the_client_what_to_change(client: Client) -> None:
    (failed,) = client.runs("check", prompt="{{ nowhere }}")
    assert failed["error"] == "AirbyteConnectorCheckFailedError"
    assert 'there is no column "nowhere"' in failed["text"]
