"""Batches on OGX, a server of other people's that has files and batches of its own. It needs a newer Python."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from connector import sandbox
from spec.generate import ROOT
from tests.environments import newer_python, programs
from tests.patience import PATIENCE
from tests.servers.conftest import running

OGX: Final = ("ogx>=1.5,<2", "greenlet", "sqlalchemy[asyncio]", "aiosqlite")
ROWS: Final = 30


@pytest.fixture
def ogx(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[str]:
    """The base URL of OGX, whose model is the sandbox's."""
    python = newer_python("3.12", "3.13", "3.14")
    program = programs(pytestconfig, "ogx", *OGX, python=python) / "ogx"
    config = tmp_path / "ogx.yaml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with sandbox.running() as model:
        config.write_text(json.dumps(stack(tmp_path, model, port)))
        # It tells all in one stream, which somebody has to read.
        shell = '"$0" run --insecure "$1" 2>&1 | tee "$2" | grep --line-buffered "running on"'
        command: list[str | Path] = ["sh", "-c", shell, program, config, tmp_path / "ogx.log"]
        with running(command, "(running)", tmp_path / "log"):
            yield f"http://127.0.0.1:{port}/v1"


def stack(base: Path, model: str, port: int) -> dict[str, Any]:
    """A config of OGX."""
    files = {"storage_dir": str(base / "files"), "metadata_store": {"table_name": "files", "backend": "sql"}}
    return {
        "version": 2,
        "distro_name": "batches",
        "apis": ["batches", "files", "inference"],
        "providers": {
            "inference": [
                {
                    "provider_id": "up",
                    "provider_type": "remote::vllm",
                    "config": {"base_url": model, "api_token": sandbox.KEY, "max_tokens": 256},
                }
            ],
            "files": [{"provider_id": "files", "provider_type": "inline::localfs", "config": files}],
            "batches": [
                {
                    "provider_id": "batches",
                    "provider_type": "inline::reference",
                    "config": {"sqlstore": {"table_name": "batches", "backend": "sql"}},
                }
            ],
        },
        "storage": {
            "backends": {
                "kv": {"type": "kv_sqlite", "db_path": str(base / "kv.db")},
                "sql": {"type": "sql_sqlite", "db_path": str(base / "sql.db")},
            },
            "stores": {
                "metadata": {"namespace": "registry", "backend": "kv"},
                "inference": {"table_name": "inference", "backend": "sql"},
                "conversations": {"table_name": "conversations", "backend": "sql"},
                "prompts": {"table_name": "prompts", "backend": "sql"},
                "connectors": {"table_name": "connectors", "backend": "sql"},
            },
        },
        "server": {"port": port},
    }


def test_each_row_is_submitted_once_though_the_run_is_killed(ogx: str, tmp_path: Path) -> None:
    source, output, config = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "c.json"
    source.write_text("".join(json.dumps({"id": number, "text": f"row {number}"}) + "\n" for number in range(ROWS)))
    batch = {"poll_seconds": 1, "max_batch_requests": 12}
    config.write_text(json.dumps({"url": ogx, "model": "up/sandbox-1", "prompt": "{{ text }}", "batch": batch}))
    command: list[str | Path] = [sys.executable, "-m", "connector", "enrich", source, "-o", output, "-c", config]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr is not None
        for line in killed.stderr:
            if "submitted" in line:
                killed.send_signal(signal.SIGKILL)
                break
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["id"], row["_llm"]["status"]) for row in rows] == [(number, "success") for number in range(ROWS)]
    batches = requests.get(f"{ogx}/batches?limit=100", timeout=PATIENCE).json()["data"]
    assert sum(each["request_counts"]["total"] for each in batches) == ROWS
