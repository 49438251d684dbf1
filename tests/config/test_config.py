"""A config is checked whole, says everything that is wrong with it, and loads what other tools have saved."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector import Config, ConfigError, Connector
from connector.base.errors import Problem

SAVED_BY_AI_SQUARED: dict[str, Any] = {
    "url": "https://api.openai.com/v1/chat/completions",
    "api_key": "sk-test",
    "is_stream": False,
    "config": {"timeout": "30"},
    "request_format": (
        '{"model":"gpt-4o-mini", "messages":[{"role": "user", "content": "What do you know about APIs?"}], '
        '"stream": false}'
    ),
    "response_format": (
        '{"choices":[{"index": 0, "delta":{"role": "assistant", "content": "APIs, or …"}, "finish_reason": "stop"}]}'
    ),
}


def problems(data: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.load(data)
    return [str(problem) for problem in caught.value.problems]


def test_a_config_saved_by_ai_squared_loads_as_it_stands() -> None:
    config = Config.load(SAVED_BY_AI_SQUARED)
    assert (config.config.timeout, config.kind, config.is_stream) == (30.0, "chat", False)
    assert config.endpoint_url == SAVED_BY_AI_SQUARED["url"]


def test_every_problem_is_listed_at_once_with_its_path_what_was_found_and_what_is_expected() -> None:
    found = problems(
        {
            "url": "ftp://example.com",
            "config": {"timeout": "abc"},
            "concurrency": "many",
            "on_error": "explode",
            "prices": {"input": -1},
            "request_format": '{"a": "{{ x"}',
            "output_schema": '{"type": "array"}',
        }
    )
    assert found == [
        'concurrency: "many" is not a whole number',
        'config.timeout: "abc" is not a number of seconds',
        'on_error: "explode" is not one of record, skip, fail',
        "prices.input: -1 is not at least 0",
        "url: 'ftp://example.com' is not an http:// or https:// URL, nor a ws:// or wss:// one",
        (
            "request_format.a: '{{ x' is not a valid template: unexpected end of template, "
            "expected 'end of print statement'"
        ),
        'output_schema: is not the schema of an object: it needs "type": "object"',
    ]


@pytest.mark.parametrize("timeout", [30, 30.0, "30", " 30 ", "30.0", "0.5", ".5"])
def test_a_timeout_is_seconds_as_a_number_or_as_text(timeout: Any) -> None:
    assert Config.load({"config": {"timeout": timeout}}).config.timeout == float(timeout)


@pytest.mark.parametrize("timeout", ["", "abc", "0", "-1", "1e3", "nan", "inf", True, [], {}])
def test_what_is_not_a_number_of_seconds_is_refused(timeout: Any) -> None:
    assert all(problem.startswith("config.timeout: ") for problem in problems({"config": {"timeout": timeout}}))


def test_json_options_are_taken_as_text_or_as_objects(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "{{ a }}"}]}
    path = tmp_path / "config.yaml"
    path.write_text(f"request_format: {json.dumps(body)}\n")
    assert Config.load(path).request_format == body
    assert Config(request_format=json.dumps(body)).request_format == json.dumps(body)


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Config().url = "http://elsewhere"


def test_a_config_of_any_depth_is_refused_and_ends_nothing() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    for name in ("output_schema", "request_format", "prices", "unheard_of", "input"):
        with pytest.raises(ConfigError):
            Config.load({"url": "http://localhost/v1", "prompt": 3, name: deep})


def test_the_key_never_shows() -> None:
    config = Config.load(api_key="sk-canary", headers={"x-key": "canary-header"})
    assert "canary" not in repr(config) + str(config) + config.model_dump_json()


def test_a_wrong_secret_is_not_quoted_in_the_problem() -> None:
    assert "canary" not in "".join(problems({"api_key": ["sk-canary"], "headers": "canary"}))


def test_the_environment_serves_where_the_config_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("OPENAI_MODEL", "m1")
    config = Config()
    assert (config.key, config.url, config.model) == (
        "sk-from-environment",
        "http://localhost:1/v1",
        "m1",
    )
    assert Config(url="http://localhost:2/v1").url == "http://localhost:2/v1"


def test_a_key_may_refer_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-team")
    config = Config.load(api_key="${TEAM_KEY}", headers={"x-team": "${TEAM_KEY}"})
    assert config.secrets == ["sk-team", "sk-team"]
    assert problems({"api_key": "${NO_SUCH_KEY}"}) == [
        "the environment variable NO_SUCH_KEY, which the config refers to, is not set"
    ]


@pytest.mark.parametrize(
    ("url", "endpoint", "base"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions", "http://h:1/v1"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions", "http://h/v1"),
        ("http://h/v1/chat/completions?x=1", "http://h/v1/chat/completions?x=1", "http://h/v1"),
        ("http://h", "http://h/chat/completions", "http://h"),
    ],
)
def test_a_url_is_the_endpoint_or_its_base(url: str, endpoint: str, base: str) -> None:
    config = Config(url=url)
    assert (config.endpoint_url, config.base_url) == (endpoint, base)


@pytest.mark.parametrize(
    ("options", "path", "meant"),
    [
        ({"max_cost_usdd": 1}, "max_cost_usdd", "max_cost_usd"),
        ({"concurency": 3}, "concurency", "concurrency"),
        ({"config": {"timeot": "5"}}, "config.timeot", "timeout"),
        ({"prices": {"inptu": 1}}, "prices.inptu", "input"),
        (
            {"models": [{"name": "a", "id": "b"}, {"name": "c", "id": "d", "inputprice": 1}]},
            "models[1].inputprice",
            "input_price",
        ),
        ({"input": {"type": "files", "path": "x.csv", "frmat": "csv"}}, "input.frmat", "format"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(options: dict[str, Any], path: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(options)
    assert caught.value.problems == [Problem(path, f'there is no such option: did you mean "{meant}"?')]


def test_fields_of_a_platform_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    given = {"concurrency": 3, "__injected": {"a": 1}, "config": {"timeout": "5", "retries": 2}}
    config = Config.from_platform(given)
    assert (config.concurrency, config.config.timeout) == (3, 5)
    assert [message.partition(":")[0] for message in caplog.messages] == ["__injected", "config.retries"]
    assert Connector(is_shared=True).check({"concurency": 3, "url": "x"}).message.startswith("url: ")


@pytest.mark.parametrize(
    "url",
    [
        "htps://host.example/v1?key=canary",
        "https//user:canary@host.example/v1",
        "htps://user:ca@n@ary@host.example/v1#canary",
        "user:canary@host.example/v1",
        "host.example/v1?x=1&sig=canary",
    ],
)
def test_a_mistyped_url_is_shown_without_what_may_be_a_key(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(url=url)
    diagnosis = Connector().check({"url": url, "prompt": "x", "model": "m"})
    for told in (caught.value.message, diagnosis.message):
        assert "canary" not in told
        assert "ary@" not in told
        assert "host.example/v1" in told or "must not hold a user name" in told


@pytest.mark.parametrize(
    "url", ["mysql://root:{}/db", "postgres//root:{}@h/db", "host=h password='{}'", "user:{}@h/x.csv"]
)
@pytest.mark.parametrize("password", ["1234567890123", "a=ca/nary", "ca;nary", "c" * 90 + "a nary"])
def test_a_mistyped_url_anywhere_in_an_input_is_shown_without_its_password(url: str, password: str) -> None:
    given = url.format(password)
    inputs = [{"path": given}, {"path": [given]}, {"format": given, "path": "x"}, {"type": given}, given]
    inputs += [{"type": "sql", "url": given, "table": "t"}, {"type": "sql", "table": given}, {given: "x", "path": "x"}]
    for each in inputs:
        options = {"type": "files", **each} if isinstance(each, dict) else each
        with pytest.raises(ConfigError) as caught:
            Connector().discover({"url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "x", "input": options})
        shown = "".join([caught.value.message, caught.value.detail, *map(str, caught.value.problems)])
        assert "nary" not in shown, each
        assert password[:20] not in shown


@pytest.mark.parametrize(
    "proxy", ["htp://me:canary@proxy:1", "http://me:canary/x@proxy:1", "http://[canary", "proxy:canary"]
)
def test_a_mistyped_proxy_is_not_shown(proxy: str) -> None:
    with pytest.raises(ConfigError, match="must look like http://host:port") as caught:
        Config(proxy=proxy)
    assert "canary" not in caught.value.message


def test_the_password_of_a_proxy_is_a_secret() -> None:
    assert "ca/nary" in Config(proxy="http://me:ca%2Fnary@proxy:3128").secrets


def test_a_home_is_expanded_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = ("cache", "ca_bundle", "client_certificate", "image_dir")
    config = Config.load(dict.fromkeys(names, "~/x"))
    assert {getattr(config, name) for name in names} == {"/home/me/x"}


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "a\ud800"},
        {"url": "http://\udc80/v1"},
        {"models": '[{"name": "\\ud800", "id": "x"}]'},
        {"request_format": '{"a": "\\udc80{{ t }}"}'},
        {"headers": {"\ud800": "x"}},
    ],
)
def test_half_of_a_surrogate_pair_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="half of a surrogate pair"):
        Config(**options)


def test_a_variable_that_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary\udc80")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not text in UTF-8") as caught:
        Config()
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("url: [", "line 1 is neither JSON nor YAML"),
        ("~: 1", "None is not the name of an option"),
        ("- 1", "is not an object of options"),
        ("[" * 100_000, "is nested too deeply"),
        *(
            (f"prompt: x\nmodel: {value}", "line 2 is neither JSON nor YAML: a value is not what it looks like")
            for value in ("2024-13-01", "!!float x", "!!int ''", "!!int 1:x", "!!bool maybe", "!!timestamp soon")
        ),
        ("model: !!binary x", "line 1 is neither JSON nor YAML: an invalid tag or alias"),
        ("a: &a [*a]", "aliases stand for more than 100,000 values"),
        ("a: &a {b: 1, <<: *a}", "aliases stand for more than 100,000 values"),
        ("\n".join(f"a{n}: &a{n} [{f'*a{n - 1}, *a{n - 1}' * (n > 0)}]" for n in range(60)), "write them out"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    (problem,) = problems(path)
    assert str(path) in problem
    assert told in problem


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_a_config_is_read_as_any_writer_of_json_writes_it(tmp_path: Path, indent: int | str | None) -> None:
    path = tmp_path / "config.json"
    options = {"prompt": "😀\x7f{{ text }}", "max_cost_usd": 1e-05}
    path.write_text("\ufeff" + json.dumps(options, indent=indent), encoding="utf-8")
    config = Config.load(path)
    assert (config.prompt, config.max_cost_usd) == (options["prompt"], options["max_cost_usd"])


def test_a_missing_file_is_named() -> None:
    assert problems("nowhere.json") == ["the config nowhere.json cannot be read: No such file or directory"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), json_values, max_size=5))
def test_any_config_is_taken_or_refused_with_a_config_error(data: dict[str, Any]) -> None:
    with suppress(ConfigError):
        Config.load(data)
