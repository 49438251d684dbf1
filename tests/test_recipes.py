"""The recipes of docs/architecture.md, each followed in a copy of the checkout, and what comes of it."""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from spec.generate import ROOT
from tests.endpoint import Endpoint, answer_to

PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RECIPES: Final = dict(part.split("\n", 1) for part in PAGE.partition("\n## Recipes\n")[2].split("\n### ")[1:])
NEW: Final = re.compile(r"# new: (\S+)")
EDIT: Final = re.compile(r"# in: (\S+), (before|after): (.+?)(?:, within: (.+))?")


class House:
    """A copy of the checkout in which recipes are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("connector", "image", "spec", "sample_configs", "docs"):
            shutil.copytree(ROOT / name, path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))

    def follow(self, recipe: str) -> None:
        blocks = re.findall(r"^```python\n(.*?)\n(.*?)^```", RECIPES[recipe], re.DOTALL | re.MULTILINE)
        assert blocks, "a recipe shows its code"
        for title, code in blocks:
            if new := NEW.fullmatch(title):
                assert not (self.path / new[1]).exists(), new[1]
                (self.path / new[1]).write_text(code, encoding="utf-8")
            else:
                edit = EDIT.fullmatch(title)
                assert edit, title
                self._insert(self.path / edit[1], code, where=edit[2], anchor=edit[3], within=edit[4])

    def _insert(self, path: Path, code: str, *, where: str, anchor: str, within: str | None) -> None:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        first = next(n for n, line in enumerate(lines) if line.startswith(within)) if within else 0
        found = [n for n, line in enumerate(lines) if n >= first and line.strip().startswith(anchor)]
        assert found, f"{path.name} has no line that begins with {anchor!r}"
        lines.insert(found[0] + (where == "after"), code)
        path.write_text("".join(lines), encoding="utf-8")

    def python(self, program: str, **variables: str) -> Any:
        """What a program, which sees the copy, prints as JSON."""
        return json.loads(self.run("-c", program, **variables))

    def run(self, *arguments: str, **variables: str) -> str:
        """What Python prints, started in the copy."""
        environment = {**os.environ, "PYTHONPATH": str(self.path), **variables}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr
        return done.stdout

    def spec(self) -> dict[str, Any]:
        """The properties of the spec, generated anew."""
        self.run("-m", "spec.generate")
        spec: dict[str, Any] = json.loads((self.path / "connector" / "config" / "connection.json").read_text())
        return spec["properties"]  # type: ignore[no-any-return]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def enriched(house: House, config: dict[str, Any], before: str = "") -> list[dict[str, Any]]:
    """The rows that come of one review."""
    program = f"""
import json
{before}
from connector import Connector
print(json.dumps(list(Connector(json.loads({json.dumps(config)!r})).enrich([{{"review": "Arrived late."}}]))))
"""
    rows: list[dict[str, Any]] = house.python(program, OPENAI_API_KEY="sk-canary")
    return rows


def test_add_an_endpoint_kind(house: House) -> None:
    house.follow("Add an endpoint kind")
    assert "score" in house.spec()["endpoint"]["enum"]
    reply = json.dumps({"model": "judge-1", "data": [{"score": 0.5}]}).encode()

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/score"
        (row,) = enriched(house, {"url": url, "system_prompt": "late", "prompt": "{{ review }}", "model": "judge-1"})
        server.shutdown()
    assert (row["score"], row["_llm"]["status"]) == (0.5, "success")


def test_add_a_file_format(house: House, endpoint: Endpoint) -> None:
    house.follow("Add a file format")
    properties = house.spec()
    assert "psv" in properties["input"]["oneOf"][0]["properties"]["format"]["enum"]
    (house.path / "in.psv").write_text("id|review\n1|Arrived late.\n")
    enrich(house, endpoint, "in.psv", "out.psv")
    assert (house.path / "out.psv").read_text().splitlines()[0].startswith("id|review|content|")


def test_add_a_compression(house: House, endpoint: Endpoint) -> None:
    house.follow("Add a compression")
    with lzma.open(house.path / "in.csv.xz", "wt") as file:
        file.write("id,review\n1,Arrived late.\n")
    for name in ("out.csv.xz", "out.jsonl.xz"):
        enrich(house, endpoint, "in.csv.xz", name)
        with lzma.open(house.path / name, "rt") as file:
            assert answer_to("Arrived late.") in file.read()


def test_add_an_option(house: House) -> None:
    house.follow("Add an option")
    assert house.spec()["user"]["title"] == "User"
    assert "| `user` |" in (house.path / "docs" / "options.md").read_text()
    assert house.python('import json; from connector import Config; print(json.dumps(Config(user="me").user))') == "me"


def test_add_a_field_to__llm(house: House, endpoint: Endpoint) -> None:
    house.follow("Add a field to `_llm`")
    (row,) = enriched(house, {"url": endpoint.base_url, "prompt": "{{ review }}", "model": "m"})
    assert row["_llm"]["service_tier"] is None
    enrich(house, endpoint, "sample_configs/reviews.csv", "out.csv", "--limit", "1")
    assert "_llm_service_tier" in (house.path / "out.csv").read_text().splitlines()[0]


def test_add_a_command(house: House) -> None:
    house.follow("Add a command")
    assert "Say hello to a name." in house.run("-m", "connector", "--help")
    assert house.run("-m", "connector", "hello", "you") == "hello you\n"


def test_add_a_dialect(house: House) -> None:
    house.follow("Add a dialect")
    assert "url" in json.loads(house.run("-m", "connector", "--protocol", "plain", "spec"))["properties"]


def test_add_an_engine(house: House, endpoint: Endpoint) -> None:
    house.follow("Add an engine")
    chosen = 'from connector import engines; engines.load.__defaults__ = ("one_by_one",)'
    (row,) = enriched(house, {"url": endpoint.base_url, "prompt": "{{ review }}", "model": "m"}, chosen)
    assert row["content"] == answer_to("Arrived late.")


def test_add_an_auth_scheme(house: House, endpoint: Endpoint) -> None:
    house.follow("Add an auth scheme")
    enriched(house, {"url": endpoint.base_url, "prompt": "{{ review }}", "model": "m", "auth": "token"})
    assert {call.headers["authorization"] for call in endpoint.journal.calls} == {"Token sk-canary"}


def test_add_a_ledger(house: House, endpoint: Endpoint) -> None:
    house.follow("Add a ledger")
    for _ in range(2):
        (row,) = enriched(
            house, {"url": endpoint.base_url, "prompt": "{{ review }}", "model": "m", "cache": "shared:x"}
        )
        assert row["_llm"]["status"] == "success"
    assert len(endpoint.journal.calls) == 1
    program = (
        "import json, pathlib; from connector import ledger; print(json.dumps(ledger.load(pathlib.Path({})).__name__))"
    )
    assert house.python(program.format("'shared:x'")) == "connector.ledger.shared"
    assert house.python(program.format("'x'")) == "connector.ledger.sqlite"


def test_add_a_database_that_is_written_to(house: House) -> None:
    house.follow("Add a database that is written to")
    program = "import json; from connector.stores.databases.writers import load; print(json.dumps(load({}).__module__))"
    assert house.python(program.format("'libsql'")) == "connector.stores.databases.writers.sqlite"
    assert house.python(program.format("'nosuch'")) == "connector.stores.databases.writers.generic"


def test_add_a_store(house: House) -> None:
    store = (house.path / "connector" / "stores" / "stdio.py").read_text()
    (house.path / "connector" / "stores" / "pipe.py").write_text(store)
    kinds = [branch["properties"]["type"]["const"] for branch in house.spec()["input"]["oneOf"]]
    assert "pipe" in kinds


def enrich(house: House, endpoint: Endpoint, source: str, output: str, *more: str) -> None:
    """Runs the command in the copy."""
    command = ["-m", "connector", "enrich", source, "--output", output, "--prompt", "{{ review }}", "--quiet", *more]
    house.run(*command, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY="sk-canary", OPENAI_MODEL="m")


def test_every_recipe_is_followed_by_a_test_of_its_name() -> None:
    wanted = ["test_" + re.sub(r"\W+", "_", recipe.lower()).strip("_") for recipe in RECIPES]
    assert [name for name in globals() if name.startswith("test_add_")] == wanted
