"""The transport against real sockets: a scripted server plays every way in which an endpoint behaves or misbehaves."""

from __future__ import annotations

import base64
import errno
import gzip
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, NoReturn, TypeVar

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigError,
    ConnectorError,
    CutError,
    ReplyError,
)
from connector.base.version import __version__
from connector.http import preparing
from connector.http.connection import Connection, NoTunnelError, ProxyError, Route
from connector.http.deadline import Deadline
from connector.http.http1 import PIECE, Headers
from connector.http.network_errors import explain
from connector.http.pool import Pool
from connector.http.transport import MAX_REDIRECTS, Settings, Transport
from tests.endpoint import swallowing

KEY = "sk-very-secret"
PATIENCE = 10.0
"""Seconds after which the server ends what hangs or trickles: a client that is still there then has no deadline."""

TIMEOUT = 60.0
"""Seconds that a call may take where a test is not about that."""

BIG = b"x" * (8 << 20)
"""More than the socket buffers of both ends hold."""


class Sent(NamedTuple):
    """A request as the server saw it."""

    line: str
    headers: list[str]
    body: bytes
    packets: int


class Peer:
    """The server's end of a connection."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self.data = b""

    def head(self) -> tuple[str, list[str], int]:
        """The next request's line and header lines, and in how many packets they came. Raises EOFError at the end."""
        packets = 0
        while b"\r\n\r\n" not in self.data:
            packets += 1
            self.data += self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        line, *headers = head.decode("latin-1").split("\r\n")
        return line, headers, packets

    def request(self) -> Sent:
        line, headers, packets = self.head()
        lengths = [int(header.split(":")[1]) for header in headers if header.startswith("Content-Length:")]
        while len(self.data) < sum(lengths):
            packets += 1
            self.data += self._more()
        body, self.data = self.data[: sum(lengths)], self.data[sum(lengths) :]
        sent = Sent(line, headers, body, packets)
        self.server.requests.append(sent)
        return sent

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hang(self) -> None:
        """Stays silent until the test is over."""
        self.server.over.wait(PATIENCE)

    def trickle(self, data: bytes) -> NoReturn:
        """Sends `data` every 20 ms until the client has had enough."""
        for _ in range(int(PATIENCE / 0.02)):
            self.server.over.wait(0.02)
            self.send(data)
        raise EOFError

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def _more(self) -> bytes:
        if not (data := self.sock.recv(1 << 20)):
            raise EOFError
        return data


Script = Callable[[Peer], None]


class Server:
    """Plays the script for every connection, in a thread of its own; closes it when the script ends."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.script = script
        self.context = context
        self.requests: list[Sent] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.peers: list[Peer] = []
        self.over = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port = self.listener.getsockname()[1]
        self.host = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if context else 'http'}://{self.host}/v1/chat"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            sock, _ = self.listener.accept()
            if self.over.is_set():
                sock.close()
                return
            self.connections += 1
            self.threads.append(threading.Thread(target=self._play, args=(sock,)))
            self.threads[-1].start()

    def _play(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a close loses what Nagle holds back
        peer = Peer(sock, self)
        self.peers.append(peer)
        try:
            if self.context:
                peer.start_tls(self.context)
            self.script(peer)
        except (OSError, EOFError):
            pass  # the client has left
        except BaseException as failure:  # noqa: BLE001 - shown by `close`
            self.failures.append(failure)
        finally:
            peer.sock.close()
            sock.close()

    def close(self) -> None:
        self.over.set()
        socket.create_connection(self.listener.getsockname()[:2]).close()  # wakes `_accept`
        for peer in self.peers:
            with suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()
        assert not self.failures


Serve = Callable[..., Server]
Connect = Callable[..., Transport]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Server:
        servers.append(Server(script, context, host))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    transports: list[Transport] = []

    def start(monotonic: Callable[[], float] | None = None, **settings: object) -> Transport:
        given = {"timeout": TIMEOUT, "headers": {"Authorization": f"Bearer {KEY}"}} | settings
        clock = {"monotonic": monotonic} if monotonic else {}
        transports.append(Transport(Settings(**given), **clock))  # type: ignore[arg-type]  # checked by whom it serves
        return transports[-1]

    yield start
    for transport in transports:
        transport.close()


@pytest.fixture
def transport(connect: Connect) -> Transport:
    return connect()


def reply(body: bytes = b"{}", status: str = "200 OK", *fields: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields])
    return head.encode() + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def answering(*replies: bytes) -> Script:
    """Answer request after request on a connection with these, the last again and again."""

    def script(peer: Peer) -> None:
        for data in replies[:-1]:
            peer.request()
            peer.send(data)
        while True:
            peer.request()
            peer.send(replies[-1])

    return script


# What is sent


def test_a_small_request_goes_out_in_one_piece(serve: Serve, transport: Transport) -> None:
    server = serve(answering(reply(b'{"a": 1}')))
    response = transport.post(server.url, b'{"model": "m"}')
    assert (response.status, response.headers["content-length"], response.read()) == (200, "8", b'{"a": 1}')
    (sent,) = server.requests
    assert sent.line == "POST /v1/chat HTTP/1.1"
    assert sent.body == b'{"model": "m"}'
    assert sent.packets == 1
    assert sorted(sent.headers) == sorted(
        [
            f"Host: {server.host}",
            f"User-Agent: openai-compatible-connector/{__version__}",
            "Accept: application/json, text/event-stream",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
            f"Authorization: Bearer {KEY}",
            "Content-Length: 14",
        ]
    )


def test_get_has_no_body(serve: Serve, transport: Transport) -> None:
    server = serve(answering(reply(b"[]")))
    assert transport.get(f"http://{server.host}/v1/models?limit=1#part").read() == b"[]"
    (sent,) = server.requests
    assert sent.line == "GET /v1/models?limit=1 HTTP/1.1"
    assert not [header for header in sent.headers if header.startswith("Content-")]


def test_a_user_s_header_wins_whatever_its_case(serve: Serve, connect: Connect) -> None:
    server = serve(answering(reply()))
    transport = connect(headers={"user-AGENT": "mine", "ACCEPT": "*/*", "host": "gateway", "content-type": "text/json"})
    transport.post(server.url, b"{}").read()
    headers = server.requests[0].headers
    assert {"user-AGENT: mine", "ACCEPT: */*", "host: gateway", "content-type: text/json"} <= set(headers)
    assert len(headers) == len({header.split(":")[0].lower() for header in headers})


def test_the_type_of_a_multipart_body_wins_over_a_user_s(serve: Serve, connect: Connect) -> None:
    server = serve(answering(reply()))
    connect(headers={"Content-Type": "application/json"}).post(
        server.url, b"--b--", "multipart/form-data; boundary=b"
    ).read()
    assert "Content-Type: multipart/form-data; boundary=b" in server.requests[0].headers


def test_user_and_password_in_the_url_become_basic_auth_and_nothing_else(serve: Serve, connect: Connect) -> None:
    server = serve(answering(reply()))
    connect(headers={}).post(f"http://me:p%40ss@{server.host}/v1", b"{}").read()
    (sent,) = server.requests
    assert f"Authorization: Basic {base64.b64encode(b'me:p@ss').decode()}" in sent.headers
    assert "me" not in sent.line
    assert f"Host: {server.host}" in sent.headers


def test_the_environment_is_not_consulted(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(answering(reply()))
    (tmp_path / "netrc").write_text("default login thief password stolen\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    connect(headers={}).post(server.url, b"{}").read()
    assert not [header for header in server.requests[0].headers if header.startswith("Authorization")]


def test_a_big_body_arrives_whole(serve: Serve, transport: Transport) -> None:
    server = serve(answering(reply()))
    assert transport.post(server.url, BIG).read() == b"{}"
    assert transport.post(server.url, b"small").read() == b"{}"
    assert [sent.body == wanted for sent, wanted in zip(server.requests, [BIG, b"small"], strict=True)] == [True, True]
    assert server.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/v1\r\nX-Evil: 1",
        "http://127.0.0.1\n/v1",
        "ftp://127.0.0.1/v1",
        "127.0.0.1:8000/v1",
        "localhost",
        "http://",
        "https:///v1",
        "http://127.0.0.1:99999/v1",
        "http://[::1/v1",
        "",
    ],
)
def test_a_url_that_cannot_be_called_is_refused(transport: Transport, url: str) -> None:
    with pytest.raises(ConfigError, match="url: cannot be called"):
        transport.post(url, b"{}")


@given(
    st.from_regex(preparing._PLAIN.pattern, fullmatch=True),  # noqa: SLF001 - what skips `requests`
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_a_url_that_is_sent_as_it_is_written_is_what_requests_would_send(url: str, parameters: dict[str, str]) -> None:
    prepared = requests.PreparedRequest()
    with suppress(ValueError):
        prepared.prepare_url(url, parameters)
    if prepared.url is None:
        with pytest.raises(ValueError, match="range"):
            preparing.origin(url)
        return
    assert preparing._as_sent(url, parameters) == prepared.url  # noqa: SLF001 - as above


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://{}", "GET / HTTP/1.1"),
        ("http://{}?a=b", "GET /?a=b HTTP/1.1"),
        ("http://{}/a b/ü", "GET /a%20b/%C3%BC HTTP/1.1"),
        ("http://{}/a/../b/%7e%2f", "GET /b/~%2F HTTP/1.1"),
    ],
)
def test_a_url_is_encoded_before_it_is_sent(serve: Serve, transport: Transport, url: str, line: str) -> None:
    server = serve(answering(reply()))
    assert transport.get(url.format(server.host)).read() == b"{}"
    assert [sent.line for sent in server.requests] == [line]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"headers": {"X-Key": f"{KEY}\r\nX-Evil: 1"}}, "headers.X-Key: has a line break"),
        ({"headers": {"content-length": "3"}}, "headers.content-length: is set from the body"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding: is set from the body"),
        ({"proxy": "proxy:3128"}, "proxy: must look like http://host:port"),
        ({"proxy": "http://proxy:99999"}, "proxy: must look like http://host:port"),
        ({"proxy": "http://proxy:x"}, "proxy: must look like http://host:port"),
        ({"proxy": "http://[::1"}, "proxy: must look like http://host:port"),
        ({"ca_bundle": "a\0b"}, "ca_bundle: cannot be read"),
        ({"proxy": f"socks5://me:{KEY}@proxy:3128"}, "proxy: must look like"),
        ({"ca_bundle": "missing.pem"}, "ca_bundle: cannot be read"),
        ({"client_cert": "missing.pem"}, "client_certificate: cannot be read"),
        ({"client_cert": ("missing.pem", "missing.key")}, "client_certificate: cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        Transport(Settings(**settings))  # type: ignore[arg-type]  # various on purpose
    assert KEY not in f"{caught.value} {caught.value.detail}"


@pytest.mark.parametrize("name", ["ca_bundle", "client_cert"])
def test_the_refusal_of_a_path_does_not_reveal_what_is_on_the_disk(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder" / "more").mkdir(parents=True)
    (tmp_path / "folder" / "notes.pem").write_text("no certificate")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    paths = [
        *(tmp_path / each for each in ("missing", "folder", "folder/more", "folder/notes.pem", "closed/x")),
        closed,
    ]
    told = set()
    for path in paths:
        with pytest.raises(ConfigError) as caught:
            Transport(Settings(**{name: str(path)}))  # type: ignore[arg-type]  # either is a path
        told.add((str(caught.value), caught.value.detail))
    assert len(told) == 1


def test_tls_with_a_folder_of_authorities_works(
    serve: Serve, connect: Connect, authority: Authority, tmp_path: Path
) -> None:
    shutil.copy(authority.path, tmp_path / "ours.pem")
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)
    server = serve(answering(reply(b"ok")), authority.context)
    assert connect(ca_bundle=str(tmp_path)).post(server.url, b"{}").read() == b"ok"


def test_threads_that_begin_at_once_load_the_certificates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_loaded", lru_cache(preparing._loaded.__wrapped__))  # noqa: SLF001 - one that is empty
    start = threading.Barrier(8)

    def load(_: int) -> ssl.SSLContext:
        start.wait()
        return preparing.tls_context(None, None)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(load, range(8)))) == 1


def test_secrets_show_in_no_repr(serve: Serve) -> None:
    server = serve(answering(reply()))
    settings = Settings(headers={"Authorization": KEY}, proxy=f"http://me:{KEY}@{server.host}")
    with closing(Transport(settings)) as transport:
        response = transport.post("http://api.example/v1", b"{}")
        response.read()
        for shown in (
            settings,
            transport,
            response,
            vars(transport),
            [getattr(response, n) for n in response.__slots__],
        ):
            assert KEY not in repr(shown)


# Connections


@pytest.mark.parametrize(
    "data",
    [reply(), CHUNKED + chunk(b"data: 1\n\n") + END, CHUNKED + END, b"HTTP/1.1 204 None\r\n\r\n", reply(b"", "404 No")],
)
def test_a_reply_read_to_its_end_returns_its_connection_to_the_pool(
    serve: Serve, transport: Transport, data: bytes
) -> None:
    server = serve(answering(data))
    for _ in range(3):
        transport.post(server.url, b"{}").read()
    assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    "data",
    [
        reply(b"{}", "200 OK", "Connection: close"),
        reply(b"{}", "200 OK", "Connection: X-Other, Close"),
        reply(b"{}", "500 Oops"),
        reply(b"{}", "503 Busy"),
        reply() + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
        CHUNKED + chunk(b"{}") + END + b"\r\n",
        reply().replace(b"1.1", b"1.0", 1),
    ],
)
def test_a_connection_in_an_unknown_state_is_not_reused(serve: Serve, transport: Transport, data: bytes) -> None:
    server = serve(answering(data))
    for _ in range(3):
        assert transport.post(server.url, b"{}").read() == b"{}"
    assert (len(server.requests), server.connections) == (3, 3)


def test_bytes_that_come_late_do_not_leak_into_the_next_reply(serve: Serve, transport: Transport) -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"first"))
        if len(peer.server.requests) == 1:
            peer.send(reply(b"a leak"))
            late.set()
        peer.hang()

    server = serve(script)
    assert transport.post(server.url, b"{}").read() == b"first"
    assert late.wait(PATIENCE)
    assert transport.post(server.url, b"{}").read() == b"first"
    assert server.connections == 2


def test_excess_bytes_of_an_earlier_reply_fail_no_later_row_for_good(serve: Serve, transport: Transport) -> None:
    """Bytes that come once the next request is out cannot be told from its answer, but then a new connection can be."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"first"))
        peer.request()
        peer.send(b"x" + reply(b"first"))
        peer.hang()

    server = serve(script)
    assert transport.post(server.url, b"{}").read() == b"first"
    with pytest.raises(CutError):
        transport.post(server.url, b"{}")
    assert transport.post(server.url, b"{}").read() == b"first"
    assert server.connections == 2


def test_closing_an_unread_reply_closes_its_connection(serve: Serve, transport: Transport) -> None:
    server = serve(answering(CHUNKED + chunk(b"one"), reply()))
    response = transport.post(server.url, b"{}")
    chunks = response.chunks()
    assert next(chunks) == b"one"
    chunks.close()  # type: ignore[attr-defined]  # a generator
    unread = transport.post(server.url, b"{}")
    unread.close()
    unread.close()
    server.script = answering(reply(b"ok"))
    assert transport.post(server.url, b"{}").read() == b"ok"
    assert server.connections == 3


def test_a_connection_closed_while_idle_is_replaced_unnoticed(serve: Serve, transport: Transport) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        peer.sock.close()
        closed.set()

    server = serve(script)
    for _ in range(5):
        assert transport.post(server.url, b"{}").read() == b"{}"
        assert closed.wait(PATIENCE)
        closed.clear()
    assert len(server.requests) == 5


def test_a_keep_alive_connection_that_dies_during_a_request_is_replaced_once_and_at_once(
    serve: Serve, transport: Transport
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        peer.request()

    server = serve(script)
    for _ in range(3):
        assert transport.post(server.url, b"{}").read() == b"{}"
    assert (len(server.requests), server.connections) == (5, 3)


def test_a_reply_says_how_often_its_request_was_sent(serve: Serve, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        peer.request()

    server = serve(script)
    sends = []
    for _ in range(3):
        response = transport.post(server.url, b"{}")
        response.read()
        sends.append(response.sends)
    assert sends == [1, 2, 2]
    assert sum(sends) == len(server.requests)


def test_on_a_new_connection_a_request_is_never_sent_twice(serve: Serve, transport: Transport) -> None:
    server = serve(lambda peer: forget(peer.request()))
    with pytest.raises(APIConnectionError, match=f"{server.host} closed the connection without an answer") as caught:
        transport.post(server.url, b"{}")
    assert len(server.requests) == caught.value.sends == 1


def test_if_the_new_connection_dies_too_the_error_says_that_the_request_was_sent_twice(
    serve: Serve, transport: Transport
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if len(peer.server.requests) == 1:
            peer.send(reply())
            peer.request()

    server = serve(script)
    transport.post(server.url, b"{}").read()
    with pytest.raises(APIConnectionError, match="closed the connection without an answer") as caught:
        transport.post(server.url, b"{}")
    assert caught.value.sends == 2
    assert len(server.requests) == 3


def forget(_: object) -> None: ...


def test_a_reset_is_like_a_close(serve: Serve, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    server = serve(script)
    with pytest.raises(APIConnectionError, match="closed the connection without an answer"):
        transport.post(server.url, b"{}")
    assert len(server.requests) == 1


def test_a_request_whose_connection_dies_in_the_head_is_not_sent_again(serve: Serve, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 20")

    server = serve(script)
    with pytest.raises(CutError):
        transport.post(server.url, b"{}")
    assert len(server.requests) == 1


def test_more_threads_than_connections_still_get_their_replies(serve: Serve, connect: Connect) -> None:
    server = serve(answering(reply()))
    transport = connect(connections=1)
    held = [transport.post(server.url, b"{}") for _ in range(3)]
    assert [response.read() for response in held] == [b"{}"] * 3


def test_each_thread_gets_the_reply_to_its_own_request(serve: Serve, connect: Connect) -> None:
    def echo(peer: Peer) -> None:
        while True:
            body = peer.request().body
            peer.send(reply(body) if len(body) % 2 else CHUNKED + chunk(body[:5]) + chunk(body[5:]) + END)

    server = serve(echo)
    transport = connect(connections=64)
    wrong: list[bytes] = []

    def work(worker: int) -> None:
        for turn in range(20):
            body = b"worker %d turn %d" % (worker, turn)
            if (got := transport.post(server.url, body).read()) != body:
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.requests) == 64 * 20
    assert server.connections <= 64


def answering_until_left() -> tuple[Script, threading.Event]:
    """Answers one request; the event is set once the client has closed the connection."""
    left = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        with suppress(EOFError):
            peer.request()
        left.set()

    return script, left


def test_closing_the_transport_closes_its_pooled_connections(serve: Serve, connect: Connect) -> None:
    script, left = answering_until_left()
    server, transport = serve(script), connect()
    transport.post(server.url, b"{}").read()
    transport.close()
    assert left.wait(PATIENCE)


def test_a_call_after_the_transport_is_closed_leaves_no_connection_open(serve: Serve, connect: Connect) -> None:
    script, left = answering_until_left()
    server, transport = serve(script), connect()
    transport.close()  # while another thread is about to make its next call
    assert transport.post(server.url, b"{}").read() == b"{}"
    assert left.wait(PATIENCE)


def test_a_connection_that_comes_back_while_its_pool_is_closed_is_closed(serve: Serve) -> None:
    class Idle(list[Connection]):
        def append(self, connection: Connection) -> None:
            pool.close()  # by another thread, after this one has seen that there is room
            super().append(connection)

    server = serve(answering(reply()))
    pool = Pool(Route("127.0.0.1", server.port), 1)
    pool._idle = Idle()  # noqa: SLF001 - where the moment can be chosen
    assert pool.exchange("GET", "/", Headers({}), None, Deadline(TIMEOUT)).whole() == b"{}"
    assert pool._idle == []  # noqa: SLF001 - as above


# Bodies


@pytest.mark.parametrize(
    ("data", "came"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", [b"half"]),
        (CHUNKED + chunk(b"half") + b"5\r\nmo", [b"halfmo"]),
        (CHUNKED + chunk(b"half"), [b"half"]),
        (CHUNKED, []),
    ],
)
def test_a_cut_body_yields_what_arrived_and_then_raises(
    serve: Serve, transport: Transport, data: bytes, came: list[bytes]
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)

    server = serve(script)
    chunks = transport.post(server.url, b"{}").chunks()
    assert [next(chunks) for _ in came] == came
    with pytest.raises(CutError):
        next(chunks)
    with pytest.raises(CutError):
        transport.post(server.url, b"{}").read()


def test_a_body_that_is_reset_is_cut(serve: Serve, transport: Transport) -> None:
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        seen.wait(PATIENCE)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    chunks = transport.post(serve(script).url, b"{}").chunks()
    assert next(chunks) == b"half"
    seen.set()
    with pytest.raises(CutError):
        next(chunks)


def flushed_gzip(*parts: bytes) -> list[bytes]:
    engine = zlib.compressobj(wbits=31)
    return [engine.compress(part) + engine.flush(zlib.Z_SYNC_FLUSH) for part in parts] + [engine.flush()]


@pytest.mark.parametrize("kind", ["length", "chunked", "close", "old", "gzip"])
def test_events_are_passed_on_as_they_arrive(serve: Serve, transport: Transport, kind: str) -> None:
    first, second = b"data: 1\n\n", b"data: 2\n\ndata: [DONE]\n\n"
    wires = {
        "length": (reply(first + second)[: -len(second)], second),
        "chunked": (CHUNKED + chunk(first), chunk(second) + END),
        "close": (b"HTTP/1.1 200 OK\r\n\r\n" + first, second),
        "old": (b"HTTP/1.0 200 OK\r\n\r\n" + first, second),
    }
    packed = flushed_gzip(first, second)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    wires["gzip"] = (head + chunk(packed[0]), chunk(packed[1] + packed[2]) + END)
    seen = threading.Event()

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(wires[kind][0])
            assert seen.wait(PATIENCE)
            peer.send(wires[kind][1])
            if kind in {"close", "old"}:
                return

    server = serve(script)
    chunks = transport.post(server.url, b"{}").chunks()
    assert next(chunks) == first
    seen.set()
    assert b"".join(chunks) == second
    assert transport.post(server.url, b"{}").read() == first + second
    assert server.connections == (2 if kind in {"close", "old"} else 1)


@pytest.mark.parametrize(
    "data",
    [
        reply(b"x" * 1001),
        CHUNKED + chunk(b"x" * 500) * 3 + END,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 2000,
        reply(gzip.compress(b"x" * 1001, mtime=0), "200 OK", "Content-Encoding: gzip"),
    ],
)
def test_a_reply_that_is_too_large_is_refused(serve: Serve, connect: Connect, data: bytes) -> None:
    server = serve(answering(data))
    transport = connect(max_response_bytes=1000)
    with pytest.raises(ReplyError, match="the reply is larger than max_response_bytes = 1000"):
        transport.post(server.url, b"{}").read()
    with pytest.raises(ReplyError, match="larger"):
        list(transport.post(server.url, b"{}").chunks())


def test_a_gzip_bomb_takes_no_more_memory_than_allowed(serve: Serve, connect: Connect) -> None:
    bomb = reply(gzip.compress(bytes(64 << 20)), "200 OK", "Content-Encoding: gzip")
    server = serve(answering(bomb))
    transport = connect(max_response_bytes=1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ReplyError, match="larger"):
            transport.post(server.url, b"{}").read()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_what_a_small_reply_unpacks_to_is_read_until_the_deadline(serve: Serve) -> None:
    bomb = reply(gzip.compress(bytes(8 << 20)), "200 OK", "Content-Encoding: gzip")
    now = 0

    def pieces(transport: Transport) -> Iterator[int]:
        nonlocal now
        for piece in transport.post(serve(answering(bomb)).url, b"{}").chunks():
            now += 6  # seconds that its reader takes
            yield len(piece)

    with closing(Transport(Settings(timeout=60), monotonic=lambda: now)) as transport:
        found = pieces(transport)
        assert [next(found) for _ in range(10)] == [PIECE] * 10
        with pytest.raises(APITimeoutError, match="no complete reply within 60 s"):
            next(found)


@pytest.mark.parametrize("wbits", [31, 15, -15])
def test_compressed_replies_are_decoded(serve: Serve, transport: Transport, wbits: int) -> None:
    engine = zlib.compressobj(wbits=wbits)
    packed = engine.compress(b'{"a": 1}') + engine.flush()
    coding = "Content-Encoding: " + ("GZIP" if wbits == 31 else "deflate")
    server = serve(answering(reply(packed, "200 OK", coding)))
    for _ in range(2):
        assert transport.post(server.url, b"{}").read() == b'{"a": 1}'
    assert server.connections == 1


@pytest.mark.parametrize(
    ("coding", "told"),
    [
        ("br", "compressed as 'br'"),
        ("Sk-Key", "compressed as 'Sk-Key'"),  # in another case it would not be masked
        ("gzip", "cannot be decompressed"),
    ],
)
def test_what_cannot_be_decoded_is_refused(serve: Serve, transport: Transport, coding: str, told: str) -> None:
    server = serve(answering(reply(b"junk", "200 OK", f"Content-Encoding: {coding}")))
    with pytest.raises(ReplyError, match=told):
        transport.post(server.url, b"{}").read()


# Answers before the request is out


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("stays", [False, True])
def test_a_refusal_that_arrives_before_the_body_was_sent_is_read(
    serve: Serve, connect: Connect, authority: Authority, tls: bool, stays: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(reply(b"too big", "413 Too Large", "Connection: close"))
        if stays:
            peer.hang()

    server = serve(script, authority.context if tls else None)
    response = connect(ca_bundle=authority.path).post(server.url, BIG)
    assert (response.status, response.read()) == (413, b"too big")


@pytest.mark.parametrize("lingers", [False, True])
def test_a_request_during_which_the_server_leaves_is_not_sent_again(
    serve: Serve, transport: Transport, lingers: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.server.requests.append(Sent(*peer.head()[:2], b"", 1))
        if lingers:
            peer.sock.shutdown(socket.SHUT_WR)
            peer.hang()

    server = serve(script)
    with pytest.raises(APIConnectionError, match="closed the connection without an answer"):
        transport.post(server.url, BIG)
    assert len(server.requests) == 1


def test_a_server_that_says_continue_gets_the_rest(serve: Serve, transport: Transport) -> None:
    def script(peer: Peer) -> None:
        while b"\r\n\r\n" not in peer.data:
            peer.data += peer.sock.recv(1 << 10)
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.request()
        peer.send(reply(b"all"))

    server = serve(script)
    assert transport.post(server.url, BIG).read() == b"all"
    assert server.requests[0].body == BIG


# Redirects


@pytest.mark.parametrize("status", ["307 T", "308 P"])
def test_a_post_follows_a_redirect_that_keeps_method_and_origin(
    serve: Serve, transport: Transport, status: str
) -> None:
    server = serve(answering(reply(b"moved", status, "Location: /v1/chat/?a=1"), reply(b"done")))
    assert transport.post(server.url, b"body").read() == b"done"
    assert [(sent.line, sent.body) for sent in server.requests] == [
        ("POST /v1/chat HTTP/1.1", b"body"),
        ("POST /v1/chat/?a=1 HTTP/1.1", b"body"),
    ]
    assert server.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_follows_any_redirect_of_the_same_origin(serve: Serve, transport: Transport, status: int) -> None:
    server = serve(answering(reply(b"", f"{status} M", "Location: http://HOST/b"), reply(b"done")))
    server.script = answering(reply(b"", f"{status} M", f"Location: http://{server.host}/b"), reply(b"done"))
    assert transport.get(server.url).read() == b"done"
    assert server.requests[1].line == "GET /b HTTP/1.1"


def test_basic_auth_from_the_url_survives_a_redirect(serve: Serve, connect: Connect) -> None:
    server = serve(answering(reply()))
    server.script = answering(reply(b"", "307 T", f"Location: http://{server.host}/b"), reply())
    connect(headers={}).post(f"http://me:pw@{server.host}/a", b"{}").read()
    assert all(any(h.startswith("Authorization: Basic") for h in sent.headers) for sent in server.requests)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_turn_a_post_into_a_get_is_returned(
    serve: Serve, transport: Transport, status: int
) -> None:
    server = serve(answering(reply(b"moved", f"{status} M", "Location: /other")))
    response = transport.post(server.url, b"{}")
    assert (response.status, response.headers["location"], response.read()) == (status, "/other", b"moved")
    assert len(server.requests) == 1


def test_nothing_is_ever_sent_to_another_origin(serve: Serve, transport: Transport) -> None:
    other = serve(answering(reply(b"stolen")))
    server = serve(answering(reply()))
    for target in (
        other.url,
        f"//{other.host}/v1",
        f"https://{server.host}/v1/chat",
        f"http://localhost:{server.port}/v1/chat",
        f"http://{server.host}@{other.host}/",
        "http://[broken/",
        "http://127.0.0.1:99999/",
        f"/v1\rHost: {other.host}",
    ):
        server.script = answering(reply(b"", "307 T", f"Location: {target}", "Connection: close"))
        response = transport.post(server.url, b"{}")
        assert (response.status, response.read()) == (307, b"")
    assert other.connections == 0


def test_endless_redirects_end(serve: Serve, transport: Transport) -> None:
    server = serve(answering(reply(b"", "307 T", "Location: /again")))
    response = transport.post(server.url, b"{}")
    assert (response.status, response.read()) == (307, b"")
    assert len(server.requests) == 1 + MAX_REDIRECTS


# Time


def hang_at_once(peer: Peer) -> None:
    peer.hang()


def hang_after_the_request(peer: Peer) -> None:
    peer.request()
    peer.hang()


def trickle_the_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    peer.trickle(b"x")


def interim_for_ever(peer: Peer) -> None:
    peer.request()
    peer.trickle(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def hang_after_the_head(peer: Peer) -> None:
    peer.request()
    peer.send(CHUNKED)
    peer.hang()


def trickle_the_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    peer.trickle(b"x")


def trickle_comments(peer: Peer) -> None:
    peer.request()
    peer.send(CHUNKED)
    peer.trickle(chunk(b": keepalive\n\n"))


def trickle_until_close(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.0 200 OK\r\n\r\n")
    peer.trickle(b": keepalive\n\n")


def trickle_trailers(peer: Peer) -> None:
    peer.request()
    peer.send(CHUNKED + b"0\r\n")
    peer.trickle(b"X-Trailer: x\r\n")


SLOW = [
    hang_at_once,
    hang_after_the_request,
    trickle_the_head,
    interim_for_ever,
    hang_after_the_head,
    trickle_the_body,
    trickle_comments,
    trickle_until_close,
    trickle_trailers,
]


@pytest.mark.parametrize(
    ("script", "tls"),
    [(script, False) for script in SLOW]
    + [(hang_after_the_request, True), (trickle_the_head, True), (trickle_comments, True)],
)
def test_the_deadline_bounds_the_whole_call(
    serve: Serve, connect: Connect, authority: Authority, script: Script, tls: bool
) -> None:
    server = serve(script, authority.context if tls else None)
    transport = connect(timeout=0.3, ca_bundle=authority.path)
    with pytest.raises(APITimeoutError, match=r"no complete reply within 0\.3 s: raise config\.timeout"):
        transport.post(server.url, b"{}").read()
    assert server.connections == 1
    server.script = answering(reply(b"still usable"))
    assert transport.post(server.url, b"{}").read() == b"still usable"


def test_the_deadline_bounds_a_request_that_nobody_reads(serve: Serve, connect: Connect) -> None:
    server = serve(hang_at_once)
    with pytest.raises(APITimeoutError) as caught:
        connect(timeout=0.3).post(server.url, BIG)
    assert caught.value.detail == "while sending"


def test_the_deadline_bounds_a_handshake(serve: Serve, connect: Connect) -> None:
    server = serve(hang_at_once)
    with pytest.raises(APITimeoutError, match="no connection within") as caught:
        connect(connect_timeout=0.3).post(server.url.replace("http", "https"), b"{}")
    assert caught.value.detail == "while connecting"


def test_the_deadline_bounds_connecting(connect: Connect) -> None:
    with swallowing() as port, pytest.raises(APITimeoutError, match=r"no connection within 0\.3 s"):
        connect(connect_timeout=0.3).post(f"http://127.0.0.1:{port}/", b"{}")


def test_redirects_share_one_deadline(serve: Serve, connect: Connect) -> None:
    now = [0.0]

    def script(peer: Peer) -> None:
        peer.request()
        now[0] += 0.4
        peer.send(reply(b"", "307 T", "Location: /again"))

    server = serve(script)
    with pytest.raises(APITimeoutError, match="within 1 s"):
        connect(timeout=1, monotonic=lambda: now[0]).post(server.url, b"{}")
    assert len(server.requests) == 3


def test_a_slow_reader_meets_the_deadline_too(serve: Serve, connect: Connect) -> None:
    now = [0.0]
    server = serve(answering(CHUNKED + chunk(b"one")))
    chunks = connect(timeout=1, monotonic=lambda: now[0]).post(server.url, b"{}").chunks()
    assert next(chunks) == b"one"
    now[0] = 2.0
    with pytest.raises(APITimeoutError) as caught:
        next(chunks)
    assert caught.value.detail == "while reading the body"


# Addresses


def test_a_refused_connection_names_host_and_port_but_no_user(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        APIConnectionError, match=rf"127\.0\.0\.1:{port} refuses connections: check host and port"
    ) as caught:
        transport.post(f"http://me:{KEY}@127.0.0.1:{port}/v1", b"{}")
    assert "ConnectionRefusedError" in caught.value.detail
    assert KEY not in f"{caught.value} {caught.value.detail}"


def test_an_unknown_host_name_has_its_own_message(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        APIConnectionError, match=r"the host name of api\.exmaple:443 cannot be resolved: check it in `url`"
    ):
        transport.post("https://api.exmaple/v1", b"{}")


def test_a_host_name_that_dns_does_not_allow_has_its_own_message(transport: Transport) -> None:
    with pytest.raises(APIConnectionError, match=r"a\.\.b:80 is not a name that DNS allows"):
        transport.post("http://a..b/v1", b"{}")


def test_every_address_of_a_name_is_tried(serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answering(reply()))
    found = socket.getaddrinfo
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")

    def resolve(host: str, port: int, *rest: object, **named: object) -> object:
        if host == "many.example":
            return [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))]
        return found(host, port, *rest, **named)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert transport.post(f"http://many.example:{server.port}/", b"{}").read() == b"{}"
    assert f"Host: many.example:{server.port}" in server.requests[0].headers


def test_ipv6_addresses_work(serve: Serve, transport: Transport) -> None:
    try:
        server = serve(answering(reply()), host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert transport.post(server.url, b"{}").read() == b"{}"
    assert f"Host: [::1]:{server.port}" in server.requests[0].headers


@pytest.mark.parametrize("url", ["http://[fe80::1%25eth0]:81/v1", "http://[fe80::1%eth0]:81/v1"])
def test_the_zone_of_an_ipv6_address_is_for_this_machine_alone(url: str) -> None:
    assert preparing.origin(url) == ("http", "fe80::1%eth0", 81)
    assert preparing.address_of(url) == "[fe80::1]:81"


# TLS


class Authority(NamedTuple):
    """A self-signed certificate for 127.0.0.1 and api.example: its file, its key's, and a server's context with it."""

    path: str
    key: str
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    path, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    names = "subjectAltName=IP:127.0.0.1,DNS:api.example"
    subprocess.run([*command.split(), "-addext", names, "-keyout", key, "-out", path], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return Authority(path, key, context)


def test_tls_with_a_private_authority_works(serve: Serve, connect: Connect, authority: Authority) -> None:
    server = serve(answering(reply(b"x" * 200_000)), authority.context)
    transport = connect(ca_bundle=authority.path)
    for size in (len(BIG), 10, 20_000):
        assert transport.post(server.url, BIG[:size]).read() == b"x" * 200_000
    assert [len(sent.body) for sent in server.requests] == [len(BIG), 10, 20_000]
    assert server.connections == 1


def reply_of(size: int) -> bytes:
    """A reply of so many bytes, 100 of them its head."""
    head = reply(b"", "200 OK").replace(b"Content-Length: 0", b"Content-Length: %d" % (size - 100))
    head = head.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * (100 - len(head) - 5) + b"\r\n\r\n")
    return head + b"x" * (size - 100)


@pytest.mark.parametrize("near", [1 << 12, 1 << 14, (1 << 14) + (1 << 12), 1 << 16, (1 << 16) + (1 << 12)])
def test_no_byte_after_a_reply_over_tls_is_taken_for_the_next_reply(
    serve: Serve, connect: Connect, authority: Authority, near: int
) -> None:
    """Around the sizes of a receive and of a record: TLS may hold decrypted bytes that no poll sees."""
    sizes = range(near - 3, near + 4)
    surplus = reply(b"another row's")

    def script(peer: Peer) -> None:
        size = int(peer.request().body)
        peer.send(reply_of(size) + surplus)
        sent.put(size)
        peer.request()
        peer.hang()

    sent: SimpleQueue[int] = SimpleQueue()
    server = serve(script, authority.context)
    transport = connect(ca_bundle=authority.path)
    for size in sizes:
        assert transport.post(server.url, b"%d" % size).read() == b"x" * (size - 100)
        assert sent.get() == size  # what comes later still, nobody can tell from the next answer
    assert [int(sent.body) for sent in server.requests] == list(sizes)
    assert server.connections == len(sizes)


def test_a_certificate_is_verified_whatever_the_environment_says(
    serve: Serve, connect: Connect, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, authority.path)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    server = serve(answering(reply()), authority.context)
    with pytest.raises(APIConnectionError, match=f"certificate of {server.host} cannot be verified: .*ca_bundle"):
        connect().post(server.url, b"{}")
    assert not (tmp_path / "keys").exists()


def test_a_certificate_for_another_name_is_refused(serve: Serve, connect: Connect, authority: Authority) -> None:
    server = serve(answering(reply()), authority.context)
    with pytest.raises(APIConnectionError, match="cannot be verified") as caught:
        connect(ca_bundle=authority.path).post(f"https://localhost:{server.port}/", b"{}")
    assert "localhost" in caught.value.detail


def test_https_to_a_server_that_speaks_http_is_reported(serve: Serve, transport: Transport) -> None:
    server = serve(answering(reply()))
    server.script = lambda peer: peer.send(reply(b"", "400 Bad"))
    with pytest.raises(APIConnectionError, match="no TLS connection to"):
        transport.post(server.url.replace("http", "https"), b"{}")


@pytest.mark.parametrize("linger", [b"\0\0\0\0\0\0\0\0", b"\1\0\0\0\0\0\0\0"])
def test_a_server_that_leaves_in_the_handshake_has_seen_no_request(
    serve: Serve, transport: Transport, linger: bytes
) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(1 << 16)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # it ends or resets the connection

    with pytest.raises(APIConnectionError, match="no TLS connection to") as caught:
        transport.post(serve(script).url.replace("http", "https"), b"{}")
    assert not caught.value.was_closed


def test_http_to_a_server_that_speaks_https_is_reported(serve: Serve, transport: Transport) -> None:
    server = serve(lambda peer: peer.send(b"\x15\x03\x03\x00\x02\x02\x46"))
    with pytest.raises(APIConnectionError, match="speaks TLS: write https in `url`") as caught:
        transport.post(server.url, b"{}")
    assert not caught.value.is_connected, "no call of a run could be answered"


def test_a_client_certificate_is_shown_where_one_is_set(serve: Serve, connect: Connect, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path, authority.key)
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    server = serve(answering(reply()), context)
    both = connect(ca_bundle=authority.path, client_cert=(authority.path, authority.key))
    assert both.post(server.url, b"{}").read() == b"{}"
    with pytest.raises(APIConnectionError):
        connect(ca_bundle=authority.path).post(server.url, b"{}")


# Proxies


def test_a_proxy_is_sent_the_whole_url_of_an_http_endpoint(serve: Serve, connect: Connect) -> None:
    proxy = serve(answering(reply()))
    transport = connect(proxy=f"http://me:pw@{proxy.host}")
    for _ in range(2):
        assert transport.post("http://api.example/v1/chat?a=1", b"body").read() == b"{}"
    sent = proxy.requests[0]
    assert sent.line == "POST http://api.example/v1/chat?a=1 HTTP/1.1"
    assert {"Host: api.example", f"Proxy-Authorization: Basic {base64.b64encode(b'me:pw').decode()}"} <= set(
        sent.headers
    )
    assert proxy.connections == 1


def tunnel(authority: Authority, then: Script, answer: bytes = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n") -> Script:
    def script(peer: Peer) -> None:
        line, headers, _ = peer.head()
        peer.server.requests.append(Sent(line, headers, b"", 1))
        peer.send(answer)
        peer.start_tls(authority.context)
        then(peer)

    return script


def test_a_proxy_tunnels_to_an_https_endpoint(serve: Serve, connect: Connect, authority: Authority) -> None:
    proxy = serve(tunnel(authority, answering(reply())))
    transport = connect(proxy=f"http://me:pw@{proxy.host}", ca_bundle=authority.path)
    for _ in range(2):
        assert transport.post("https://api.example/v1/chat", b"body").read() == b"{}"
    connecting, *calls = proxy.requests
    assert connecting.line == "CONNECT api.example:443 HTTP/1.1"
    assert "Host: api.example:443" in connecting.headers
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:pw').decode()}" in connecting.headers
    assert not [header for header in connecting.headers if KEY in header]
    assert [call.line for call in calls] == ["POST /v1/chat HTTP/1.1"] * 2
    assert not [header for header in calls[0].headers if header.startswith("Proxy-")]


Told = TypeVar("Told")


class TLSWithin:
    """The server's end of TLS within the TLS of a proxy: what it sends is on the wire when `sendall` returns."""

    def __init__(self, outer: socket.socket, context: ssl.SSLContext) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._fed(self._tls.do_handshake)
        self.sendall(b"")

    def sendall(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
        self._outer.sendall(self._out.read())

    def recv(self, size: int) -> bytes:
        return self._fed(lambda: self._tls.read(size))

    def _fed(self, step: Callable[[], Told]) -> Told:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._outer.sendall(self._out.read())
                if not (data := self._outer.recv(1 << 16)):
                    raise EOFError from None
                self._in.write(data)

    def shutdown(self, how: int) -> None:
        self._outer.shutdown(how)

    def close(self) -> None:
        self._outer.close()


def tunnel_over_tls(authority: Authority, then: Script) -> Script:
    """A proxy that is itself spoken to over TLS."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.sock = TLSWithin(peer.sock, authority.context)  # type: ignore[assignment]  # it has what a peer needs
        then(peer)

    return script


def test_tls_within_the_tls_of_a_proxy_is_kept(serve: Serve, connect: Connect, authority: Authority) -> None:
    proxy = serve(tunnel_over_tls(authority, answering(reply(b"x" * 200_000))), authority.context)
    transport = connect(proxy=f"https://{proxy.host}", ca_bundle=authority.path)
    for _ in range(3):
        assert transport.post("https://api.example/v1/chat", b"body").read() == b"x" * 200_000
    assert (len(proxy.requests), proxy.connections) == (3, 1)


@pytest.mark.parametrize("near", [1 << 10, 1 << 14, (1 << 14) + (1 << 12), 1 << 16, (1 << 16) + (1 << 12)])
@pytest.mark.parametrize("layer", ["inner", "outer", "plain"])
def test_no_byte_after_a_reply_is_taken_for_the_next_reply_in_any_layer_of_tls(
    serve: Serve, connect: Connect, authority: Authority, near: int, layer: str
) -> None:
    """Surplus bytes come in the inner TLS, in the proxy's TLS as garbage behind it, or outside of both."""
    sizes = range(near - 2, near + 3)
    surplus = reply(b"another row's")

    def script(peer: Peer) -> None:
        size = int(peer.request().body)
        body = reply_of(size)
        outer = peer.sock._outer  # type: ignore[attr-defined]  # noqa: SLF001 - the test's own
        if layer == "inner":
            peer.send(body + surplus)
        elif layer == "outer":
            peer.send(body)
            outer.sendall(surplus)
        else:
            peer.send(body)
            socket.socket.sendall(outer, surplus)
        sent.put(size)
        peer.request()
        peer.hang()

    sent: SimpleQueue[int] = SimpleQueue()
    proxy = serve(tunnel_over_tls(authority, script), authority.context)
    transport = connect(proxy=f"https://{proxy.host}", ca_bundle=authority.path)
    for size in sizes:
        assert transport.post("https://api.example/v1/chat", b"%d" % size).read() == b"x" * (size - 100)
        assert sent.get() == size
    assert [int(got.body) for got in proxy.requests] == list(sizes)
    assert proxy.connections == len(sizes)


def test_a_keep_alive_tunnel_that_dies_is_opened_again_once(
    serve: Serve, connect: Connect, authority: Authority
) -> None:
    def once(peer: Peer) -> None:
        peer.request()
        if len(peer.server.requests) == 2:
            peer.send(reply())
            peer.request()

    proxy = serve(tunnel(authority, once))
    transport = connect(proxy=f"http://{proxy.host}", ca_bundle=authority.path)
    transport.post("https://api.example/", b"{}").read()
    with pytest.raises(APIConnectionError, match=r"api\.example:443 closed the connection without an answer"):
        transport.post("https://api.example/", b"{}")
    assert [sent.line.split()[0] for sent in proxy.requests] == ["CONNECT", "POST", "POST", "CONNECT", "POST"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Who\r\n\r\n",
        b"HTTP/1.1 502 Bad\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"",
    ],
)
def test_a_proxy_that_refuses_is_named_without_its_user(serve: Serve, connect: Connect, answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(answer)

    proxy = serve(script)
    with pytest.raises(APIConnectionError, match=f"the proxy {proxy.host} ") as caught:
        connect(proxy=f"http://me:{KEY}@{proxy.host}").post("https://api.example/", b"{}")
    assert "`proxy`" in caught.value.message or "closed" in caught.value.message
    assert KEY not in f"{caught.value} {caught.value.detail}"


def test_a_proxy_whose_name_dns_does_not_allow_is_named(connect: Connect) -> None:
    with pytest.raises(APIConnectionError, match=r"the proxy a\.\.b:3128 is not a name that DNS allows.*`proxy`"):
        connect(proxy="http://a..b:3128").post("https://api.example/", b"{}")


def test_a_proxy_that_cannot_be_reached_is_named(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    transport = connect(proxy=f"http://127.0.0.1:{port}")
    for url in ("https://api.example/", "http://api.example/"):
        with pytest.raises(APIConnectionError, match=rf"the proxy 127\.0\.0\.1:{port} refuses connections.*`proxy`"):
            transport.post(url, b"{}")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            NoTunnelError("CONNECT was answered with 407"),
            "does not let the call through: check user and host in `proxy`",
        ),
        (OSError(errno.ENETUNREACH, "no"), "no connection to the proxy p:3128: check host and port in `proxy`"),
        (ConnectionResetError("no"), "the proxy p:3128 closed the connection without an answer: check http or https"),
    ],
)
def test_a_proxy_is_at_fault_in_the_words_of_its_fault_and_not_the_request(error: OSError, told: str) -> None:
    explained = explain(ProxyError("no way", error), "api.example:443", "p:3128")
    assert told in explained.message
    assert not getattr(explained, "was_closed", True)


def test_a_proxy_that_trickles_its_answer_meets_the_deadline(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        peer.trickle(b"x")

    proxy = serve(script)
    with pytest.raises(APITimeoutError, match=r"no connection within .* `url` and `proxy`"):
        connect(proxy=f"http://{proxy.host}", timeout=0.3).post("https://api.example/", b"{}")


def test_a_handshake_has_the_time_that_the_proxy_has_left_it(serve: Serve, connect: Connect) -> None:
    now = [0.0]

    def script(peer: Peer) -> None:
        peer.head()
        now[0] = TIMEOUT - 0.1
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.hang()

    proxy = serve(script)
    with pytest.raises(APITimeoutError, match="no connection within"):
        connect(proxy=f"http://{proxy.host}", monotonic=lambda: now[0]).post("https://api.example/", b"{}")


@pytest.mark.parametrize(("kind", "told"), [(b"\x16", "connecting"), (b"\x17", "waiting for the answer")])
def test_a_record_of_tls_within_tls_that_trickles_meets_the_deadline(
    serve: Serve, connect: Connect, authority: Authority, kind: bytes, told: str
) -> None:
    def trickle(peer: Peer) -> None:
        if kind == b"\x17":  # of data, not of the handshake
            peer.request()
            peer.sock = peer.sock._outer  # type: ignore[attr-defined]  # noqa: SLF001 - the test's own
        peer.send(kind + b"\x03\x03\x40\x00")  # the head of a record of 16 KiB
        peer.trickle(b"x")

    def refuse(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        trickle(peer)

    proxy = serve(refuse if kind == b"\x16" else tunnel_over_tls(authority, trickle), authority.context)
    transport = connect(proxy=f"https://{proxy.host}", ca_bundle=authority.path, timeout=0.3)
    with pytest.raises(APITimeoutError) as caught:
        transport.post("https://api.example/", b"{}")
    assert caught.value.detail == f"while {told}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_may_itself_speak_tls(serve: Serve, connect: Connect, authority: Authority, scheme: str) -> None:
    def tunnelling(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        inner, outer = socket.socketpair()
        with inner, outer:
            pump = threading.Thread(target=shovel, args=(peer.sock, outer))
            pump.start()
            with authority.context.wrap_socket(inner, server_side=True) as tls, suppress(EOFError):
                answering(reply(b"x" * 100_000))(Peer(tls, peer.server))
            pump.join()

    proxy = serve(tunnelling if scheme == "https" else answering(reply(b"x" * 100_000)), authority.context)
    transport = connect(proxy=f"https://{proxy.host}", ca_bundle=authority.path)
    for body in (b"body", b"y" * 50_000):
        assert transport.post(f"{scheme}://api.example/v1", body).read() == b"x" * 100_000
    assert [sent.body for sent in proxy.requests] == [b"body", b"y" * 50_000]
    assert proxy.connections == 1


def shovel(left: socket.socket, right: socket.socket) -> None:
    """Carry bytes both ways until one side ends, then end the other."""
    with suppress(OSError):
        while ready := select.select([left, right], [], [], PATIENCE)[0]:
            for source in ready:
                if not (data := source.recv(1 << 16)):
                    right.shutdown(socket.SHUT_RDWR)
                    return
                (right if source is left else left).sendall(data)


# The `responses` library, and the errors of others


@responses.activate
def test_the_responses_library_can_stand_in_for_the_endpoint(transport: Transport) -> None:
    url = "http://api.example/v1/chat"
    responses.post(
        url, json={"a": 1}, headers={"X-Request-ID": "r1"}, match=[responses.matchers.json_params_matcher({})]
    )
    responses.get("http://api.example/v1/models", body=gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"})
    response = transport.post(url, b"{}")
    assert (response.status, response.headers["x-request-id"], response.read()) == (200, "r1", b'{"a": 1}')
    assert b"".join(transport.get("http://api.example/v1/models").chunks()) == b"[]"
    assert responses.calls[0].request.headers["authorization"] == f"Bearer {KEY}"


def test_the_responses_library_can_stand_in_before_this_one_is_loaded() -> None:
    """As in a test whose function alone is patched, where the first use loads what calls."""
    program = """
import responses
with responses.RequestsMock() as endpoint:
    endpoint.post("http://api.invalid/v1", body=b"of the test")
    from connector.http.transport import Settings, Transport
    print(Transport(Settings()).post("http://api.invalid/v1", b"{}").read())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b'of the test'\n", "")


class Wrapper:
    """Passes itself off as what it wraps, as those of the library `wrapt` do."""

    def __init__(self, wrapped: object, calls: list[object]) -> None:
        self._wrapped, self._calls = wrapped, calls

    def __getattr__(self, name: str) -> object:
        return getattr(self._wrapped, name)

    def __call__(self, *args: object, **options: object) -> object:
        self._calls.append(args)
        return self._wrapped(requests.adapters.HTTPAdapter(), *args, **options)  # type: ignore[operator]  # a method


def test_what_wraps_the_adapter_of_requests_is_called(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, calls = serve(answering(reply())), list[object]()
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", Wrapper(requests.adapters.HTTPAdapter.send, calls))
    assert transport.post(server.url, b"{}").read() == b"{}"
    assert len(calls) == 1


@responses.activate
@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (requests.ReadTimeout(), APITimeoutError),
        (requests.ConnectTimeout(), APITimeoutError),
        (requests.ConnectionError("gone"), APIConnectionError),
        (requests.exceptions.SSLError("bad"), APIConnectionError),
        (requests.exceptions.ChunkedEncodingError("cut"), CutError),
    ],
)
def test_every_error_of_requests_becomes_one_of_ours(
    transport: Transport, raised: Exception, becomes: type[ConnectorError]
) -> None:
    responses.post("http://api.example/v1", body=raised)
    with pytest.raises(becomes, match=r"api\.example:80"):
        transport.post("http://api.example/v1", b"{}")


@responses.activate
def test_the_limits_apply_with_the_responses_library_too(connect: Connect) -> None:
    responses.post("http://api.example/v1", body=b"x" * 1001)
    responses.post("http://api.example/junk", body=b"junk", headers={"Content-Encoding": "gzip"})
    with pytest.raises(ReplyError, match="larger"):
        connect(max_response_bytes=1000).post("http://api.example/v1", b"{}").read()
    with pytest.raises(ReplyError, match="cannot be decompressed"):
        connect().post("http://api.example/junk", b"{}").read()


def test_the_message_comes_from_the_innermost_error() -> None:
    wrapped = requests.ConnectionError(OSError("outer"))
    wrapped.args[0].__cause__ = ConnectionRefusedError("inner")
    error = explain(wrapped, "api.example:443", "")
    assert error.message.startswith("api.example:443 refuses connections")
    assert error.detail == "ConnectionRefusedError: inner"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_fault_of_the_network(code: int) -> None:
    error = explain(requests.ConnectionError(OSError(code, "Too many open files")), "api.example:443", "")
    assert isinstance(error, APIConnectionError)
    assert "lower `concurrency`" in error.message
