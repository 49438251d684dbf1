"""Configs of other tools become ours, and their keys stay where they are."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import Config, ConfigError, cli
from connector.config.importing import imported

KEY = "sk-canary-1234567890"
OURS = {"url": "https://gateway.example/v1", "api_key": "${TEAM_KEY}", "model": "m1"}


def read(folder: Path, name: str, text: Any, provider: str | None = None, *, literal: bool = False) -> dict[str, Any]:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return imported(path, provider, literal=literal).config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flat.json", {"apiKey": "$TEAM_KEY", "baseURL": OURS["url"], "model": "m1"}),
        ("snake.json", {"api_key": "${TEAM_KEY}", "base_url": OURS["url"], "model": "m1"}),
        ("provider.json", {"provider": {"apiKey": "{env:TEAM_KEY}", "baseURL": OURS["url"]}, "model": "m1"}),
        (
            "named.json",
            {
                "provider": {"team": {"options": {"apiKey": "{env:TEAM_KEY}", "baseURL": OURS["url"]}}},
                "model": "team/m1",
            },
        ),
        (
            "providers.json",
            {"providers": {"a": {"baseURL": "https://a/v1"}, "b": {"api_key_env": "TEAM_KEY", "baseURL": OURS["url"]}}}
            | {"provider": "b", "model": "m1"},
        ),
        ("models.json", {"models": [{"model": "m1", "apiBase": OURS["url"], "apiKey": "${{ secrets.TEAM_KEY }}"[1:]}]}),
        (
            "comments.json",
            '{\n  // ours\n  "apiKey": "$TEAM_KEY", "baseURL": "https://gateway.example/v1", "model": "m1"\n}',
        ),
        ("p.toml", 'model = "m1"\n[provider]\nbase_url = "https://gateway.example/v1"\napi_key_env = "TEAM_KEY"\n'),
        (
            "m.toml",
            (
                'model = "m1"\nmodel_provider = "x"\n[model_providers.x]\nbase_url = "https://gateway.example/v1"\n'
                'env_key = "TEAM_KEY"\n[model_providers.y]\nbase_url = "https://y/v1"\n'
            ),
        ),
    ],
)
def test_the_forms_of_coding_tools_are_understood(tmp_path: Path, name: str, text: Any) -> None:
    assert read(tmp_path, name, text) == OURS


def test_a_dot_env_file_is_understood(tmp_path: Path) -> None:
    text = (
        f"# ours\nexport OPENAI_API_KEY='{KEY}'\nOPENAI_BASE_URL=https://g/v1 # gateway\nOPENAI_MODEL=\"m1\"\nOTHER=1\n"
    )
    found = {"url": "https://g/v1", "api_key": "${OPENAI_API_KEY}", "model": "m1"}
    assert read(tmp_path, ".env", text) == found
    assert read(tmp_path, "settings", text) == found
    assert read(tmp_path, ".env.local", text, literal=True)["api_key"] == KEY


def test_a_responses_endpoint_headers_and_parameters_come_along(tmp_path: Path) -> None:
    text = (
        'model_provider = "azure"\n[model_providers.azure]\nbase_url = "https://r/openai"\nenv_key = "K"\n'
        'wire_api = "responses"\nquery_params = { api-version = "v", sig = "canary" }\n'
        'http_headers = { X-Title = "a", Authorization = "canary" }\nenv_http_headers = { X-Id = "TEAM_ID" }\n'
    )
    path = tmp_path / "c.toml"
    path.write_text(text)
    config, notes = imported(path)
    assert config == {
        "url": "https://r/openai",
        "api_key": "${K}",
        "endpoint": "responses",
        "headers": {"X-Title": "a", "X-Id": "${TEAM_ID}"},
        "query": {"api-version": "v"},
    }
    assert [note.partition(" ")[0] for note in notes] == ["headers.Authorization", "query.sig"]


def test_a_key_in_the_file_is_printed_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"apiKey": KEY, "baseURL": "https://g/v1"}))
    assert cli.run(["config", "import", str(path)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"url": "https://g/v1", "api_key": "${OPENAI_API_KEY}"}
    assert "set that variable to the key" in err
    assert KEY not in out + err
    assert cli.run(["config", "import", str(path), "--literal-key"]) == 0
    assert json.loads(capsys.readouterr().out)["api_key"] == KEY


@pytest.mark.parametrize(
    "text",
    [
        {"baseURL": "https://g:canary/v1"},
        {"baseURL": "https://me:canary@g/v1"},
        {"baseURL": "https://me:ca@nary/canary@g/v1"},
        {"baseURL": "https://g/v1?api-version=1&sig=canary&x=canary#canary"},
        {"baseURL": "https://g/sk-canary-1234567890/v1"},
        {"baseURL": "https://g/v1", "headers": {"Cookie": "session=canary"}},
        {"baseURL": "https://g/v1", "headers": {"X-Whatever": "canary"}},
        {"baseURL": "https://g/v1", "headers": {"X-Mixed": "${A}canary"}},
        {"baseURL": "https://g/v1", "headers": {"User-Agent": "sk-canary-1234567890"}},
        {"baseURL": "https://g/v1", "query_params": {"anything": "canary"}},
        {"baseURL": "https://g/v1", "query_params": {"canary1234567890abcd": "1"}},
        {"baseURL": "https://g/v1", "headers": {"sk-canary-1234567890": "x"}},
        {"baseURL": "https://g/v1", "headers": {"sk-canary-1234567890": "${KEY}"}},
        {"baseURL": "https://g/v1?sk-canary-1234567890=1"},
        {"baseURL": "https://g/v1", "model": "sk-canary-1234567890"},
        {"baseURL": "https://g/v1", "api_key": "canary"},
        {"baseURL": "https://g/v1", "env_key": "sk-canary-1234567890"},
        {"baseURL": "https://g/v1", "env_key": "canary1234567890abcd"},
        {"baseURL": "https://g/v1", "env_key": "canary/=+"},
        {"baseURL": "https://g/v1", "api_key": "$canary1234567890abcd"},
        {"baseURL": "https://g/v1", "env_http_headers": {"X-Key": "canary1234567890abcd"}},
        {"baseURL": "https://g/v1", "headers": {"HTTP-Referer": "https://me:canary@h/"}},
        {"baseURL": "https://g/v1", "headers": {"HTTP-Referer": "https://h/?x=canary"}},
        {"baseURL": "https://g/v1;sig=canary"},
        {"baseURL": "https://g/v1&key=canary"},
        {"provider": {"sk-canary-1234567890": {"baseURL": "https://g"}, "b": {"baseURL": "https://h"}}},
    ],
    ids=str,
)
def test_no_secret_is_printed_wherever_it_stands(tmp_path: Path, text: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(text))
    code = cli.run(["config", "import", str(path)])
    out, err = capsys.readouterr()
    assert "canary" not in out + err
    assert "nary" not in out + err
    if code == 0:
        assert "left out" in err
        assert cli.run(["config", "import", str(path), "--literal-key"]) == 0
        assert "canary" in capsys.readouterr().out


def test_references_in_headers_and_urls_stay(tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer ${KEY}", "Accept-Language": "de", "X-Team-2026-Key": "${TEAM_KEY_2026_PROD}"}
    text = {"baseURL": "https://g/v1?key=${KEY}&api-version=1", "headers": headers}
    assert read(tmp_path, "c.json", text) == {"url": "https://g/v1?key=${KEY}&api-version=1", "headers": headers}


def test_what_comes_out_is_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", KEY)
    config = Config.load(read(tmp_path, "c.json", {"apiKey": "$TEAM_KEY", "baseURL": "https://g/v1", "model": "m1"}))
    assert (config.endpoint_url, config.secrets) == ("https://g/v1/chat/completions", [KEY])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{", "line 1 is not JSON"),
        ("a.toml", f'key = "{KEY}', "is not TOML"),
        ("a.json", "1", "is not an object"),
        ("a.json", f'{{"key": "{KEY}", "n": {"9" * 5_000}}}', "has an integer that is too long"),
        ("a.toml", f'key = "{KEY}"\nn = {"9" * 5_000}', "has an integer that is too long"),
        ("a.json", '{"theme": "dark"}', "does not describe an endpoint"),
        (".env", "A=1", "does not describe an endpoint"),
        (
            "a.json",
            '{"providers": {"a": {"baseURL": "http://a"}, "b": {"baseURL": "http://b"}}}',
            "choose one with --provider: a, b",
        ),
    ],
)
def test_what_cannot_be_understood_is_reported(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read(tmp_path, name, text)
    assert KEY not in caught.value.message


def test_a_provider_is_taken_by_its_name(tmp_path: Path) -> None:
    text = {"providers": {"a": {"baseURL": "http://a"}, "b": {"baseURL": "http://b"}}}
    assert read(tmp_path, "a.json", text, "b") == {"url": "http://b"}
    with pytest.raises(ConfigError, match="has no provider 'c'; there are: a, b"):
        read(tmp_path, "a.json", text, "c")


def test_a_missing_file_is_reported_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "import", "nowhere.json"]) == 2
    assert "nowhere.json cannot be read" in capsys.readouterr().err


names = st.sampled_from(["provider", "providers", "models", "options", "apiKey", "baseURL", "model", "x", "headers"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("http://h") | st.just(KEY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(trees)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_understood_or_refused_and_no_key_comes_out(tmp_path: Path, tree: Any) -> None:
    with suppress(ConfigError):
        assert KEY not in str(read(tmp_path, "any.json", tree).get("api_key"))
