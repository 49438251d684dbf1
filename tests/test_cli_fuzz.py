"""No command line and no environment is a fault of the program: exit code 70 cannot be reached by what people write."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import cli, commands
from tests.endpoint import Endpoint

LEFT_OUT: Final = ("sandbox", "serve", "studio", "config", "ledger")
COMMANDS: Final = [[name] for name in commands.COMMANDS if name not in LEFT_OUT] + [
    *(["ledger", action] for action in ("stats", "prune", "export")),
    ["config", "import"],
    *([verb] for verb in ("spec", "discover", "read", "write")),
    *(["--protocol", "multiwoven", verb] for verb in ("check", "discover")),
    [],
]
ODD: Final = (
    *("", " ", ".", "..", "/", "~", "~nobody/x", "-", "-1", "0", "1", "nan", "inf", "1e400", "9" * 30, "a\nb"),
    *("\udc80", "\0", "\x1b[2J", "x" * 300, "x" * 5000, "é", "none", "*", "[", "**/*", "a/", "in.csv/x", "in.csv"),
    *("{", "{{ text", "{{ text }}", "{% for %}", "${X}", "{{ text.upper() }}", "=", "=string", "a=", "a=b|c", "a=x"),
    *("http://", "http://[::1", "http://h:b", "http://h:99999", "https://user:pw@h", "http://h\\x", "nowhere.json"),
    *("config.json", "odd.json", "out.csv", "out.jsonl.gz", "out.parquet", "out.csv.ledger", "array[]=x", "a=array"),
)
ODD_OPTIONS: Final = (
    *("url", "model", "prompt", "request_format", "response_format", "output_schema", "headers", "query", "tools"),
    *("cache", "proxy", "ca_bundle", "client_certificate", "image_dir", "config", "prices", "models", "streams"),
    *("input", "output", "primary_key", "metadata", "auth", "api_key", "api_key_command", "endpoint", "max_cost_usd"),
)
ODD_VALUES: Final = st.one_of(
    st.sampled_from(ODD),
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.recursive(
        st.sampled_from(ODD), lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(ODD), each)
    ),
    st.sampled_from(['"\\ud800"', '{"a": "\\ud800"}', "[" * 5000, '{"type": "object", "properties": 1}']),
)
VARIABLES: Final = ("HOME", "XDG_CACHE_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "COLUMNS", "X")


def options(command: list[str], capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The options that a command's help tells."""
    with pytest.raises(SystemExit):
        cli.run([*command, "--help"])
    shown = capfd.readouterr().out
    return sorted({*re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown)} - {"-h", "--help"})


@pytest.fixture
def folder(tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a table, and an endpoint in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("OPENAI_MODEL", "m")
    (tmp_path / "in.csv").write_text("id,text\n1,a\n")
    (tmp_path / "config.json").write_text('{"prompt": "{{ text }}", "max_retries": 0}')
    return tmp_path


def code_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    try:
        return cli.run(words)
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_arguments_and_no_environment_are_a_fault_of_the_program(
    command: list[str],
    folder: Path,
    data: st.DataObject,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del folder
    given = data.draw(st.lists(st.tuples(st.sampled_from([*options(command, capfd), ""]), st.sampled_from(ODD))))
    words = [*command, *(word for name, value in given for word in ((name, value) if name else (value,)))]
    variables = data.draw(st.dictionaries(st.sampled_from(VARIABLES), st.sampled_from(ODD) | st.none(), max_size=2))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            if value is None:
                patch.delenv(name, raising=False)
            elif "\0" not in value:
                patch.setenv(name, value)
        assert code_of(words, patch) != commands.ExitCode.UNFORESEEN, (words, variables, capfd.readouterr().err)


@pytest.mark.parametrize("words", [["preview", "in.csv"], ["check"], ["discover"]], ids=" ".join)
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(config=st.dictionaries(st.sampled_from(ODD_OPTIONS), ODD_VALUES, max_size=3))
def test_no_config_file_is_a_fault_of_the_program(
    words: list[str], folder: Path, config: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "odd.json").write_text(json.dumps({"prompt": "{{ text }}", "max_retries": 0, **config}))
    with pytest.MonkeyPatch.context() as patch:
        code = code_of([*words, "--config", "odd.json"], patch)
    assert code != commands.ExitCode.UNFORESEEN, (config, capfd.readouterr().err)
