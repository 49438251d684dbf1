"""Broken configurations: for each of them `check` names the cause and the change to make."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import pytest

from connector.check import _reach
from tests.check.helpers import answer, check, offering, posted, refusing, served, tls_server
from tests.endpoint import Call, Endpoint, act, swallowing
from tests.endpoint import refusing as refusing_port

GROUP: Final = "LiteLLM: model group 'gpt-4o-mini' failed with the error above. No fallback was attempted."


def fails(diagnosis: Any, step: str, *told: str) -> None:
    assert not diagnosis.ok
    assert diagnosis.steps[-1].name == step, diagnosis
    for words in told:
        assert words in diagnosis.message, diagnosis.message


# The config alone


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "htps://api.openai.com/v1"}, ["htps://", "did you mean https://api.openai.com/v1?"]),
        ({"url": "api.openai.com/v1"}, ["did you mean https://api.openai.com/v1?"]),
        ({"url": "[[api.openai.com/v1"}, ["[[api.openai.com/v1"]),
        ({"url": "localhost:8000/v1"}, ["did you mean http://localhost:8000/v1?"]),
        ({"url": "http:/localhost:8000/v1"}, ["did you mean http://localhost:8000/v1?"]),
        ({"api_key": "${NO_SUCH_NAME}"}, ["NO_SUCH_NAME", "is not set", "export NO_SUCH_NAME="]),
        ({"config": {"timeout": "abc"}}, ["config.timeout", '"abc" is not a number of seconds', 'such as "30"']),
        ({"config": {"timeout": 0}}, ["config.timeout", "more than 0", 'such as "30"']),
        ({"request_format": '{"model": "m", "messages": ['}, ["request_format", "is not JSON", "write JSON such as"]),
        ({"request_format": '{"a": "{{ b"}'}, ["request_format.a", "is not a valid template", "write JSON such as"]),
        ({"request_format": '{"a": "{{ b | shout }}"}'}, ["request_format.a", "shout", "there are: abs"]),
        ({"prompt": None}, ["request_format", "is missing", "give a prompt"]),
        ({"response_format": '{"a": '}, ["response_format", "is not JSON", "write JSON such as"]),
        ({"output_schema": '{"type": "array"}'}, ["output_schema", '"type": "object"']),
        ({"proxy": "proxy:3128"}, ["proxy", "http://host:port"]),
        ({"ca_bundle": "nowhere.pem"}, ["ca_bundle", "PEM"]),
        ({"client_certificate": "nowhere.pem"}, ["client_certificate", "PEM"]),
        ({"models": [{"name": "a", "id": "b"}], "model": "c"}, ["model", "there are: a"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_be_seen_without_a_call(options: dict[str, Any], told: list[str]) -> None:
    with Endpoint() as endpoint:
        fails(check(endpoint, **options), "config", *told)


def test_a_column_that_the_input_lacks_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,body\n1,a\n")
    diagnosis = check(endpoint, input={"type": "files", "path": str(tmp_path / "t.csv")})
    fails(diagnosis, "config", 'there is no column "text"', "there are: id, body")


# The URL


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/chat/completions",
        "/v1/v1",
        "/v1/v1/chat/completions",
        "/v1/chat",
        "/v1/chat/completions/extra",
        "/v1/chat/completion",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/v2",
        "/api/chat/completions",
        "/v1/models",
    ],
)
def test_a_path_that_nothing_answers_at_is_reported_with_the_one_that_does(path: str) -> None:
    with Endpoint(offering()) as endpoint:
        diagnosis = check(endpoint, url=endpoint.origin + path)
        fails(diagnosis, "url", "nothing answers", f"{endpoint.url} answers: set url to that")
        assert not [call for call in endpoint.journal.calls if call.action == "answer"]


def test_a_website_is_distinguished_from_an_api() -> None:
    with Endpoint(lambda _: answer(200, "<!doctype html><title>Hi</title>", "text/html")) as endpoint:
        fails(check(endpoint), "url", "a web page", "set url to the base URL of an API")


def test_a_redirect_to_another_origin_is_named_and_not_followed(endpoint: Endpoint) -> None:
    def script(call: Call) -> Any:
        return answer(301, "", "text/plain", f"location: {endpoint.origin}{call.path}")

    with Endpoint(script) as moved:
        fails(check(moved), "url", f"redirects to {endpoint.url}", "set url to that")
    assert not endpoint.journal.calls


@pytest.mark.parametrize("location", ["http://[::1", "http://h:99999999/", "//h:x/"])
def test_a_redirect_to_what_is_not_a_url_is_reported_as_it_is(location: str) -> None:
    with Endpoint(lambda _: answer(301, "", "text/plain", f"location: {location}")) as moved:
        fails(check(moved), "url", f"redirects to {location}")


def test_a_host_that_drops_all_packets_is_reported_within_the_timeout() -> None:
    with swallowing() as port:
        diagnosis = check(url=f"http://127.0.0.1:{port}/v1", config={"timeout": 0.6})
    fails(diagnosis, "reachability", f"127.0.0.1:{port} does not answer", "check host and port")


def test_a_port_that_refuses_is_reported(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    monkeypatch.setattr(_reach, "_LOCAL_PORTS", (int(endpoint.origin.rpartition(":")[2]),))
    with refusing_port() as url:
        fails(check(url=url), "url", "refuses connections", f"{endpoint.base_url}/chat/completions answers")
        assert not [call for call in endpoint.journal.calls if "authorization" in call.headers]
        monkeypatch.setattr(_reach, "_LOCAL_PORTS", ())
        fails(check(url=url), "reachability", "refuses connections", "check host and port")


def test_https_to_a_plain_port_is_reported_with_the_url_that_answers(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint, url=endpoint.base_url.replace("http:", "https:"), config={"timeout": 2})
    fails(diagnosis, "url", f"{endpoint.base_url} answers: set url to that", "unencrypted")
    assert not [call for call in endpoint.journal.calls if "authorization" in call.headers]


def test_http_to_a_tls_port_is_reported_with_the_url_that_answers(tmp_path: Path) -> None:
    with tls_server(tmp_path, "IP:127.0.0.1") as port:
        diagnosis = check(url=f"http://127.0.0.1:{port}/v1")
        fails(diagnosis, "url", f"https://127.0.0.1:{port}/v1 answers: set url to that")


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("no-such-host.invalid", "no-such-host.invalid is not known"),
        ("api.opnai.invalid", "check its spelling in url"),
    ],
)
def test_a_name_that_dns_does_not_know_is_reported(host: str, told: str) -> None:
    fails(check(url=f"https://{host}/v1"), "reachability", told)


def test_a_typo_in_a_known_host_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fails(check(url="https://api.opnai.com/v1"), "reachability", "did you mean api.openai.com?")


def test_a_server_that_never_answers_is_reported_within_the_timeout() -> None:
    def listen(peer: socket.socket) -> None:
        while peer.recv(1 << 16):
            pass

    with served(listen) as port:
        diagnosis = check(url=f"http://127.0.0.1:{port}/v1", config={"timeout": 0.6})
    fails(diagnosis, "request", "raise config.timeout")


# TLS and proxy


@pytest.mark.parametrize(
    ("name", "expired", "told"),
    [
        ("IP:127.0.0.1", False, "is self-signed: set ca_bundle to the PEM file of that certificate"),
        ("DNS:api.example", False, "issued for"),
        ("IP:127.0.0.1", True, "has expired: renew it on the server"),
    ],
)
def test_a_certificate_that_cannot_be_trusted_is_reported_with_the_reason(
    tmp_path: Path, name: str, expired: bool, told: str
) -> None:
    with tls_server(tmp_path, name, expired=expired) as port:
        trusts = None if "self-signed" in told else str(tmp_path / "cert.pem")
        fails(check(url=f"https://127.0.0.1:{port}/v1", ca_bundle=trusts), "reachability", told)


def test_a_proxy_that_is_not_there_is_reported() -> None:
    with refusing_port() as url, Endpoint() as endpoint:
        proxy = url.partition("/v1")[0]
        fails(check(endpoint, proxy=proxy), "reachability", "the proxy", "refuses connections", "remove proxy")


# The key


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("sk-test\n", "has a line break"),
        (" sk-test", "has white space"),
        ('"sk-test"', "quotation marks"),
        ("Bearer sk-test", "give the key alone"),
        ("$OPENAI_API_KEY", "write ${NAME}, with the braces"),
        ("{{ OPENAI_API_KEY }}", "write ${NAME}"),
        ("sk-...", "is a placeholder"),
        ("your-api-key", "is a placeholder"),
        ("<your key>", "write ${NAME}"),
        ("sk-tést", "characters that no key has"),
    ],
)
def test_a_text_that_is_not_a_key_is_reported_and_never_sent(endpoint: Endpoint, key: str, told: str) -> None:
    fails(check(endpoint, api_key=key), "key", told)
    assert not [call for call in endpoint.journal.calls if "authorization" in call.headers]


def unauthorized(call: Call) -> Any:
    return refusing(401, f"Incorrect API key: {call.headers.get('authorization', '')}") if call.body else None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"api_key": None}, ["needs a key, and none was sent", "set api_key"]),
        ({"auth": "none"}, ['because auth is "none"', 'set auth to "bearer"']),
        ({"api_key": "sk-wrong-one-1234"}, ["refuses the key", "wrong, expired or of another account"]),
        ({"api_key": "sk-ant-REDACTED"}, ["looks like one of Anthropic's (sk-ant)", "https://api.anthropic.com/v1"]),
        ({"api_key": "gsk_abcdefgh12345678"}, ["looks like one of Groq's"]),
        ({"api_key": "hf_abcdefgh12345678"}, ["looks like one of Hugging Face's"]),
    ],
)
def test_a_key_that_is_refused_is_reported_with_what_may_be_wrong(options: dict[str, Any], told: list[str]) -> None:
    with Endpoint(offering(lambda call: unauthorized(call) if call.method == "POST" else None)) as endpoint:
        diagnosis = check(endpoint, **options)
    fails(diagnosis, "key", *told)
    assert str(options.get("api_key") or "sk-test") not in diagnosis.message


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_that_is_refused_with_another_status_is_reported_all_the_same(status: int) -> None:
    with Endpoint(posted(lambda _: refusing(status, "Invalid API key given"))) as endpoint:
        fails(check(endpoint), "key", "refuses the key")


@pytest.mark.parametrize(
    ("options", "told"),
    [({"api_key": "sk-wrong-one-1234"}, "it is wrong, expired"), ({"api_key": None}, "none was sent")],
)
def test_a_server_that_refuses_every_call_alike_most_likely_refuses_the_key(options: Any, told: str) -> None:
    with Endpoint(lambda _: refusing(400, "No connected db.")) as endpoint:
        fails(check(endpoint, **options), "key", "every call is refused in the same way", "No connected db.", told)


def test_a_gateway_that_does_not_know_its_provider_is_not_taken_for_a_wrong_key() -> None:
    body = {"status": "failure", "message": "Either x-portkey-config or x-portkey-provider header is required"}
    with Endpoint(lambda _: answer(400, body)) as endpoint:
        fails(check(endpoint), "request", "header is required", 'set headers, as {"x-portkey-provider"')


def test_a_gateway_that_reaches_nobody_is_not_taken_for_a_wrong_key() -> None:
    with Endpoint(lambda _: answer(500, "Message: fetch failed Cause: Error: bad port", "text/plain")) as endpoint:
        fails(check(endpoint), "request", "fetch failed", "ask whoever runs the server")


def test_the_gateways_own_key_is_distinguished_from_ours() -> None:
    words = f"litellm.AuthenticationError: OpenAIException - Incorrect API key. {GROUP}"
    with Endpoint(posted(lambda _: refusing(401, words))) as endpoint:
        fails(check(endpoint), "key", "the gateway's own key for this model is refused", "change model")


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (
            500,
            f"litellm.InternalServerError: OpenAIException - Connection error. {GROUP}",
            "ask whoever runs the server",
        ),
        (400, f"litellm.ContextWindowExceededError: too many. {GROUP}", "shorten what the row puts into the prompt"),
        (400, "This model's maximum context length is 8 tokens, you asked for 9.", "shorten what the row puts into"),
    ],
)
def test_a_failure_that_only_mentions_the_model_is_not_blamed_on_it(status: int, message: str, told: str) -> None:
    with Endpoint(posted(lambda _: refusing(status, message))) as endpoint:
        fails(check(endpoint), "request", message, told)


def test_azure_wants_its_key_in_another_header() -> None:
    def script(call: Call) -> Any:
        return (
            None if "api-key" in call.headers else answer(401, {"error": {"code": "401", "message": "Access denied"}})
        )

    with Endpoint(script) as endpoint:
        url = f"{endpoint.origin}/openai/deployments/d/chat/completions?api-version=2024-10-21"
        fails(check(endpoint, url=url), "key", 'set auth to "api-key"')


def test_a_region_that_is_not_served_is_reported() -> None:
    words = "Country, region, or territory not supported"
    with Endpoint(posted(lambda _: refusing(403, words))) as endpoint:
        fails(check(endpoint), "key", words, "not served where you are")


def test_a_key_that_may_not_use_the_model_is_reported() -> None:
    with Endpoint(posted(lambda _: refusing(403, "Project has no access"))) as endpoint:
        fails(check(endpoint), "key", 'another model than "gpt-4o-mini"')


# The account


def test_an_empty_account_is_reported() -> None:
    quota = refusing(429, "You exceeded your current quota", code="insufficient_quota")
    with Endpoint(posted(lambda _: quota)) as endpoint:
        fails(check(endpoint), "quota", "no credit left", "add credit")


def test_a_rate_limit_is_reported_with_how_long_to_wait() -> None:
    limited = answer(429, {"error": "slow down"}, "application/json", "retry-after: 17")
    with Endpoint(posted(lambda _: limited)) as endpoint:
        fails(check(endpoint), "rate limit", "wait 17 s", "max_requests_per_minute")


# The model


def no_model(body: dict[str, Any]) -> Any:
    name = body.get("model")
    if name is None:
        return refusing(400, "you must provide a model parameter")
    if name == "text-embedding-3-small":
        return refusing(404, "This is not a chat model and thus not supported in the v1/chat/completions endpoint.")
    return (
        None if name == "gpt-4o-mini" else refusing(404, f"The model `{name}` does not exist", code="model_not_found")
    )


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-4o-mni", ['there is no model "gpt-4o-mni"', "did you mean gpt-4o-mini"]),
        ("openai/gpt-4o", ["did you mean gpt-4o"]),
        ("GPT-4O-MINI", ["did you mean gpt-4o-mini"]),
        (" gpt-4o-mini", ["did you mean gpt-4o-mini"]),
        ("zephyr", ["there are: gpt-4o-mini, gpt-4o)"]),
        (None, ["the request names no model", "the server has gpt-4o-mini"]),
        ("text-embedding-3-small", ["by its name, a model for embeddings, not for chat", "gpt-4o-mini"]),
    ],
)
def test_a_model_that_cannot_answer_is_reported_with_those_that_can(model: str | None, told: list[str]) -> None:
    with Endpoint(posted(no_model)) as endpoint:
        fails(check(endpoint, model=model), "model", *told)


@pytest.mark.parametrize("status", [400, 500])
def test_a_model_that_is_refused_with_another_status_is_reported_all_the_same(status: int) -> None:
    with Endpoint(posted(lambda _: refusing(status, "invalid model name"))) as endpoint:
        fails(check(endpoint, model="gpt-4o-mimi"), "model", "did you mean gpt-4o-mini")


@pytest.mark.parametrize("named", ["{{ tier }}", "{{ record.tier }}", "openai/{{ tier }}", "{{ model }}"])
def test_a_model_that_each_row_names_is_not_looked_for_by_a_made_up_name(named: str) -> None:
    request = {"model": named, "messages": [{"role": "user", "content": "{{ text }}"}]}
    with Endpoint(posted(no_model)) as endpoint:
        diagnosis = check(endpoint, prompt=None, model=None, request_format=request)
        assert diagnosis.ok, diagnosis.message
        assert "not tried, since each row names its own model; nothing was paid for" in diagnosis.message


# The endpoint's kind


def test_messages_to_a_server_that_has_completions_alone() -> None:
    def script(call: Call) -> Any:
        if call.method == "POST" and call.kind != "completions":
            return answer(404, {"detail": "Not Found"})
        return answer(422, {"detail": "prompt is missing"}) if call.method == "POST" else None

    with Endpoint(offering(script)) as endpoint:
        fails(check(endpoint), "endpoint", "has no chat endpoint", f"completions at {endpoint.base_url}/completions")


def test_images_are_looked_for_but_not_made() -> None:
    def script(call: Call) -> Any:
        if call.method == "POST":
            return answer(404 if call.path.startswith("/v2") else 400, {"error": {"message": "prompt is missing"}})
        return None

    with Endpoint(offering(script)) as endpoint:
        good = check(endpoint, url=f"{endpoint.base_url}/images/generations")
        assert good.ok
        assert "not tried" in good.message
        assert "nothing was paid for" in good.message
        diagnosis = check(endpoint, url=f"{endpoint.origin}/v2/images/generations")
        fails(diagnosis, "url", f"{endpoint.base_url}/images/generations answers: set url to that")
        assert not [call for call in endpoint.journal.calls if call.method == "POST" and "prompt" in call.body]


def test_messages_to_the_url_of_embeddings(endpoint: Endpoint) -> None:
    body = '{"model": "m", "messages": [{"role": "user", "content": "a"}]}'
    diagnosis = check(endpoint, url=f"{endpoint.base_url}/embeddings", request_format=body)
    fails(diagnosis, "endpoint", 'request_format has "messages"', "url is for embeddings", "needs", '"input"')


def test_a_request_of_the_responses_api_to_the_url_of_chat(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint, request_format='{"model": "m", "input": "{{ text }}"}', prompt=None)
    fails(diagnosis, "endpoint", 'request_format has "input"', "set url to the responses endpoint")


def test_a_request_without_messages(endpoint: Endpoint) -> None:
    diagnosis = check(endpoint, request_format='{"model": "m", "temperature": 0}')
    fails(diagnosis, "endpoint", 'request_format has no "messages", which chat needs: add it')


# The request


def unsupported(name: str) -> Any:
    return lambda body: refusing(400, f"Unsupported parameter: '{name}'", param=name) if name in body else None


def silently(name: str) -> Any:
    return lambda body: answer(422, {"detail": "unprocessable"}) if name in body else None


REQUEST = '{"model": "gpt-4o-mini", "temperature": 0, "top_k": 1, "messages": [{"role": "user", "content": "{{ t }}"}]}'


@pytest.mark.parametrize(
    ("script", "options", "told"),
    [
        (unsupported("top_k"), {"request_format": REQUEST}, ['"top_k"', "remove top_k from request_format"]),
        (silently("top_k"), {"request_format": REQUEST}, ['"top_k"', "remove top_k from request_format"]),
        (unsupported("stream"), {"is_stream": True}, ['"stream"', "set is_stream to false"]),
        (silently("stream"), {"is_stream": True}, ['"stream"', "set is_stream to false"]),
        (unsupported("tools"), {"tools": [{"type": "function", "function": {"name": "f"}}]}, ["remove tools"]),
    ],
)
def test_a_parameter_that_is_refused_is_named(script: Any, options: dict[str, Any], told: list[str]) -> None:
    with Endpoint(posted(script)) as endpoint:
        fails(check(endpoint, **options), "parameters", "the endpoint works, but refuses", *told)


def test_a_parameter_that_is_refused_for_a_model_is_not_called_a_wrong_model() -> None:
    words = "Unsupported value: 'temperature' does not support 0 with this model."
    with Endpoint(posted(lambda body: refusing(400, words) if "temperature" in body else None)) as endpoint:
        diagnosis = check(endpoint, request_format=REQUEST)
    fails(diagnosis, "parameters", '"temperature"', "remove temperature from request_format")


def greedy(body: dict[str, Any]) -> Any:
    cap = body.get("max_tokens", body.get("max_completion_tokens", 1))
    if type(cap) is not int or cap < 1:
        return refusing(400, "Invalid value for 'max_tokens'", param="max_tokens")
    return refusing(400, f"max_tokens is too large: {cap}.", param="max_tokens") if cap > 16_384 else None


@pytest.mark.parametrize("cap", ["100000", "0", '"256"'])
def test_a_token_limit_that_no_call_of_a_run_would_get_through_with_is_reported(cap: str) -> None:
    with Endpoint(posted(greedy)) as endpoint:
        diagnosis = check(endpoint, request_format=REQUEST.replace('"top_k": 1', f'"max_tokens": {cap}'))
    fails(diagnosis, "parameters", 'refuses "max_tokens"', "set it to a number that the model accepts")


@pytest.mark.parametrize(("cap", "paid"), [(4096, 1), (16_000, 2)])
def test_a_usual_token_limit_costs_no_further_request(cap: int, paid: int) -> None:
    with Endpoint(posted(greedy)) as endpoint:
        diagnosis = check(endpoint, request_format=REQUEST.replace('"top_k": 1', f'"max_tokens": {cap}'))
        assert diagnosis.ok
        assert len([call for call in endpoint.journal.calls if call.method == "POST"]) == paid


def test_a_model_that_is_for_another_endpoint_is_reported() -> None:
    words = refusing(400, "The model does not support Chat Completions API")
    with Endpoint(posted(lambda _: words)) as endpoint:
        fails(check(endpoint), "model", "set model to one for chat, or url to the endpoint that this one is for")


@pytest.mark.parametrize("port", ["abc", "99999"])
def test_an_invalid_port_is_reported(port: str) -> None:
    fails(check(url=f"http://127.0.0.1:{port}/v1"), "reachability", "the port in url is not a number from 1 to 65535")


def test_a_known_host_that_dns_does_not_know_is_not_called_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    diagnosis = check(url="https://api.openai.com/v1", api_key="sk-test-12345678")
    fails(diagnosis, "reachability", "api.openai.com is spelled correctly", "check the network and DNS")


def test_a_prompt_with_a_brace_too_few_is_reported(endpoint: Endpoint) -> None:
    fails(check(endpoint, prompt="Classify: {{ text }"), "config", "prompt", "two braces on both sides")


def test_a_request_that_is_a_list_is_reported(endpoint: Endpoint) -> None:
    fails(check(endpoint, prompt=None, request_format='[{"role": "user"}]'), "endpoint", "request_format is a list")


def test_a_reply_of_another_api_is_reported() -> None:
    with Endpoint(posted(lambda _: answer(200, {"generated_text": "Hi"}))) as endpoint:
        fails(check(endpoint), "endpoint", '"generated_text"', 'no "choices"', "set url to the endpoint of")


def test_an_empty_reply_is_reported_with_the_change() -> None:
    with Endpoint(posted(lambda _: answer(200, ""))) as endpoint:
        fails(check(endpoint), "request", "the reply is empty", "set url to the endpoint of an OpenAI-compatible API")


@pytest.mark.parametrize("words", ["Loading model", "That model is currently overloaded with other requests."])
def test_a_server_without_room_is_not_called_one_without_the_model(words: str) -> None:
    with Endpoint(posted(lambda _: refusing(503, words))) as endpoint:
        fails(check(endpoint), "request", words, "check again in a minute")


def test_a_firewall_is_not_called_a_key_without_rights() -> None:
    page = "<html><title>Attention Required! | Cloudflare</title>Sorry, you have been blocked</html>"
    with Endpoint(posted(lambda _: answer(403, page, "text/html"))) as endpoint:
        fails(check(endpoint), "key", "a firewall before the endpoint, and not the key", "ask whoever runs it")


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("No such organization: acme.", "set OPENAI_ORG_ID"),
        ("OpenAI-Project header should match project for API key", "set OPENAI_PROJECT"),
        ("Your IP address is not authorized.", "add this machine's address"),
    ],
)
def test_a_refused_caller_is_distinguished_from_a_wrong_key(words: str, change: str) -> None:
    with Endpoint(posted(lambda _: refusing(401, words))) as endpoint:
        fails(check(endpoint), "key", words, change)


def test_a_key_in_a_header_that_nobody_reads_is_reported() -> None:
    with Endpoint(posted(lambda _: answer(401, {"error": "Missing Authorization header"}))) as endpoint:
        fails(check(endpoint, auth="x-api-key"), "key", "the header x-api-key", 'set auth to "bearer"')


def test_a_schema_that_is_refused_in_every_form_is_asked_for_in_words() -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    refused = unsupported("response_format")
    fitting = {"object": "x", "choices": [{"message": {"content": '{"label": "a"}'}, "finish_reason": "stop"}]}
    with Endpoint(posted(lambda body: refused(body) or answer(200, fitting))) as endpoint:
        diagnosis = check(endpoint, output_schema=schema)
        assert diagnosis.ok
        assert "with another form of request, as later runs will use it: json_object, prompt" in diagnosis.message
        before = len(endpoint.journal.calls)
        assert check(endpoint, output_schema=schema).ok
        assert len(endpoint.journal.calls) - before == 2


@pytest.mark.parametrize(
    ("expression", "step", "told"),
    [
        ("{{ contnet }}", "config", 'change it to "content"'),
        ("{{ choices[0].message.contnet }}", "config", 'change it to "choices[0].message.content"'),
        ("{{ nothing_like_it }}", "response_format", "change it to one of "),
        ("{{ usage.nothing_like_it }}", "response_format", "total_tokens"),
        ("{{ label }}", "config", 'change it to "parsed.label"'),
    ],
)
def test_a_name_that_a_reply_does_not_have_is_reported(expression: str, step: str, told: str) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    with Endpoint(offering()) as endpoint:
        diagnosis = check(endpoint, output_schema=schema, response_format={"a": expression})
    fails(diagnosis, step, "response_format.a: ", told)


def test_a_first_row_that_cannot_be_sent_is_reported(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": null, "id": 1}\n')
    diagnosis = check(endpoint, input={"type": "files", "path": str(tmp_path / "t.jsonl")})
    fails(diagnosis, "config", "the first row cannot be sent", "default")


@pytest.mark.parametrize(("fault", "told"), [("503", "the endpoint failed"), ("200-html", "does url point to an API?")])
def test_an_endpoint_that_fails_is_reported(fault: str, told: str) -> None:
    with Endpoint(
        offering(lambda call: act(call, fault) if call.method == "POST" and call.prompt else None)
    ) as endpoint:
        fails(check(endpoint), "request", told)


# Causes that a status hides

PHOTO: Final = {"image_columns": "photo", "prompt": "What is in it?"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "No endpoints found that support image input"),
        (404, "Unknown content type: image_url"),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (422, "messages[0].content: multimodal content is not supported"),
    ],
)
def test_a_model_without_images_is_not_called_a_wrong_model(status: int, words: str) -> None:
    def script(body: dict[str, Any]) -> Any:
        return refusing(status, words) if "image_url" in str(body) else None

    with Endpoint(posted(script)) as endpoint:
        fails(check(endpoint, **PHOTO), "model", "accepts no images", words[:20], "set model to one that does")


def test_a_picture_is_sent_where_images_are_configured() -> None:
    with Endpoint(offering()) as endpoint:
        assert check(endpoint, **PHOTO).ok
        part = {"type": "image_url", "image_url": {"url": "{{ p | image }}"}}
        filtered = {"model": "m", "messages": [{"role": "user", "content": [part]}]}
        assert check(endpoint, prompt=None, request_format=filtered).ok
        asked = [str(call.body) for call in endpoint.journal.calls if call.method == "POST"]
        assert sum("data:image/png;base64," in body for body in asked) == 2


@pytest.mark.parametrize(
    ("status", "words"), [(500, "Invalid API key"), (500, "boom"), (502, "unauthorized"), (400, "bad")]
)
def test_a_server_that_fails_on_streams_is_not_called_a_wrong_key(status: int, words: str) -> None:
    def script(call: Call) -> Any:
        if call.method == "GET":
            return refusing(status, words)
        return refusing(status, words) if call.body.get("stream") else None

    with Endpoint(script) as endpoint:
        fails(check(endpoint, is_stream=True), "parameters", 'works, but refuses "stream"', "set is_stream to false")


@pytest.mark.parametrize("words", ["fetch failed", "connect ECONNREFUSED 127.0.0.1:1", "upstream connect error"])
def test_a_dead_server_behind_a_gateway_is_found_in_the_header_that_names_it(words: str) -> None:
    headers = {"x-title": "a", "x-portkey-custom-host": "http://127.0.0.1:1/v1"}
    with Endpoint(posted(lambda _: refusing(500, words))) as endpoint:
        fails(check(endpoint, headers=headers), "request", "headers.x-portkey-custom-host", "cannot reach")


def test_another_program_at_another_port_is_described_before_it_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(offering(models=["llama", "b", "c", "d"])) as other, refusing_port() as url:
        monkeypatch.setattr(_reach, "_LOCAL_PORTS", (int(other.origin.rpartition(":")[2]),))
        fails(check(url=url), "url", "may be another program (it lists llama, b, c, …)", "if you mean it")


def test_a_plain_server_that_waits_for_more_of_the_handshake_is_soon_asked_in_plain() -> None:
    heard: list[bytes] = []

    def serve(peer: socket.socket) -> None:
        heard.append(peer.recv(4))
        if heard[-1] == b"GET ":
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            return
        while peer.recv(4096):  # takes the handshake for the beginning of a long request
            pass

    with served(serve) as port:
        diagnosis = check(url=f"https://127.0.0.1:{port}/v1", config={"timeout": 300})
        fails(diagnosis, "url", f"http://127.0.0.1:{port}/v1 answers: set url to that")
    assert [each[:1] for each in heard[:2]] == [b"\x16", b"G"]
    assert sum(each[:1] == b"\x16" for each in heard) == 1


def test_a_budget_without_prices_is_reported(endpoint: Endpoint) -> None:
    fails(check(endpoint, max_cost_usd=1), "budget", "max_cost_usd", "reports no cost", "set prices")
    assert check(endpoint, max_cost_usd=1, prices={"input": 1, "output": 1}).ok
    assert check(endpoint, max_total_tokens=100).ok


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no JSON", "is not JSON"),
        ('{"label": 1}', "at $.label, 1 is not of type"),
        ("[]", "is not of type"),
        ("{}", "required"),
    ],
)
def test_a_reply_that_does_not_fit_the_schema_is_reported(content: str, told: str) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}

    def script(reason: str, text: str) -> Any:
        body = {"object": "x", "choices": [{"message": {"content": text}, "finish_reason": reason}]}
        return posted(lambda _: answer(200, body))

    with Endpoint(script("stop", content)) as endpoint:
        fails(check(endpoint, output_schema=schema), "output_schema", told, "set model to one")
    for reason, text in (("length", content), ("stop", '{"label": "a"}')):
        with Endpoint(script(reason, text)) as endpoint:
            assert check(endpoint, output_schema=schema).ok
