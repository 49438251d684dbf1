"""The README's examples, run as they are pasted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connector import Config
from spec.generate import ROOT
from tests.endpoint import Endpoint, answer_to
from tests.shell import shell

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = {
    language: re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for language in ("sh", "json", "python")
}


@pytest.fixture
def environment(tmp_path: Path, endpoint: Endpoint) -> dict[str, str]:
    return shell(tmp_path, endpoint.base_url, "sk-canary", "m")


def test_the_first_table_works_as_it_is_pasted_and_calls_nothing_the_second_time(
    tmp_path: Path, endpoint: Endpoint, environment: dict[str, str]
) -> None:
    (pasted,) = (block for block in BLOCKS["sh"] if "enrich" in block)
    calls = []
    for _ in range(2):
        subprocess.run(["bash", "-euc", pasted], cwd=tmp_path, env=environment, check=True, capture_output=True)
        rows = [json.loads(line) for line in (tmp_path / "labelled.jsonl").read_text().splitlines()]
        assert [row["product"] for row in rows] == ["Iron pan", "Kettle"]
        assert all({"review", "sentiment", "summary", "_llm"} <= row.keys() for row in rows)
        calls.append(len(endpoint.journal.calls))
    assert calls[0] > 0
    assert calls[1] == calls[0]


def test_the_python_example_prints_each_row_s_answer_and_status(environment: dict[str, str]) -> None:
    (program,) = BLOCKS["python"]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{answer_to('Classify: Arrived late.')} success\n"


def test_the_config_example_is_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    for block in BLOCKS["json"]:
        assert Config.load(json.loads(block)).kind == "chat"


def test_the_make_targets_that_pages_name_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, page.name
