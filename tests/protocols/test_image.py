"""The images for Airbyte, really built, and every verb run in them as Airbyte runs it: as nobody, without a home.

The base is made of Debian's packages. It is made once and used again by later runs; the images are built anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from connector import __version__
from spec.generate import ROOT
from tests.endpoint import Endpoint, answer_to
from tests.environments import programs
from tests.protocols.acceptance import Acceptance
from tests.protocols.messages import text_of
from tests.protocols.test_acceptance import LEAST, configs, write_rows

ROLES = ("source", "destination")
DAC_OVERRIDE = 1
"""The number of the right that root writes into any folder by (capabilities(7))."""

PACKAGES = "python3,python3-venv,ca-certificates"
EXTRAS = ("prices", "postgresql", "mariadb", "duckdb")


DOCKER = """\
os.environ["BUILDAH_ISOLATION"] = "chroot"
mounted = [f"--volume={host}:{inside}" for host, inside in volumes]
os.execvp(BUILDAH[0], [*BUILDAH, "run", *mounted, CONTAINER, "--", "env", "-i", *environment, *ENTRYPOINT, *words])
"""
"""Runs a verb in the image, with nothing but the variables that it is given."""


def pinned(lock: str) -> dict[str, tuple[str, int]]:
    """The version of each package in a lock, and how many hashes it has."""
    text = (ROOT / "image" / lock).read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found = [re.match(r"([\w.-]+)==([\w.+!-]+)", line) for line in lines]
    assert all(found), "each line pins one package"
    return {
        canonicalize_name(match[1]): (match[2], line.count("--hash=sha256:"))
        for match, line in zip(found, lines, strict=True)
        if match
    }


def test_the_lock_holds_what_the_project_needs_in_versions_that_it_takes_and_each_is_checked_by_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    optional = project["optional-dependencies"]
    needed = {
        "requirements.lock": [
            *project["dependencies"],
            *(each for name in EXTRAS for each in optional[name]),
        ],
        "build.lock": build,
    }
    for lock, requirements in needed.items():
        pins = pinned(lock)
        assert all(hashes for _, hashes in pins.values())
        for each in map(Requirement, requirements):
            assert pins[canonicalize_name(each.name)][0] in each.specifier, f"{each}: run `make lock`"


def test_the_files_that_say_a_version_say_this_one() -> None:
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()
    for role in ROLES:
        data = yaml.safe_load((ROOT / "image" / role / "metadata.yaml").read_text())["data"]
        assert (data["dockerImageTag"], data["connectorType"]) == (__version__, role)


def test_the_registry_takes_the_metadata(pytestconfig: pytest.Config) -> None:
    installed = programs(pytestconfig, "airbyte-metadata", "--no-deps", "airbyte-connector-models>=0.1.12,<0.2").parent
    (path,) = installed.rglob("metadata/v0/ConnectorMetadataDefinitionV0.json")
    for role in ROLES:
        given = yaml.safe_load((ROOT / "image" / role / "metadata.yaml").read_text())
        Draft7Validator(json.loads(path.read_text())).validate(given)


class Images:
    """The images in a store of their own, and a container of each."""

    def __init__(self, store: Path, base: Path) -> None:
        self._environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        places = ["--root", str(store / "images"), "--runroot", str(store / "run")]
        self._words = ["buildah", "--storage-driver", _driver(places), *places]
        scratch = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", scratch, str(base), "/")
        self.buildah("commit", "--quiet", scratch, "localhost/base")
        self._build()
        self.containers = {
            role: self.buildah("from", f"localhost/{role}-openai-compatible:{__version__}") for role in ROLES
        }

    def buildah(self, *words: str, **options: Any) -> str:
        done = subprocess.run(
            [*self._words, *words], capture_output=True, text=True, check=False, env=self._environment, **options
        )
        assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return str(done.stdout).strip()

    def _build(self) -> None:
        """Runs `make image`; pip comes to its index as it does on this machine."""
        arguments = []
        for name in ("index-url", "cert"):
            pip = [sys.executable, "-m", "pip", "config", "get"]
            for section in (":env:", "global"):
                done = subprocess.run([*pip, f"{section}.{name}"], capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    value = done.stdout.strip()
                    arguments.append(f"--build-arg=PIP_{name.replace('-', '_').upper()}={value}")
                    arguments += [f"--volume={value}:{value}:ro"] if name == "cert" else []
                    break
        make = ["make", "image", "BASE=localhost/base", f"BUILDER={' '.join(self._words)}"]
        done = subprocess.run(
            [*make, f"IMAGE_ARGS=--quiet --layers {' '.join(arguments)}"],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def config(self, role: str) -> dict[str, Any]:
        """What the image says of how it is run."""
        config: dict[str, Any] = json.loads(self.buildah("inspect", self.containers[role]))["OCIv1"]["config"]
        return config

    def run(self, role: str, data: Path, *words: str, given: str = "", **environment: str) -> list[dict[str, Any]]:
        """The messages of one verb, run with nothing but these variables."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        command = ["env", "-i", *variables, *self.config(role)["Entrypoint"], *words]
        volume = f"--volume={data}:/data"
        told = self.buildah("run", volume, self.containers[role], "--", *command, input=given)
        return [json.loads(line) for line in told.splitlines()]

    def docker(self, role: str, data: Path) -> str:
        """The end of a script in docker's place that runs the image of a role; see `Acceptance`."""
        named = {"CONTAINER": self.containers[role], "ENTRYPOINT": self.config(role)["Entrypoint"]}
        named |= {"BUILDAH": self._words, "DATA": [str(data), "/data"]}
        return "".join(f"{name} = {value!r}\n" for name, value in named.items()) + f"volumes.append(DATA)\n{DOCKER}"


def _driver(places: list[str]) -> str:
    """How layers are stored: as what differs between them, where the kernel can do that, else each as a whole."""
    asked = subprocess.run(
        ["buildah", "--storage-driver", "overlay", *places, "info"], capture_output=True, check=False
    )
    return "vfs" if asked.returncode else "overlay"


def base_of(config: pytest.Config) -> Path:
    """A tree of Debian's packages, as an archive; made once."""
    for program in ("buildah", "debootstrap", "make"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the image cannot be built")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if not int(status["CapEff"], 16) & 1 << DAC_OVERRIDE:
        pytest.skip("only root with all of its rights can unpack an image: .ci/run has this module run so")
    assert config.cache
    archive = Path(config.cache.mkdir("environments")) / "base.tar"
    if not archive.is_file():
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        tree = archive.with_name("base")
        shutil.rmtree(tree, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release["VERSION_CODENAME"], str(tree)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"no base can be made of packages here: {done.stdout[-300:]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        shutil.rmtree(tree / "var" / "cache" / "apt", ignore_errors=True)
        subprocess.run(["tar", "--create", "-C", tree, "--file", archive.with_suffix(".new"), "."], check=True)
        archive.with_suffix(".new").replace(archive)
        shutil.rmtree(tree)
    return archive


@pytest.fixture(scope="module")
def images(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    store = tmp_path_factory.mktemp("images")
    yield Images(store, base_of(pytestconfig))
    shutil.rmtree(store)  # gigabytes


@pytest.fixture
def data(tmp_path: Path, endpoint: Endpoint) -> Path:
    """A volume with what the verbs are given."""
    reviews = "\n".join(["id,text", *(f"{number},row {number}" for number in range(5)), ""])
    columns = {"id": {"type": "integer"}, "text": {"type": "string"}}
    stream = {"name": "reviews", "json_schema": {"type": "object", "properties": columns}}
    general = {"url": endpoint.base_url, "api_key": "sk-canary", "model": "m", "prompt": "{{ text }}"}
    files: dict[str, Any] = {
        "reviews.csv": reviews,
        "source.json": {**general, "input": {"type": "files", "path": "/data/reviews.csv"}, "primary_key": "id"},
        "destination.json": {**general, "output": {"type": "files", "path": "/data/{stream}.jsonl"}},
        "catalog.json": {"streams": [{"stream": {**stream, "json_schema": {}}, "sync_mode": "full_refresh"}]},
        "given.json": {"streams": [{"stream": stream, "destination_sync_mode": "append"}]},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    tmp_path.chmod(0o777)  # a volume that user 1000 may write to
    return tmp_path


@pytest.mark.parametrize("role", ROLES)
def test_an_image_says_how_it_is_run(images: Images, role: str) -> None:
    config = images.config(role)
    program = f"/opt/connector/bin/{role}-openai-compatible"
    assert (config["Entrypoint"], config["User"]) == ([program], "1000:1000")
    assert f"AIRBYTE_ENTRYPOINT={program}" in config["Env"]
    labels = config["Labels"]
    assert (labels["io.airbyte.name"], labels["io.airbyte.version"]) == (f"{role}-openai-compatible", __version__)


@pytest.mark.parametrize("environment", [{}, {"HOME": "/"}, {"HOME": "/nowhere"}], ids=["bare", "root", "nowhere"])
def test_every_verb_of_the_source_runs_without_rights_and_without_a_home(
    images: Images, data: Path, environment: dict[str, str]
) -> None:
    def told(*words: str) -> list[dict[str, Any]]:
        return images.run("source", data, *words, **environment)

    (spec,) = told("spec")
    assert spec["spec"] == json.loads((ROOT / "spec" / "source.json").read_text())
    (checked,) = [each for each in told("check", "--config", "/data/source.json") if each["type"] != "LOG"]
    assert checked["connectionStatus"]["status"] == "SUCCEEDED", checked
    (discovered,) = told("discover", "--config", "/data/source.json")
    assert [stream["name"] for stream in discovered["catalog"]["streams"]] == ["reviews", "models"]
    read = told("read", "--config", "/data/source.json", "--catalog", "/data/catalog.json")
    rows = {
        each["record"]["data"]["id"]: each["record"]["data"]["content"] for each in read if each["type"] == "RECORD"
    }
    assert rows == {number: answer_to(f"row {number}") for number in range(5)}


def test_every_verb_of_the_destination_runs_without_rights_and_without_a_home(images: Images, data: Path) -> None:
    (spec,) = images.run("destination", data, "spec")
    assert spec["spec"] == json.loads((ROOT / "spec" / "destination.json").read_text())
    checked = images.run("destination", data, "check", "--config", "/data/destination.json")
    assert checked[-1]["connectionStatus"]["status"] == "SUCCEEDED", checked
    record = {"stream": "reviews", "data": {"id": 1, "text": "row 1"}, "emitted_at": 1}
    state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "reviews"}, "stream_state": {}}}
    given = text_of([{"type": "RECORD", "record": record}, {"type": "STATE", "state": state}])
    words = ("write", "--config", "/data/destination.json", "--catalog", "/data/given.json")
    told = images.run("destination", data, *words, given=given)
    assert [each["type"] for each in told if each["type"] != "LOG"] == ["STATE"]
    (row,) = (json.loads(line) for line in (data / "reviews.jsonl").read_text().splitlines())
    assert row["content"] == answer_to("row 1")
    assert (data / "reviews.jsonl").stat().st_uid == 1000


@pytest.mark.parametrize("role", ROLES)
def test_airbyte_s_acceptance_tests_find_nothing_wrong_with_an_image(
    images: Images, data: Path, endpoint: Endpoint, pytestconfig: pytest.Config, role: str
) -> None:
    write_rows(data)
    kit = Acceptance(data, role, images.docker(role, data), configs(endpoint, role, "/data"))
    assert kit.faults(pytestconfig, LEAST[role]) == []
