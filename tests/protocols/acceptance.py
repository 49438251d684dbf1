"""Airbyte's own acceptance tests, from its development kit, over a connector that a program in docker's place runs.

The kit's tests start a connector as `docker run … IMAGE VERB`. Here a script named `docker` does that: with the program
itself (tests/protocols/test_acceptance.py), or in the image (tests/protocols/test_image.py). The kit is installed once,
from the package registry, into an environment beside pytest's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from spec.generate import ROOT
from tests.environments import programs

PACKAGES: Final = ("airbyte-cdk>=7.39,<8", "pytest>=8")

_ASKED: Final = """\
import os, sys
words, volumes, environment = sys.argv[1:], [], []
while (word := words.pop(0)) != "image":
    if word == "-v":
        volumes.append(words.pop(0).split(":")[:2])
    elif word == "-e":
        environment.append(words.pop(0))
"""
"""What `docker run` was asked for. The rest of the script runs it: the verb and its arguments are in `words`."""

_SUITE: Final = '''\
import json, os, subprocess, sys
from pathlib import Path
from airbyte_cdk.models import AirbyteMessageSerializer, Type
from airbyte_cdk.sources import Source
from airbyte_cdk.test.standard_tests import DestinationTestSuiteBase, SourceTestSuiteBase

class Program(Source):
    """The connector, asked through docker for what the kit would ask a class of its own for."""

    def _told(self, verb, **files):
        words = ["docker", "run", "--rm"]
        for name, content in files.items():
            path = Path(os.environ["GIVEN"], name + ".json")
            path.write_text(json.dumps(content))
            words += ["-v", f"{path}:/given/{name}.json"]
        words += ["image", verb, *(word for name in files for word in (f"--{name}", f"/given/{name}.json"))]
        done = subprocess.run(words, capture_output=True, text=True)
        messages = [AirbyteMessageSerializer.load(json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode and not any(each.trace and each.trace.error for each in messages):
            raise RuntimeError(f"{verb} ended with {done.returncode} and no word why: {done.stderr}")
        return messages

    def _one(self, kind, *asked, **files):
        (message,) = [each for each in self._told(*asked, **files) if each.type == kind]
        return message

    def spec(self, logger):
        return self._one(Type.SPEC, "spec").spec

    def check(self, logger, config):
        return self._one(Type.CONNECTION_STATUS, "check", config=dict(config)).connectionStatus

    def discover(self, logger, config):
        return self._one(Type.CATALOG, "discover", config=dict(config)).catalog

    def read(self, logger, config, catalog, state=None):
        yield from self._told("read", config=dict(config), catalog=catalog)

    def read_catalog(self, path):
        return json.loads(Path(path).read_text())  # as it is: a catalog that is none is the connector's to refuse

BASES = {"source": SourceTestSuiteBase, "destination": DestinationTestSuiteBase}

class TestSuite(BASES[os.environ["ROLE"]]):
    connector = Program
'''


class Acceptance:
    """A connector's folder as the kit wants it, with a config that works and others that do not.

    `docker` is how a script in docker's place ends: see `_ASKED`.
    """

    def __init__(self, folder: Path, role: str, docker: str, configs: Mapping[str, dict[str, Any]]) -> None:
        self.role = role
        self.folder = folder / f"{role}-openai-compatible"
        self.programs = folder / "bin"
        self.given = folder / "given"
        for each in (self.folder, self.programs, self.given):
            each.mkdir()
        script = self.programs / "docker"
        script.write_text(f"#!{sys.executable}\n{_ASKED}{docker}")
        script.chmod(0o755)
        shutil.copy(ROOT / "image" / role / "metadata.yaml", self.folder)
        (self.folder / "test_suite.py").write_text(_SUITE)
        for name, config in configs.items():
            (self.folder / f"{name}.json").write_text(json.dumps(config))
        works = [{"config_path": "config.json"}]
        connection = [
            {"config_path": f"{name}.json", "status": "succeed" if name == "config" else "failed"} for name in configs
        ]
        sections = {"spec": works, "connection": connection}
        if role == "source":
            sections |= {"discovery": works, "basic_read": works, "full_refresh": works}
        said = {
            "test_strictness_level": "high",
            "acceptance_tests": {name: {"tests": tests} for name, tests in sections.items()},
        }
        (self.folder / "acceptance-test-config.yml").write_text(json.dumps(said))

    def faults(self, config: pytest.Config, least: int) -> list[str]:
        """What the kit's tests find wrong; so many of them at least have to pass."""
        verdicts = self.verdicts(config)
        faults = [f"{name}: {said}" for name, said in verdicts.items() if said.startswith(("failure", "error"))]
        assert faults or list(verdicts.values()).count("passed") >= least, verdicts
        return faults

    def verdicts(self, config: pytest.Config) -> dict[str, str]:
        """What each of the kit's tests says: "passed", "skipped: …", "failure: …" or "error: …"."""
        installed = programs(config, "airbyte-cdk", *PACKAGES)
        report = self.folder / "report.xml"
        strict = "error::airbyte_cdk.test.standard_tests.DiscoveredCatalogWarning"  # as they are to be one day
        asked = ["--connector-image=image", "--read-from-streams=all", f"--junit-xml={report}", "-W", strict]
        published = "not backward_compatibility"  # asks Airbyte's registry for the version before
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "airbyte_cdk.test.standard_tests.pytest_hooks"]
        done = subprocess.run(
            [installed / "python", *words, *asked, "-k", published, "test_suite.py"],
            cwd=self.folder,
            env={
                **_bare(),
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "ROLE": self.role,
                "GIVEN": str(self.given),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert report.is_file(), done.stdout + done.stderr
        return {each.attrib["name"]: _verdict(each) for each in ET.parse(report).iter("testcase")}


def _bare() -> dict[str, str]:
    """The environment without what would reach into the kit's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "OPENAI"))}


def _verdict(case: ET.Element) -> str:
    for told in case:
        if told.tag in {"failure", "error", "skipped"}:
            return f"{told.tag}: {told.attrib.get('message', '')} {told.text or ''}"
    return "passed"
