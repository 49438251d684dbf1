"""Who calls and where to: key, headers, parameters and client certificate go where they are configured to go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector import Config, Connector
from connector.base.masking import Masker
from tests.check.helpers import answer, check, tls_server
from tests.endpoint import Call, Endpoint

KEY = "sk-canary-1234"
AZURE = "/openai/deployments/d/chat/completions"
REPLY = {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


def enriched(endpoint: Endpoint, **options: Any) -> list[Call]:
    """The calls that a row makes."""
    config = {"url": endpoint.base_url, "api_key": KEY, "model": "m", "prompt": "{{ t }}", "max_retries": 0, **options}
    list(Connector(config).enrich([{"t": "a"}]))
    return endpoint.journal.calls


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ("bearer", "authorization", f"Bearer {KEY}"),
        ("Bearer", "authorization", f"Bearer {KEY}"),
        ("api-key", "api-key", KEY),
        ("Authorization", "authorization", KEY),
        ("none", None, None),
    ],
)
def test_the_key_is_sent_as_auth_says(endpoint: Endpoint, auth: str, name: str | None, value: str | None) -> None:
    (call,) = enriched(endpoint, auth=auth)
    assert {key: each for key, each in call.headers.items() if KEY in each} == ({name: value} if name else {})


def test_organization_and_project_go_along(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    (call,) = enriched(endpoint, organization="org-1", project="proj-1")
    assert (call.headers["openai-organization"], call.headers["openai-project"]) == ("org-1", "proj-1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-2")
    monkeypatch.setenv("OPENAI_PROJECT", "proj-2")
    *_, call = enriched(endpoint, cache=None)
    assert (call.headers["openai-organization"], call.headers["openai-project"]) == ("org-2", "proj-2")


def test_a_header_of_the_user_s_wins(endpoint: Endpoint) -> None:
    (call,) = enriched(endpoint, headers={"authorization": "mine"})
    assert call.headers["authorization"] == "mine"


def azure(call: Call) -> Any:
    path, _, query = call.path.partition("?")
    known = call.headers.get("api-key") == KEY and query == "api-version=2024-10-21"
    if not known:
        return answer(401, {"error": {"code": "401", "message": "Access denied"}})
    if path == "/openai/models":
        return answer(200, {"data": [{"id": "gpt-4o-mini"}]})
    return (
        answer(200, REPLY)
        if path == AZURE
        else answer(404, {"error": {"code": "404", "message": "Resource not found"}})
    )


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{AZURE}?api-version=2024-10-21", {}),
        (AZURE, {"api-version": "2024-10-21"}),
        (f"{AZURE}?api-version=2024-10-21", {"api-version": "2024-10-21"}),
        ("/openai/deployments/d", {"api-version": "2024-10-21"}),
        ("/openai/deployments/d/?api-version=2024-10-21", {}),
    ],
)
def test_azure_s_deployments_work_with_their_version_and_header(path: str, query: dict[str, str]) -> None:
    with Endpoint(azure) as endpoint:
        config = {"url": endpoint.origin + path, "api_key": KEY, "auth": "api-key", "query": query, "prompt": "{{ t }}"}
        (row,) = Connector(config).enrich([{"t": "a"}])
        assert row["content"] == "ok"
        assert Connector(config).check().ok
        payload = {"messages": [{"role": "user", "content": "a"}]}
        if "completions" in path:
            assert Connector().call(config, payload) == REPLY
        assert {call.path.partition("?")[2] for call in endpoint.journal.calls} == {"api-version=2024-10-21"}


@pytest.mark.parametrize(
    ("url", "full", "models"),
    [
        (f"https://r.openai.azure.com{AZURE}?api-version=v", f"{AZURE}?api-version=v", "/openai/models?api-version=v"),
        ("https://r.openai.azure.com/openai/v1/", "/openai/v1/chat/completions", "/openai/v1/models"),
        ("https://r.openai.azure.com/openai/v1/chat/completions", "/openai/v1/chat/completions", "/openai/v1/models"),
    ],
)
def test_an_azure_url_keeps_its_path(url: str, full: str, models: str) -> None:
    config, host = Config(url=url), "https://r.openai.azure.com"
    assert (config.endpoint_url, config.models_url) == (host + full, host + models)


def test_parameters_are_encoded_and_do_not_replace_those_of_the_url() -> None:
    with Endpoint(lambda _: answer(200, REPLY)) as endpoint:
        (call,) = enriched(endpoint, url=f"{endpoint.url}?a=1", query={"a": "2", "b": "x y&z", "c": 3})
    assert call.path == "/v1/chat/completions?a=1&b=x+y%26z&c=3"


def test_a_secret_parameter_is_sent_but_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_NAME", "canary team")
    query = {"code": "canary-code", "team": "${TEAM_NAME}", "api-version": "v"}
    with Endpoint(lambda call: answer(400, {"error": {"message": f"bad: {call.path}"}})) as endpoint:
        config = Config(url=endpoint.base_url, query=query, model="m", prompt="{{ t }}")
        (row,) = Connector(config).enrich([{"t": "a"}])
        told = Connector(config).check()
        assert "code=canary-code&team=canary+team" in endpoint.journal.calls[0].path
    assert "canary" not in repr(config) + config.endpoint_url + config.model_dump_json() + repr(row) + repr(told)
    assert "api-version=v" in config.endpoint_url
    assert config.secrets[:2] == ["canary-code", "canary team"]


def test_a_key_in_the_url_is_a_secret() -> None:
    secrets = Config(url="https://h/v1/chat/completions?key=abc%2Fdefg&alt=x").secrets
    assert secrets == ["abc/defg"]
    assert Masker(secrets)("abc/defg, abc%2Fdefg and x") == "***, *** and x"


def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(tmp_path: Path) -> None:
    with tls_server(tmp_path, "IP:127.0.0.1", asks=True) as port:
        both = tmp_path / "both.pem"
        both.write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
        url, trusts = f"https://127.0.0.1:{port}/v1", str(tmp_path / "cert.pem")
        assert check(url=url, ca_bundle=trusts, client_certificate=str(both)).ok
        diagnosis = check(url=url, ca_bundle=trusts)
    assert not diagnosis.ok
    assert "client_certificate" in diagnosis.message
