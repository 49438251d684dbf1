"""Airbyte's acceptance tests, at their highest strictness, find nothing wrong with the source and the destination."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spec.generate import ROOT
from tests.endpoint import Endpoint
from tests.protocols.acceptance import Acceptance
from tests.protocols.test_airbyte import program

DOCKER = """\
files = {inside: host for host, inside in volumes}
given = dict(each.split("=", 1) for each in environment)
words = [files.get(word, word) for word in words]
os.execve(PROGRAM, [PROGRAM, *words], {**os.environ, **given, "PYTHONPATH": ROOT})
"""
"""Runs the program here, as docker would run it in the image: a volume's file is the file itself."""

LEAST = {"source": 15, "destination": 6}
"""How many of the kit's tests have to pass. Others are for configs of another kind, and are skipped."""

ROWS = [
    {"id": 1, "text": "row 1", "at": "2024-01-01T10:00:00Z", "rating": 1.5, "tags": ["a"], "more": {"k": 1}},
    {"id": 2, "text": "row 2", "at": "2024-01-02T10:00:00Z", "rating": 4.0, "tags": [], "more": {"k": None}},
    {"id": 3, "text": "[[fault:400]]", "at": "2024-01-03T10:00:00Z", "rating": None, "tags": None, "more": None},
]


def configs(endpoint: Endpoint, role: str, path: str) -> dict[str, dict[str, Any]]:
    """One that works, one that reaches no endpoint, one whose other end is not there."""
    general = {"url": endpoint.base_url, "api_key": "sk-canary-4711", "model": "m", "prompt": "{{ text }}"}
    if role == "source":
        works = {**general, "input": {"type": "files", "path": f"{path}/rows.jsonl"}, "cursor_field": "at"}
        nowhere = {**works, "input": {"type": "files", "path": f"{path}/none.jsonl"}}
    else:
        works = {**general, "output": {"type": "files", "path": f"{path}/{{stream}}.jsonl"}}
        nowhere = {**works, "output": {"type": "files", "path": f"{path}/rows.jsonl/{{stream}}.jsonl"}}
    return {"config": works, "unreachable": {**works, "url": "http://127.0.0.1:9/v1"}, "nowhere": nowhere}


def write_rows(path: Path) -> None:
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("role", LEAST)
def test_the_kit_s_tests_find_nothing_wrong(
    tmp_path: Path, endpoint: Endpoint, pytestconfig: pytest.Config, role: str
) -> None:
    write_rows(tmp_path)
    docker = f"PROGRAM, ROOT = {str(program(role))!r}, {str(ROOT)!r}\n{DOCKER}"
    kit = Acceptance(tmp_path, role, docker, configs(endpoint, role, str(tmp_path)))
    assert kit.faults(pytestconfig, LEAST[role]) == []
