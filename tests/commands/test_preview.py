"""A preview shows what would be asked, without asking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connector import cli
from tests.endpoint import Endpoint, answer_to


def preview(source: Path, *words: str) -> int:
    return cli.run(["preview", str(source), *words])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(20)))
    return path


def test_requests_are_shown_and_nothing_is_called(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(source, "--url", endpoint.url, "--prompt", "Say {{ text }}", "--rows", "2")
    shown = capsys.readouterr().out
    assert shown.count("request to") == 2
    assert "Say row 1" in shown
    assert not endpoint.journal.calls


def test_a_call_shows_reply_and_columns_and_projects_the_whole_table(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(source, "--url", endpoint.url, "--model", "m", "--prompt", "Say {{ text }}", "--rows", "2", "--call")
    shown = capsys.readouterr().out
    assert shown.count(": reply") == 2
    assert answer_to("Say row 0") in shown
    assert "for all 20 rows, if they are like these 2:" in shown
    assert len(endpoint.journal.calls) == 2
