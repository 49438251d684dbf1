"""The executable: which verb it finds, what it says of itself, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from connector import __version__, cli


def test_spec_needs_none_of_what_only_a_run_needs() -> None:
    script = (
        "import sys; from connector import cli; cli.run(['spec']); "
        "heavy = {'requests', 'pydantic', 'jinja2', 'duckdb', 'sqlite3', 'jsonschema'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    message, loaded = done.stdout.splitlines()
    assert json.loads(message)["type"] == "SPEC"
    assert loaded == "[]"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("spec", "check", "discover", "read", "enrich", "preview", "sandbox"))


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(["--version"])
    assert capsys.readouterr().out == f"openai-compatible {__version__}\n"


@pytest.mark.parametrize("words", [[], ["explode"], ["enrich"]])
def test_a_wrong_command_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(words)
    assert ended.value.code == 2


def test_a_wrong_config_is_told_on_stderr_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["enrich", "nowhere.csv", "-o", "out.csv", "--config", "nowhere.json"]) == 2
    assert "the config nowhere.json cannot be read" in capsys.readouterr().err
