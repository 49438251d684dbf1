"""Realtime sessions over real WebSockets: rows never see each other, and what goes wrong is what it is over HTTP."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from connector import Config, Connector
from connector.base.clock import Clock
from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigError,
    ConnectorError,
    CutError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ReplyError,
    ServerError,
    TemplateError,
)
from connector.base.masking import Masker
from connector.base.records import Answer, Reply, Status
from connector.base.values import dumps
from connector.endpoints import Sender, address_of, load
from connector.endpoints._realtime_errors import refusal_of
from connector.endpoints.realtime import open_sender
from connector.http.preparing import Settings
from tests.endpoint import answer_to, tokens_in
from tests.endpoints.realtime_server import Realtime
from tests.endpoints.streams import assembled
from tests.http.test_transport import Authority, Peer, Serve, authority, serve, shovel
from tests.patience import PATIENCE

__all__ = ["authority", "serve"]  # fixtures

KEY = "sk-canary-0123456789"
NAMES = "status status_details reason error type code message output content text transcript id item usage".split()
Dial = Callable[..., Sender]


@pytest.fixture
def server() -> Iterator[Realtime]:
    with Realtime() as server:
        yield server


@pytest.fixture
def dialed() -> Iterator[Dial]:
    senders: list[Sender] = []

    def start(url: str, **settings: Any) -> Sender:
        given: dict[str, Any] = {"timeout": 5.0, "headers": {"Authorization": f"Bearer {KEY}"}} | settings
        senders.append(open_sender(Settings(**given), address_of(url).url, Masker([KEY]), Clock(), None))
        return senders[-1]

    yield start
    for sender in senders:
        sender.close()


def body(text: Any, **settings: Any) -> bytes:
    return dumps({"model": "gpt-realtime", "input": text, **settings})


def content(reply: Reply) -> str | None:
    return load("realtime").answer(reply.body).content


# What is asked and what comes back


def test_a_row_gets_the_text_that_answers_it(server: Realtime, dialed: Dial) -> None:
    reply = dialed(server.url)(body("Hello", instructions="Be brief.", max_output_tokens=9, temperature=0.7))
    answer = load("realtime").answer(reply.body)
    assert (answer.content, answer.status, answer.model) == (answer_to("Hello"), Status.SUCCESS, "gpt-realtime-2")
    assert answer.usage == (tokens_in("Hello"), tokens_in(answer_to("Hello")), 1, None, None)
    (update,) = server.of("session.update")
    assert update["session"] == {
        "type": "realtime",
        "output_modalities": ["text"],
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.7,
    }
    (created,) = server.of("conversation.item.create")
    assert created["item"]["content"] == [{"type": "input_text", "text": "Hello"}]


def test_the_handshake_names_model_and_key_and_nothing_of_the_beta(server: Realtime, dialed: Dial) -> None:
    dialed(f"{server.url}?intent=chat", query={"api-version": "1"})(body("Hello"))
    (request,) = server.handshakes
    assert request.path == "/v1/realtime?intent=chat&model=gpt-realtime&api-version=1"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"].startswith("openai-compatible-connector/")
    assert request.headers.get_all("Host") == [server.host]
    assert not {"openai-beta", "accept", "sec-websocket-protocol"} & {name.lower() for name in request.headers}


def test_the_key_can_go_into_the_subprotocol(server: Realtime, dialed: Dial) -> None:
    dialed(server.url, headers={"openai-insecure-api-key": KEY})(body("Hello"))
    (request,) = server.handshakes
    assert request.headers["Sec-WebSocket-Protocol"] == f"realtime, openai-insecure-api-key.{KEY}"
    assert not {"authorization", "openai-insecure-api-key"} & {name.lower() for name in request.headers}


def test_a_key_that_is_not_a_subprotocol_is_refused_at_once_and_not_shown(dialed: Dial) -> None:
    with pytest.raises(ConfigError, match="auth: openai-insecure-api-key needs a key that") as caught:
        dialed("ws://127.0.0.1:1/v1", headers={"openai-insecure-api-key": "se cret"})
    assert "cret" not in str(caught.value) + caught.value.detail


def test_a_conversation_goes_in_as_its_items(server: Realtime, dialed: Dial) -> None:
    said = {"a": "user", "b": "assistant", "c": "user"}
    history = [{"role": role, "content": text} for text, role in said.items()]
    assert content(dialed(server.url)(body(history))) == answer_to("a|b|c")
    parts = [event["item"]["content"][0]["type"] for event in server.of("conversation.item.create")]
    assert parts == ["input_text", "output_text", "input_text"]


@pytest.mark.parametrize("given", [None, 7, [], ["a"], {}])
def test_a_request_without_input_is_the_row_s_own_error(dialed: Dial, given: Any) -> None:
    with pytest.raises(TemplateError, match="`input` is neither a text nor a list of items"):
        dialed("ws://127.0.0.1:1/v1")(body(given))


def test_a_schema_is_put_into_the_instructions_since_a_session_takes_none(server: Realtime, dialed: Dial) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    request = load("realtime").structured({"model": "m", "input": "Hello"}, schema)
    assert content(dialed(server.url)(dumps(request))) == '{"label": "a"}'
    assert "text" not in server.of("session.update")[0]["session"]
    assert json.dumps(schema, separators=(",", ":")) in str(server.of("conversation.item.create")[0]["item"]["content"])


@pytest.mark.parametrize("fault", ["fragments", "bare"])
def test_a_reply_in_pieces_is_put_together(server: Realtime, dialed: Dial, fault: str) -> None:
    """In fragments of messages, and in deltas whose last event leaves the output out."""
    assert content(dialed(server.url)(body(f"[[{fault}]]"))) == answer_to(f"[[{fault}]]")


def test_a_ping_is_answered_while_a_reply_is_waited_for(server: Realtime, dialed: Dial) -> None:
    assert content(dialed(server.url)(body("[[ping]]"))) == answer_to("[[ping]]")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)
responses = st.dictionaries(st.sampled_from(NAMES), junk, max_size=6)


@given(response=responses | junk)
def test_no_shape_of_a_response_raises(response: Any) -> None:
    read, complete = assembled(load("realtime"), [{"type": "response.done", "response": response}])
    assert isinstance(load("realtime").answer(read), Answer)
    assert complete


@given(told=junk)
def test_no_shape_of_an_error_raises(told: Any) -> None:
    try:
        reply = refusal_of(told, {}, 0, now=0.0, mask=Masker())
    except ConnectorError:
        return
    assert reply.body["error"]["message"]


def test_a_cut_reply_is_not_a_success(server: Realtime, dialed: Dial) -> None:
    answer = load("realtime").answer(dialed(server.url)(body("[[cut]]")).body)
    assert (answer.status, answer.problem) == (
        Status.TRUNCATED,
        "the reply was cut (max_output_tokens): raise max_output_tokens",
    )


def test_rate_limits_are_kept_as_the_headers_that_the_limiter_knows(server: Realtime, dialed: Dial) -> None:
    headers = dialed(server.url)(body("[[limits]]")).headers
    assert headers == {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0.01s"}


# Sessions


def test_rows_share_a_session_and_never_see_each_other(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    for number in range(5):
        assert content(send(body(f"row {number}"))) == answer_to(f"row {number}")
    assert len(server.handshakes) == 1
    assert len(server.of("conversation.item.delete")) == 8


def test_a_server_that_keeps_its_memory_gets_a_session_per_row(dialed: Dial) -> None:
    with Realtime(deletes=False) as server:
        send = dialed(server.url)
        for number in range(3):
            assert content(send(body(f"row {number}"))) == answer_to(f"row {number}")
        assert len(server.handshakes) == 3


def test_settings_of_one_row_do_not_stay_for_the_next(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    send(body("a", instructions="Be brief.", temperature=1))
    send(body("b", instructions="Be long.", temperature=1))
    assert len(server.handshakes) == 1
    send(body("c", instructions="Be brief."))
    assert len(server.handshakes) == 2
    assert [event["session"].get("temperature") for event in server.of("session.update")] == [1, 1, None]


def test_another_model_is_another_session(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    send(body("a"))
    send(dumps({"model": "other", "input": "b"}))
    send(dumps({"input": "c"}))
    paths = [request.path for request in server.handshakes]
    assert paths == ["/v1/realtime?model=gpt-realtime", "/v1/realtime?model=other", "/v1/realtime"]


def test_threads_have_a_session_each_at_the_most(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(send, [body(f"row {number}") for number in range(40)]))
    assert [content(reply) for reply in replies] == [answer_to(f"row {number}") for number in range(40)]
    assert len(server.handshakes) <= 4


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_a_session_that_was_closed_while_idle_is_replaced_unnoticed(server: Realtime, dialed: Dial, code: int) -> None:
    send = dialed(server.url)
    send(body("a"))
    server.sessions[0].close(code)
    assert content(send(body("b"))) == answer_to("b")
    assert len(server.handshakes) == 2


def test_a_session_whose_connection_was_lost_is_replaced_unnoticed(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    send(body("a"))
    server.sessions[0].socket.shutdown(socket.SHUT_RDWR)
    assert content(send(body("b"))) == answer_to("b")


def test_closing_ends_every_session(server: Realtime, dialed: Dial) -> None:
    send = dialed(server.url)
    send(body("a"))
    send.close()
    assert server.ended.acquire(timeout=PATIENCE)
    assert server.sessions[0].close_code == 1000


# Errors


@pytest.mark.parametrize(
    ("fault", "expected", "told"),
    [
        ("key", AuthenticationError, r"refuses the key \(HTTP 401: Wrong key: Bearer \*\*\*\)|refuses the key"),
        ("model", NotFoundError, "does not have this model"),
        ("quota", QuotaError, "no credit left"),
        ("limit", RateLimitError, "rate limit is reached"),
        ("server", ServerError, "It broke"),
        ("expired", ServerError, "60 minutes are over"),
        ("drop", CutError, "the connection was lost before the reply was complete"),
        ("away", ServerError, "it broke"),
        ("policy", BadRequestError, "beta_api_shape_disabled"),
        ("cancelled", CutError, "the reply was cancelled"),
        ("deep", ReplyError, "the reply is nested too deeply to be kept"),
        ("large", ReplyError, "larger than max_response_bytes = 50000"),
        ("costly", ReplyError, "the reply has too many values"),
        ("empty", ReplyError, "hardly a byte"),
    ],
)
def test_errors_are_those_of_http_calls(
    server: Realtime, dialed: Dial, fault: str, expected: type[ConnectorError], told: str
) -> None:
    send = dialed(server.url, max_response_bytes=200_000 if fault == "costly" else 50_000)
    with pytest.raises(expected, match=told) as caught:
        send(body(f"[[{fault}]]"))
    assert KEY not in caught.value.message + caught.value.detail
    assert content(send(body("after it"))) == answer_to("after it")


def test_a_refusal_of_one_row_is_a_final_reply(server: Realtime, dialed: Dial) -> None:
    reply = dialed(server.url)(body("[[invalid]]"))
    assert (reply.status, reply.body) == (
        400,
        {"error": {"message": "No such value", "type": "invalid_request_error", "code": "invalid_value"}},
    )


def test_a_stored_refusal_is_masked() -> None:
    """It goes into the ledger, and from there into exports."""
    told = {"message": f"not with {KEY}", "type": "invalid_request_error", "code": f"c-{KEY}"}
    assert KEY not in str(refusal_of(told, {}, 0, now=0.0, mask=Masker([KEY])).body)


def test_the_deadline_bounds_the_row_however_its_reply_trickles(server: Realtime, dialed: Dial) -> None:
    with pytest.raises(APITimeoutError, match=r"no complete reply within 0\.3 s"):
        dialed(server.url, timeout=0.3)(body("[[trickle]]"))


def test_all_events_of_a_reply_together_are_bounded(server: Realtime, dialed: Dial) -> None:
    sender = dialed(server.url, max_response_bytes=20_000)
    with pytest.raises(ReplyError, match="the reply is larger than max_response_bytes = 20000"):
        sender(body("[[flood]]"))
    assert all(sender(body(f"row {number}")).status == 200 for number in range(20))  # each has the whole size


def test_a_reply_of_many_events_with_a_letter_each_is_like_any_other(server: Realtime, dialed: Dial) -> None:
    assert content(dialed(server.url)(body("[[short]]"))) == answer_to("[[short]]")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 101 Switching Protocols\r\nX: "])
def test_the_deadline_bounds_the_handshake(serve: Serve, dialed: Dial, head: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        peer.trickle(b"x" if head else b"")

    with pytest.raises(APITimeoutError):
        dialed(f"ws://{serve(script).host}/v1", timeout=0.3)(body("a"))


def refusing(status: int, text: str, **headers: str) -> Callable[[ServerConnection, Request], Response]:
    def refusal(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(status, text)
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return refusal


@pytest.mark.parametrize(
    ("status", "expected", "wait"),
    [
        (401, AuthenticationError, None),
        (403, AuthenticationError, None),
        (404, NotFoundError, None),
        (429, RateLimitError, 7.0),
        (503, ServerError, 7.0),
        (400, BadRequestError, None),
        (200, NotFoundError, None),
    ],
)
def test_a_refused_handshake_is_what_its_status_says(
    dialed: Dial, status: int, expected: type[ConnectorError], wait: float | None
) -> None:
    text = json.dumps({"error": {"message": f"not with {KEY}"}})
    with Realtime(refusal=refusing(status, text, Retry_After="7")) as server, pytest.raises(expected) as caught:
        dialed(server.url)(body("a"))
    assert getattr(caught.value, "wait", None) == wait
    assert f"HTTP {status}" in caught.value.message
    assert KEY not in caught.value.message + caught.value.detail


@pytest.mark.parametrize(
    ("answer", "expected", "told"),
    [
        (b"", APIConnectionError, "closed the connection without an answer"),
        (b"\x15\x03\x03\x00\x02\x02\x46", ReplyError, "not valid HTTP"),
        (b"HTTP/1.0 404 File not found\r\nContent-Length: 4\r\n\r\nnone", NotFoundError, "HTTP 404: none"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", ReplyError, "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n", CutError, "lost before the reply was complete"),
    ],
)
def test_an_answer_that_is_not_a_websocket_is_reported(
    serve: Serve, dialed: Dial, answer: bytes, expected: type[ConnectorError], told: str
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    with pytest.raises(expected, match=told):
        dialed(f"ws://{serve(script).host}/v1")(body("a"))


def test_a_server_that_is_not_there_is_named(dialed: Dial) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(APIConnectionError, match=f"127.0.0.1:{port} refuses connections"):
        dialed(f"ws://127.0.0.1:{port}/v1")(body("a"))


def test_the_key_is_in_no_log_either(server: Realtime, dialed: Dial, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        dialed(server.url)(body("a"))
    of_the_server = "websockets.server"
    assert of_the_server in {record.name for record in caplog.records}
    assert KEY not in str([record.getMessage() for record in caplog.records if record.name != of_the_server])


# The way there


def test_tls_with_a_private_authority_works(dialed: Dial, authority: Authority) -> None:
    with Realtime(context=authority.context) as server:
        send = dialed(server.url, ca_bundle=authority.path)
        for text in ("a", "b"):
            assert content(send(body(text))) == answer_to(text)
        with pytest.raises(APIConnectionError, match=r"certificate of .* cannot be verified: .*ca_bundle"):
            dialed(server.url)(body("a"))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_is_asked_for_a_tunnel_and_shown_no_key(
    serve: Serve, dialed: Dial, authority: Authority, scheme: str, secure: bool
) -> None:
    with Realtime(context=authority.context if secure else None) as server:
        proxy = serve(tunnel(server), authority.context if scheme == "https" else None)
        send = dialed(server.url, proxy=f"{scheme}://me:pw@{proxy.host}", ca_bundle=authority.path)
        assert content(send(body("a"))) == answer_to("a")
        (connecting,) = proxy.requests
        assert connecting.line == f"CONNECT {server.host} HTTP/1.1"
        assert KEY not in str(connecting)
        assert "Proxy-Authorization" not in server.handshakes[0].headers
        send.close()


def tunnel(server: Realtime) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.request()
        host, _, port = server.host.partition(":")
        with socket.create_connection((host, int(port))) as there:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            shovel(peer.sock, there)

    return script


def test_a_proxy_that_refuses_is_named(serve: Serve, dialed: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")

    proxy = serve(script)
    with pytest.raises(APIConnectionError, match=f"the proxy {proxy.host} "):
        dialed("ws://api.example/v1", proxy=f"http://{proxy.host}")(body("a"))


# The whole path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://host/v1", "http://host/v1/realtime"),
        ("wss://host/v1/realtime?x=1", "https://host/v1/realtime?x=1"),
        ("wss://host:8443/openai/v1/", "https://host:8443/openai/v1/realtime"),
    ],
)
def test_a_websocket_url_is_a_realtime_endpoint(url: str, expected: str) -> None:
    address = address_of(url)
    assert (address.kind, address.url) == ("realtime", expected)
    assert address.base_url == expected.partition("/realtime")[0]
    assert Config(url=url, model="m").kind == "realtime"


def test_a_run_retries_and_goes_on(server: Realtime) -> None:
    config = Config(url=server.url, api_key=SecretStr(KEY), model="m", prompt="{{ text }}", cache="none", concurrency=2)
    texts = ["a", "[[once]]", "[[invalid]]", "[[cut]]", "b"]
    rows = list(Connector(config).enrich([{"text": text} for text in texts]))
    assert [row["_llm"]["status"] for row in rows] == ["success", "success", "error", "truncated", "success"]
    assert [row["content"] for row in rows] == [answer_to("a"), answer_to("[[once]]"), None, None, answer_to("b")]
    assert rows[1]["_llm"]["attempts"] == 2
    assert rows[2]["_llm"]["error"]["message"] == "the endpoint refuses this request (HTTP 400: No such value)"
    assert rows[0]["_llm"]["input_tokens"] == tokens_in("a")


def test_auth_picks_the_subprotocol(server: Realtime) -> None:
    config = Config(
        url=server.url,
        api_key=SecretStr(KEY),
        auth="openai-insecure-api-key",
        model="m",
        prompt="{{ text }}",
        cache="none",
    )
    (row,) = Connector(config).enrich([{"text": "a"}])
    assert row["content"] == answer_to("a")
    assert KEY in server.handshakes[0].headers["Sec-WebSocket-Protocol"]


def test_check_works_where_nothing_but_the_socket_is_there(server: Realtime) -> None:
    config = Config(url=server.url, api_key=SecretStr(KEY), model="m", prompt="{{ text }}", cache="none")
    diagnosis = Connector().check(config)
    assert diagnosis.ok, diagnosis.message
    assert len(server.of("response.create")) == 1
    assert server.of("session.update")[0]["session"]["max_output_tokens"] == 16


def test_check_names_a_model_that_is_not_there(server: Realtime) -> None:
    config = Config(url=server.url, api_key=SecretStr(KEY), model="m", prompt="[[model]]", cache="none")
    diagnosis = Connector().check(config)
    assert (diagnosis.ok, diagnosis.steps[-1].name) == (False, "model"), diagnosis
    assert KEY not in str(diagnosis)


def test_the_library_is_imported_only_where_it_is_needed() -> None:
    program = "import sys, connector; connector.Config(url='https://host/v1'); sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, dialed: Dial) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "websockets" or name.startswith("connector.endpoints._realtime_"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(
        ConfigError, match=r'needs websockets: run pip install "openai-compatible-connector\[realtime\]"'
    ):
        dialed("ws://127.0.0.1:1/v1")
