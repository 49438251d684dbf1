"""`check` tells a person a table, and a platform its message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from connector import cli
from tests.endpoint import Endpoint
from tests.endpoint import refusing as refusing_port


@pytest.fixture
def config(endpoint: Endpoint, tmp_path: Path) -> str:
    path = tmp_path / "c.json"
    path.write_text(
        json.dumps({"url": endpoint.base_url, "api_key": "sk-canary-1234", "model": "echo-1", "prompt": "{{ t }}"})
    )
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.run(["check", *words])
    return code, capsys.readouterr().out


def test_a_platform_gets_its_message_on_a_pipe(config: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.run(["check", "--config", config]) == 0
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["connectionStatus"]["status"] == "SUCCEEDED"


def test_a_person_gets_a_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = shown(capsys, "--config", config, "--format", "table")
    assert code == 0
    steps = re.findall(r"(?m)^(\S+) +(ok|WRONG) ", table)
    assert steps == [(name, "ok") for name in ("url", "reachability", "key", "endpoint", "model", "request")]
    assert max(map(len, table.splitlines())) <= 120
    assert "canary" not in table


def test_on_a_terminal_it_is_a_table_unless_a_platform_asks(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, table = shown(capsys, "--config", config)
    assert (code, table.partition(" ")[0]) == (0, "url")


def test_json_holds_every_step(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys, "--config", config, "--format", "json")
    told: dict[str, Any] = json.loads(text)
    assert (code, told["ok"]) == (0, True)
    assert [step["name"] for step in told["steps"]][-1] == "request"


def test_capabilities_come_behind_the_steps(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = shown(capsys, "--config", config, "--capabilities")
    assert code == 0
    assert re.search(r"(?m)^json_schema +yes", table)
    assert "small requests" in table.splitlines()[-1]
    code, text = shown(capsys, "--config", config, "--capabilities", "--format", "json")
    told = json.loads(text)
    assert told["capabilities"][0]["name"] == "max_completion_tokens"
    assert told["paid"] == "nothing was paid for"


def test_what_is_wrong_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing_port() as url:
        code, table = shown(capsys, "--url", url, "--model", "m", "--format", "table", "--capabilities")
    assert code == 2
    assert re.search(r"reachability +WRONG +127.0.0.1:\d+ refuses", table)
    assert "json_schema" not in table


def test_a_config_that_cannot_be_read_is_reported_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, table = shown(capsys, "--config", "nowhere.json", "--format", "table")
    assert code == 2
    assert "nowhere.json cannot be read" in " ".join(table.split())


def test_a_model_that_the_config_s_request_does_not_name_is_refused_as_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"url": "http://localhost/v1", "request_format": {"model": "old", "messages": []}}))
    code, table = shown(capsys, "--config", str(path), "--model", "new", "--format", "table")
    assert code == 2
    assert "--model: has no effect beside this request_format" in " ".join(table.split())


def test_url_and_model_are_enough(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = shown(capsys, "--url", endpoint.base_url, "--model", "echo-1")
    assert (code, table.partition(" ")[0]) == (0, "url")
