"""The executable: which verb it finds, what it says of itself, how it ends."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connector import __version__, cli, endpoints, protocols
from connector.commands import enrich
from tests.endpoint import Endpoint


@pytest.mark.parametrize(("word", "told"), [("spec", "type"), ("--about", "settings")])
def test_spec_needs_none_of_what_only_a_run_needs(word: str, told: str) -> None:
    script = (
        f"import sys; from connector import cli; cli.run([{word!r}]); "
        "heavy = {'requests', 'pydantic', 'jinja2', 'duckdb', 'sqlite3', 'jsonschema', 'ctypes', 'connector.engines'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told in json.loads(done.stdout)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("command", ["enrich", "preview", "check"])
def test_a_run_loads_nothing_that_only_some_runs_need(command: str) -> None:
    script = (
        f"import sys; from connector.commands import {command}; from connector import Config; "
        "Config(url='http://host/v1', model='m', prompt='{{ text }}', concurrency=8, prices={'input': 1}); "
        "some = {'jsonschema', 'jsonschema_rs', 'referencing', 'attr', 'duckdb', 'pyarrow', 'sqlalchemy', 'yaml', "
        "'jinja2', 'html', 'difflib', 'connector.calls.batch_api', 'connector.run.batches'}; "
        "print(sorted(some & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["enrich in.jsonl --output out.jsonl --quiet", "preview in.jsonl --call", "check"])
def test_a_row_through_the_default_kind_needs_no_other_kind_and_no_library_for_http(
    command: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n')
    config = {"url": endpoint.base_url, "model": "m", "prompt": "Is it good? {{ text }}"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = [*command.split(), "--config", "config.json"]
    script = (
        f"import sys; from connector import cli; assert cli.run({words!r}) == 0; "
        "some = {'requests', 'urllib3', 'certifi', 'http.client', 'asyncio', 'charset_normalizer', 'idna', 'duckdb', "
        "'jinja2', 'jsonschema', 'yaml', 'connector.endpoints.embeddings'}; "
        "print(sorted(some & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert endpoint.journal.calls
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_run_loads_no_dialect_and_no_diagnosis_before_it_needs_one(tmp_path: Path) -> None:
    script = (
        f"import sys; from connector import cli; cli.run(['enrich', {str(tmp_path / 'in.csv')!r}, '-o', "
        f"{str(tmp_path / 'out.csv')!r}, '--url', 'http://host/v1', '--model', 'm', '--prompt', '{{{{ text }}}}']); "
        "known = {'connector.run.runtime', 'connector.check', *('connector.protocols.' + name for name in "
        "('airbyte', 'multiwoven', 'singer'))}; print(sorted(known & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "there is no such file" in done.stderr
    assert done.stdout == "['connector.run.runtime']\n"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1beta/", "/v1/chat/completions"])
def test_a_run_of_the_default_kind_loads_no_other_kind(path: str) -> None:
    script = (
        f"import sys; from connector import Config, endpoints; kind = Config(url='http://host{path}', model='m', "
        "prompt='{{ text }}').kind; loaded = {kind for kind in endpoints.KINDS if f'connector.endpoints.{kind}' in "
        "sys.modules}; print(kind, sorted(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "chat ['chat']\n"


@pytest.mark.parametrize("kind", endpoints.KINDS)
def test_a_kind_that_is_recognized_without_loading_it_is_the_right_one(kind: str) -> None:
    """No kind's path ends with a version, as a base URL does, nor with the path of the default kind."""
    path = endpoints.load(kind).PATH
    assert (endpoints.kind_of(f"/v1{path}"), endpoints.kind_of(f"/any{path}/")) == (kind, kind)


def test_the_verbs_that_are_known_without_a_dialect_are_those_of_all() -> None:
    assert set(protocols.VERBS) == {verb for name in protocols.DIALECTS for verb in protocols.load(name).VERBS}


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(
        verb in shown for verb in ("spec", "check", "discover", "read", "enrich", "ledger", "preview", "sandbox")
    )


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(["--version"])
    assert capsys.readouterr().out == f"openai-compatible {__version__}\n"


@pytest.mark.parametrize("words", [[], ["explode"], ["enrich"]])
def test_a_wrong_command_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(words)
    assert ended.value.code == 2


def test_an_error_that_nobody_foresaw_shows_where_it_was_and_never_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        key = "canary-5f0c7d21e9"
        raise RuntimeError(f"a header holds {key}") from ValueError(key)

    monkeypatch.setattr(enrich, "config_from", fails)
    assert cli.run(["enrich", "in.csv", "-o", "out.csv"]) == 70
    told = capsys.readouterr().err
    assert "canary" not in told
    assert "RuntimeError" in told
    assert "ValueError" in told
    assert "in fails" in told


def test_a_key_on_the_command_line_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(["enrich", "in.csv", "-o", "out.csv", "--api-key", "sk-canary-5f0c7d21e9"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "--api-key" in told
    assert "canary" not in told


@pytest.mark.parametrize(
    "place",
    [
        "postgresql:/u:{}@127.0.0.1:1/db",
        "postgresql//u:{}@127.0.0.1:1/db",
        "postgresql:u:{}@127.0.0.1/db",
        "u:{}@127.0.0.1/db",
        " postgresql://u:{}@127.0.0.1:1/db",
        "'postgresql://u:{}@127.0.0.1:1/db'",
        "https://u:{}@127.0.0.1:1/x.csv",
        "s3://u:x@{}@b/x.csv",
        "file:u:a/{}@b/x.csv",
        "jdbc:postgresql://127.0.0.1:1/db?user=u&password={}",
        "https://127.0.0.1:1/x.csv?sig={}",
        "host=127.0.0.1 user=u password='{}' dbname=x",
        "host=127.0.0.1 user=u PGPASSWORD={}",
        "host=127.0.0.1 user=u password=a={}=b dbname=x",
        "mysql://u:{}/db",
        "mysql://u:a/{}/db",
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "{}",
        "preview {}",
        "enrich {} -o out.csv",
        "enrich {} --table t -o out.csv",
        "enrich in.csv -o {}",
        "enrich in.csv -o out.csv --ledger {} --explode",
    ],
)
def test_a_mistyped_url_on_the_command_line_is_shown_without_its_password(
    words: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("review\nGood\n")
    written = place.format("5f0c7d21e9")
    with contextlib.suppress(SystemExit):
        assert cli.run([word.format(written) for word in words.split()] + ["--prompt", "{{ review }}"]) != 70
    told = capsys.readouterr().err
    assert told
    assert "5f0c7d" not in told


def test_an_interrupt_before_anything_runs_ends_by_the_signal_and_quietly(tmp_path: Path) -> None:
    script = "import sys; from connector import cli, commands\n"
    script += "def load(name): raise KeyboardInterrupt\n"
    script += "commands.load = load; cli.main(['enrich', 'in.csv', '-o', 'out.csv'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_wrong_config_is_reported_on_stderr_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["enrich", "nowhere.csv", "-o", "out.csv", "--config", "nowhere.json"]) == 2
    assert "the config nowhere.json cannot be read" in capsys.readouterr().err
