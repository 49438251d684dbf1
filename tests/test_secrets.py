"""The key is nowhere but in its header: every command and every fault is run with a canary, and everything searched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import Endpoint
from tests.faults import FAULTS

CANARY = "sk-canary-5f0c7d21e9"
PASSING = [
    name
    for name, fault in FAULTS.items()
    if fault.effect == "row" and not fault.deadline and "chat" in fault.kinds and not name.startswith("429-")
]
STOPPING = [name for name, fault in FAULTS.items() if fault.effect == "run"]


def run(path: Path, *arguments: object) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "connector", *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=90,
        cwd=path,
        env=environment,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def written(path: Path, *, but: Path) -> str:
    files = (file for file in path.rglob("*") if file.is_file() and file != but)
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
    return config


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_no_command_shows_or_stores_the_key_whatever_the_endpoint_does(tmp_path: Path, streamed: bool) -> None:
    with Endpoint() as endpoint:
        texts = [text for name in PASSING for text in (f"[[fault:{name}]]", f"a good row beside {name}")]
        config = project(tmp_path, endpoint, texts, is_stream=streamed)
        shown = run(tmp_path, "enrich", "in.jsonl", "-c", config, "-o", "out.jsonl")
        assert (tmp_path / "out.jsonl").exists(), shown
        shown += run(tmp_path, "enrich", "in.jsonl", "-c", config, "-o", "out.parquet", "--retry-failed")
        shown += run(tmp_path, "preview", "in.jsonl", "-c", config, "--call", "--rows", "20")
        for verb in ("spec", "check", "discover", "read"):
            options = [] if verb == "spec" else ["--config", config]
            shown += run(tmp_path, verb, *options, *(["--catalog", "catalog.json"] if verb == "read" else []))
        assert any(CANARY in str(call.headers) for call in endpoint.journal.calls)
    assert CANARY not in shown
    assert CANARY not in written(tmp_path, but=config)


def test_what_stops_a_run_does_not_show_the_key(tmp_path: Path, endpoint: Endpoint) -> None:
    for name in STOPPING:
        config = project(tmp_path, endpoint, [f"[[fault:{name}]]"])
        shown = run(tmp_path, "enrich", "in.jsonl", "-c", config, "-o", "out.jsonl")
        assert "Traceback" not in shown
        assert CANARY not in shown
    assert CANARY not in written(tmp_path, but=config)


def test_the_key_is_not_on_the_command_line_of_any_process(tmp_path: Path) -> None:
    with Endpoint(latency=0.2) as endpoint:
        config = project(tmp_path, endpoint, ["a", "b"])
        command = [sys.executable, "-m", "connector", "enrich", "in.jsonl", "-c", str(config), "-o", "out.jsonl"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 20
            while not endpoint.journal.calls and time.monotonic() < deadline:
                time.sleep(0.01)
            shown = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
            process.wait(20)
    assert CANARY not in shown
