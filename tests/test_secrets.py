"""The key is nowhere but in its header: every command and every fault is run with a canary, and everything searched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import Endpoint
from tests.faults import FAULTS
from tests.patience import PATIENCE

CANARY = "sk-canary-5f0c7d21e9"
STOPPING = [name for name, fault in FAULTS.items() if fault.effect == "run"]


TALKATIVE = "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
MAIN = "from connector import cli; cli.main(sys.argv[1:])"


def passing(*, streamed: bool) -> list[str]:
    """Faults that end no run and take no time-out, in an order in which those that pass do not stand together.

    That would look like an outage.
    """
    names = (
        name
        for name, fault in FAULTS.items()
        if (fault.streamed if streamed else fault.whole) is not None
        and fault.effect == "row"
        and not fault.deadline
        and "chat" in fault.kinds
        and not name.startswith("429-")
    )
    return sorted(names, key=lambda name: name[::-1])


def run(path: Path, *arguments: object, given: str = "", script: str = TALKATIVE + MAIN) -> str:
    """All that a command shows, with every logger at debug level."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script, *map(str, arguments)],
        input=given.encode(),
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        cwd=path,
        env=environment,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def written(path: Path, config: Path) -> str:
    """All that is in files, but for the configs."""
    configs = {config, path / "connection.json", path / "sync.json"}
    files = (file for file in path.rglob("*") if file.is_file() and file not in configs)
    return "".join(file.read_bytes().decode("utf-8", "replace") for file in files)


def project(path: Path, endpoint: Endpoint, texts: list[str], **more: Any) -> Path:
    (path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = path / "config.json"
    options = {
        "url": endpoint.base_url,
        "api_key": CANARY,
        "headers": {"x-team": f"team {CANARY}"},
        "model": "m",
        "prompt": "{{ text }}",
        "input": {"type": "files", "path": str(path / "in.jsonl")},
        "max_retries": 1,
        "max_retry_wait": 1,
        "max_response_bytes": 1_000_000,
        **more,
    }
    config.write_text(json.dumps(options))
    stream = {"name": "in", "json_schema": {}}
    (path / "catalog.json").write_text(json.dumps({"streams": [{"stream": stream, "sync_mode": "full_refresh"}]}))
    request = {"model": "m", "messages": [{"role": "user", "content": texts[0]}]}
    connection = {**options, "request_format": json.dumps(request), "input": None}
    model = {"name": "m", "query": json.dumps(request), "query_type": "ai_ml", "primary_key": "id"}
    (path / "connection.json").write_text(json.dumps(connection))
    (path / "sync.json").write_text(json.dumps({"source": {"connection_specification": connection}, "model": model}))
    return config


def singer(texts: list[str]) -> str:
    """What a tap sends."""
    schema = {"type": "SCHEMA", "stream": "in", "schema": {"properties": {"text": {"type": "string"}}}}
    records = [{"type": "RECORD", "stream": "in", "record": {"text": text}} for text in texts]
    return "".join(json.dumps(each) + "\n" for each in [{**schema, "key_properties": []}, *records])


def verbs(config: Path) -> list[list[str]]:
    """How platforms call the program with a config; standard input is a tap's."""
    return [
        ["spec"],
        ["check", "--config", str(config)],
        ["check", "--config", str(config), "--capabilities"],
        ["discover", "--config", str(config)],
        ["read", "--config", str(config), "--catalog", "catalog.json"],
        ["--protocol", "multiwoven", "check", "--config", "connection.json"],
        ["--protocol", "multiwoven", "discover", "--config", "connection.json"],
        ["--protocol", "multiwoven", "read", "--sync-config", "sync.json"],
        ["--config", str(config)],
        ["--config", str(config), "--test"],
        ["--config", str(config), "--about"],
    ]


COMMANDS = [
    ["enrich", "in.jsonl", "-o", "out.csv", "--dead-letter", "dead.csv", "--csv-safe"],
    ["enrich", "dead.csv", "-o", "again.jsonl", "--dead-letter", "dead.jsonl", "--ledger", "out.csv.ledger"],
    ["enrich", "in.jsonl", "-o", "out.parquet", "--dead-letter", "dead.parquet", "--retry-failed"],
    ["preview", "in.jsonl", "--call", "--rows", "20"],
    ["evaluate", "in.jsonl", "--report", "compared.html", "--json"],
    ["models"],
]
LEDGER = [["stats"], ["export"], ["prune", "--failed"]]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_no_command_shows_or_stores_the_key_whatever_the_endpoint_does(tmp_path: Path, streamed: bool) -> None:
    with Endpoint() as endpoint:
        texts = [
            text for name in passing(streamed=streamed) for text in (f"[[fault:{name}]]", f"a good row beside {name}")
        ]
        config = project(tmp_path, endpoint, texts, is_stream=streamed)
        shown = "".join(run(tmp_path, *command, "-c", config) for command in COMMANDS)
        assert {"out.csv", "dead.csv", "again.jsonl", "out.parquet"} <= {path.name for path in tmp_path.iterdir()}, (
            shown
        )
        shown += "".join(run(tmp_path, "ledger", *action, "out.csv.ledger") for action in LEDGER)
        shown += "".join(run(tmp_path, *verb, given=singer(texts)) for verb in verbs(config))
        assert "RECORD" in shown
        assert "DEBUG:" in shown
        assert any(CANARY in str(call.headers) for call in endpoint.journal.calls)
    assert CANARY not in shown
    assert CANARY not in written(tmp_path, config)


def test_nothing_that_a_run_writes_can_be_read_by_others(tmp_path: Path, endpoint: Endpoint) -> None:
    config = project(tmp_path, endpoint, ["good", "[[fault:400]]"])
    given = {path for path in tmp_path.rglob("*") if path.is_file()}
    watch = "import os, pathlib, stat; os.umask(0)\n"
    for line in COMMANDS:
        run(tmp_path, *line, "-c", config, script=f"import sys\n{watch}{MAIN}")
    for verb in verbs(config):
        run(tmp_path, *verb, given=singer(["good"]), script=f"import sys\n{watch}{MAIN}")
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - given
    assert len(made) > 6
    assert {path.name for path in made if path.stat().st_mode & 0o077} == set()


def test_an_error_that_nobody_foresaw_does_not_show_the_key(tmp_path: Path, endpoint: Endpoint) -> None:
    config = project(tmp_path, endpoint, ["a"])
    (tmp_path / "dead.csv").write_text("text\na\n")
    (tmp_path / "dead.jsonl").write_text('{"text": "a"}\n')
    script = f"""import sys
from connector.http import transport
def broken(*_, **__):
    key = {CANARY!r}
    raise RuntimeError("a header holds " + key) from ValueError(key)
transport.Transport.post = transport.Transport.get = broken
{MAIN}"""
    silent = (["spec"], ["discover", "--config", str(config)], ["--config", str(config), "--about"])
    for line in [*([*command, "-c", str(config)] for command in COMMANDS), *verbs(config)]:
        shown = run(tmp_path, *line, given=singer(["a"]), script=script)
        assert "RuntimeError" in shown or line in silent or line[:3] == ["--protocol", "multiwoven", "discover"], line
        assert CANARY not in shown, line


def test_what_stops_a_run_does_not_show_the_key(tmp_path: Path, endpoint: Endpoint) -> None:
    for name in STOPPING:
        config = project(tmp_path, endpoint, [f"[[fault:{name}]]"])
        shown = run(tmp_path, "enrich", "in.jsonl", "-c", config, "-o", "out.jsonl")
        assert "Traceback" not in shown
        assert CANARY not in shown
    assert CANARY not in written(tmp_path, config)


def test_the_key_is_not_on_the_command_line_of_any_process(tmp_path: Path) -> None:
    with Endpoint(latency=0.2) as endpoint:
        config = project(tmp_path, endpoint, ["a", "b"])
        command = [sys.executable, "-m", "connector", "enrich", "in.jsonl", "-c", str(config), "-o", "out.jsonl"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            endpoint.journal.wait_for(calls=1)
            shown = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
            process.wait(PATIENCE)
    assert CANARY not in shown
