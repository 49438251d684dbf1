"""A real Meltano project: tap, this mapper and target in one `meltano run`, with state, secrets and failures.

The tap is built with Meltano's SDK, the target is `target-jsonl`. They are installed once, from the package registry,
into environments beside pytest's cache: Meltano pins libraries that this project has in other versions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from spec.generate import ROOT
from tests.endpoint import Action, Call, Endpoint, act, answer_to
from tests.environments import programs
from tests.patience import PATIENCE
from tests.stores.helpers import table

SAMPLE = ROOT / "sample_configs" / "meltano"
ENVIRONMENTS = {"meltano": ("meltano>=4.4,<5", "singer-sdk>=0.54,<1"), "target": ("target-jsonl==0.1.4",)}
TAP = """\
#!{python}
import csv
import singer_sdk.typing as th
from singer_sdk import Stream, Tap

class Table(Stream):
    primary_keys = ["id"]
    replication_key = "id"
    is_sorted = True
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType), th.Property("product", th.StringType), th.Property("review", th.StringType)
    ).to_dict()

    def get_records(self, context):
        start = self.get_starting_replication_key_value(context) or 0
        with open(self.config["path"], newline="") as file:
            for row in csv.DictReader(file):
                if int(row["id"]) > start:
                    yield {{"id": int(row["id"]), "product": row["product"], "review": row["review"]}}

class TapTable(Tap):
    name = "tap-table"
    config_jsonschema = th.PropertiesList(th.Property("path", th.StringType)).to_dict()

    def discover_streams(self):
        return [Table(self, name="reviews"), Table(self, name="others")]

TapTable.cli()
"""


@pytest.fixture(scope="session")
def installed(pytestconfig: pytest.Config) -> dict[str, Path]:
    """The `bin` directory of each environment, made once and used again by later runs."""
    return {name: programs(pytestconfig, name, *packages) for name, packages in ENVIRONMENTS.items()}


class Project:
    """The sample project, with a tap and a target that are there, and mappings of the test's own."""

    def __init__(self, path: Path, installed: dict[str, Path], endpoint: Endpoint) -> None:
        self.path = path
        self._meltano = installed["meltano"] / "meltano"
        self.output = path / "output" / "reviews.jsonl"
        self.plugins: dict[str, list[dict[str, Any]]] = {}
        self.environment = {
            "MAP_OPENAI_COMPATIBLE_API_KEY": "sk-canary",
            "MAP_OPENAI_COMPATIBLE_URL": endpoint.base_url,
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "MELTANO_CLI_LOG_FORMAT": "plain",
            "NO_COLOR": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.project = yaml.safe_load((SAMPLE / "meltano.yml").read_text())
        self.plugins = self.project["plugins"]
        tap = path / "tap"
        tap.write_text(TAP.format(python=installed["meltano"] / "python"))
        tap.chmod(0o755)
        self.plugins["extractors"] = [
            {
                "name": "tap-csv",
                "namespace": "tap_csv",
                "executable": str(tap),
                "capabilities": ["catalog", "discover", "state"],
                "config": {"path": str(path / "reviews.csv")},
            }
        ]
        target = {"executable": str(installed["target"] / "target-jsonl"), "namespace": "target_jsonl"}
        self.plugins["loaders"][0] = target | {name: self.plugins["loaders"][0][name] for name in ("name", "config")}

    @property
    def mapper(self) -> dict[str, Any]:
        return self.plugins["mappers"][0]

    def write_rows(self, count: int, bad: str = "") -> None:
        rows = [f"{number},pan,review {number}" for number in range(1, count + 1)]
        if bad:
            rows[count // 2] += bad
        (self.path / "reviews.csv").write_text("\n".join(["id,product,review", *rows, ""]))

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.path / "meltano.yml").write_text(yaml.safe_dump(self.project, sort_keys=False))
        done = subprocess.run(
            [self._meltano, *words],
            cwd=self.path,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert "canary" not in done.stdout + done.stderr
        return done

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()] if self.output.exists() else []

    def state(self) -> Any:
        told = self.run("state", "get", "dev:tap-csv-to-target-jsonl").stdout.splitlines()
        return json.loads(told[-1] if told else "{}")


PLUGINS = {"map": "mappers", "tap": "extractors", "target": "loaders"}
NAMES = frozenset(
    "name namespace variant label description docs executable pip_url repo logo_url hidden python commands requires "
    "settings settings_group_validation capabilities maintenance_status quality domain_url keywords definition "
    "next_steps settings_preamble usage prereq".split()
)
"""What the Hub lets a definition of any of these plugins say (meltano/hub, schemas/, August 2026)."""

OF_A_SETTING = frozenset(
    "name aliases label value placeholder kind description tooltip documentation env value_processor "
    "value_post_processor oauth options docs hidden sensitive".split()
)
KINDS = frozenset(
    "oauth hidden password date_iso8601 file email integer options object array boolean string decimal".split()
)
CAPABILITIES = {
    "map": {"about", "schema-flattening", "stream-maps", "structured-logging"},
    "tap": {
        *"properties catalog discover state about stream-maps schema-flattening activate-version batch test".split()
    },
    "target": {*"about stream-maps activate-version batch soft-delete hard-delete schema-flattening".split()},
}


def definition(role: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SAMPLE / f"{role}-openai-compatible.yml").read_text())
    return found


@pytest.mark.parametrize("role", PLUGINS)
def test_the_hub_takes_the_definition_of_each_plugin(role: str) -> None:
    given = definition(role)
    assert {"name", "namespace", "variant", "quality", "pip_url", "repo", "settings"} <= given.keys() <= NAMES
    assert set(given["capabilities"]) <= CAPABILITIES[role]
    assert given["maintenance_status"] in ("active", "beta", "development", "inactive", "unknown")
    assert given["quality"] in ("gold", "silver", "bronze", "unknown")
    kinds = {setting["name"]: setting["kind"] for setting in given["settings"]}
    assert all(setting.keys() <= OF_A_SETTING for setting in given["settings"])
    assert set(kinds.values()) <= KINDS
    assert {name for group in given["settings_group_validation"] for name in group} <= kinds.keys()
    assert {setting["name"] for setting in given["settings"] if setting.get("sensitive")} >= {"api_key", "headers"}
    assert kinds["headers"] == "object"
    assert role == "map" or (kinds["tools"], kinds["output_schema"]) == ("array", "object")


def test_meltano_s_own_schema_takes_a_project_with_these_plugins(installed: dict[str, Path]) -> None:
    (path,) = installed["meltano"].parent.rglob("meltano/schemas/meltano.schema.json")
    plugins = {kind: [definition(role)] for role, kind in PLUGINS.items()}
    for each in (plugin for group in plugins.values() for plugin in group):
        for name in ("keywords", "maintenance_status", "quality"):  # of the Hub alone
            del each[name]
    Draft202012Validator(json.loads(path.read_text())).validate({"version": 1, "plugins": plugins})


@pytest.fixture
def project(tmp_path: Path, installed: dict[str, Path], endpoint: Endpoint) -> Project:
    return Project(tmp_path, installed, endpoint)


def classified(number: int) -> str:
    return answer_to(f"Product: pan. Review: review {number}")


def test_the_sample_enriches_its_stream_saves_state_and_goes_on_from_there(
    project: Project, endpoint: Endpoint
) -> None:
    project.write_rows(30)
    done = project.run("run", "tap-csv", "classify", "target-jsonl")
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in project.rows()] == list(range(1, 31))
    assert [row["summary"] for row in project.rows()] == [classified(number) for number in range(1, 31)]
    assert project.state()["singer_state"]["bookmarks"]["reviews"]["replication_key_value"] == 30
    others = (project.output.parent / "others.jsonl").read_text().splitlines()
    assert {tuple(json.loads(line)) for line in others} == {("id", "product", "review")}
    assert {call.headers.get("authorization") for call in endpoint.journal.calls} == {"Bearer sk-canary"}
    project.write_rows(33)
    assert project.run("run", "tap-csv", "classify", "target-jsonl").returncode == 0
    assert [row["id"] for row in project.rows()[30:]] == [31, 32, 33]
    assert len(endpoint.journal.calls) == 33


def test_a_tap_and_a_target_are_the_ends_of_a_pipeline_and_go_on_from_its_state(
    project: Project, endpoint: Endpoint
) -> None:
    tap, target = ({**definition(role), "pip_url": None} for role in ("tap", "target"))
    output = {"type": "files", "path": str(project.path / "{stream}.jsonl")}
    tap["config"] = {"input": {"type": "files", "path": str(project.path / "reviews.csv")}, "cursor_field": "id"}
    tap["config"] |= {"prompt": "{{ review }}", "model": "m", "url": endpoint.base_url, "provenance": "none"}
    target["config"] = {"output": output, "streams": ["nothing"], "prompt": "x", "model": "m", "metadata": "none"}
    for each in (tap, target):
        for name in ("pip_url", "keywords", "maintenance_status", "quality"):
            del each[name]
    project.plugins = project.project["plugins"] = {"extractors": [tap], "loaders": [target]}
    environment = {
        "TAP_OPENAI_COMPATIBLE_API_KEY": "sk-canary",
        "TAP_OPENAI_COMPATIBLE_PRIMARY_KEY": "id",
        "TAP_OPENAI_COMPATIBLE_MAX_COST_USD": "0.5",
        "TAP_OPENAI_COMPATIBLE_PRICES_INPUT": "0.25",
        "TAP_OPENAI_COMPATIBLE_HEADERS": '{"x-team": "reviews"}',
    }
    for count in (4, 6):
        project.write_rows(count)
        done = project.run("run", "tap-openai-compatible", "target-openai-compatible", **environment)
        assert done.returncode == 0, done.stderr
        rows = {row["id"]: row["content"] for row in table(project.path / "reviews.jsonl")}
        assert rows == {number: answer_to(f"review {number}") for number in range(1, count + 1)}
    assert sum(call.method == "POST" for call in endpoint.journal.calls) == 6
    assert {call.headers["x-team"] for call in endpoint.journal.calls} == {"reviews"}


def test_two_mappings_of_the_plugin_follow_each_other(project: Project) -> None:
    """What the environment and the mappings say reaches each of them, with the definition that is generated."""
    project.write_rows(5)
    mapping = project.mapper["mappings"][0]
    second = {"prompt": r"{{ review }} costs \$NAME, $5 and $$", "model": "m", "metadata": "none", "concurrency": 2}
    project.plugins["mappers"] = []
    added = project.run(
        *("add", "--plugin-type", "mapper", "map-openai-compatible"),
        *("--no-install", "--from-ref", str(SAMPLE / "map-openai-compatible.yml")),
    )
    assert added.returncode == 0, added.stderr
    project.project = yaml.safe_load((project.path / "meltano.yml").read_text())
    project.plugins = project.project["plugins"]
    del project.mapper["pip_url"]  # this very program is to be run, not the one that is published
    project.mapper["mappings"] = [mapping, {"name": "second", "config": second}]
    done = project.run(
        *("run", "tap-csv", "classify", "second", "target-jsonl"),
        MAP_OPENAI_COMPATIBLE_CONCURRENCY="4",
        MAP_OPENAI_COMPATIBLE_MAX_TOTAL_TOKENS="100000",
        MAP_OPENAI_COMPATIBLE_MAX_ROW_SECONDS="60.5",
        MAP_OPENAI_COMPATIBLE_CONFIG_TIMEOUT="20",
    )
    assert done.returncode == 0, done.stderr
    assert [row["summary"] for row in project.rows()] == [classified(number) for number in range(1, 6)]
    assert project.rows()[0]["content"] == answer_to("review 1 costs $NAME, $5 and $$")


def test_a_run_whose_mapper_gives_up_fails_and_saves_no_state_beyond_it(project: Project) -> None:
    project.write_rows(40, bad="[[fault:401]]")
    done = project.run("run", "tap-csv", "classify", "target-jsonl")
    assert done.returncode != 0
    assert "openai-compatible: " in done.stderr
    reviews = project.state().get("singer_state", {}).get("bookmarks", {}).get("reviews", {})
    assert reviews.get("replication_key_value", 0) <= 20
    project.write_rows(40)
    assert project.run("run", "tap-csv", "classify", "target-jsonl").returncode == 0
    assert {row["id"] for row in project.rows()} == set(range(1, 41))


def test_a_mapper_that_is_killed_half_way_loses_nothing(tmp_path: Path, installed: dict[str, Path]) -> None:
    wrapper, pid = tmp_path / "mapper", tmp_path / "pid"
    wrapper.write_text(f'#!/bin/sh\necho $$ > {pid}\nexec map-openai-compatible "$@"\n')
    wrapper.chmod(0o755)
    with Endpoint(killing(pid, at=20), latency=0.05) as endpoint:  # the first replies are stored long before
        project = Project(tmp_path, installed, endpoint)
        project.mapper["executable"] = str(wrapper)
        project.mapper["mappings"][0]["config"]["concurrency"] = 2
        project.write_rows(40)
        assert project.run("run", "tap-csv", "classify", "target-jsonl").returncode != 0
        known = len(endpoint.journal.calls)
        assert project.run("run", "tap-csv", "classify", "target-jsonl").returncode == 0
        assert {row["id"] for row in project.rows()} == set(range(1, 41))
        assert len(endpoint.journal.calls) - known < 40
        assert endpoint.journal.peak <= 2


def killing(pid: Path, at: int) -> Callable[[Call], Action | None]:
    """A script that kills the process whose id is in the file, on one call, once."""
    calls = 0

    def script(call: Call) -> Action | None:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(int(pid.read_text()), signal.SIGKILL)
            return act(call, "500")
        return None

    return script
