"""A connection: to an origin or through a proxy, with TLS or without, and one HTTP/1.1 exchange after another on it.

Most calls take one send and one receive.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
from collections.abc import Iterable
from http import HTTPStatus
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from connector.base.errors import CutError, ReplyError
from connector.base.records import is_ok
from connector.http.deadline import Deadline
from connector.http.http1 import (
    HEAD_END,
    MAX_HEAD,
    PIECE,
    Body,
    Headers,
    TlsError,
    cut,
    expected,
    framed,
    malformed,
    parse_head,
)
from connector.http.nested_tls import NestedTls
from connector.http.upload import Upload

_LOG = logging.getLogger(__name__)

_FIRST: Final = 1 << 12
"""Size of the first receive, in bytes. It is small because its buffer is held for as long as a call waits."""

_TLS: Final = (ssl.SSLSocket, NestedTls)
_TLS_RECORDS: Final = (b"\x15", b"\x16")
"""The first byte of a TLS alert and of a handshake; the second is 3 (RFC 8446, section 5.1)."""

Answer: TypeAlias = tuple[int, dict[str, str], Body, bool]
"""Status, fields (lower-case names), body, and whether the connection can be used again after it."""


class ProxyError(OSError):
    """The proxy is at fault; its cause says how."""


class NoTunnelError(OSError):
    """The proxy answers, but opens no tunnel."""


class Proxy(NamedTuple):
    """A proxy: where it is, the TLS to speak with it, if any, and its `Proxy-Authorization`, if it needs one."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    authorization: str | None

    def __repr__(self) -> str:
        return f"<proxy {self.host}:{self.port}>"

    @property
    def fields(self) -> dict[str, str]:
        """The header fields for the proxy."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


class Route(NamedTuple):
    """The way to an origin: its address, the TLS to speak with it, if any, and the proxy on the way, if any.

    A proxy forwards each request, or is asked once for a tunnel through which all of them go.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    has_tunnel: bool = False


class Connection:
    """A connection that never waits past `deadline`, which is set for each call.

    The deadline covers every address tried, the proxy's answer, each TLS handshake, sending and receiving, but not the
    name lookup: `getaddrinfo` cannot be interrupted.
    """

    deadline: Deadline
    sock: Any = None
    """A socket, or what behaves like one; `None` while there is no connection."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._silence = select.poll()

    def connect(self) -> None:
        """Connects. Raises `APITimeoutError` when it is late, and `ProxyError` where the proxy is at fault."""
        options = "`url` and `proxy`" if self._route.proxy else "`url`"
        call, self.deadline = self.deadline, self.deadline.to_connect(options)
        try:
            self._follow_route()
        except TimeoutError as error:  # by the system, or by an address's share of the time
            raise self.deadline.late() from error
        self.deadline = call
        self._silence.register(self.sock, select.POLLIN)

    def close(self) -> None:
        """Closes the connection; `connect` opens it again."""
        if self.sock is not None:
            self.sock.close()
            self.sock, self._silence = None, select.poll()

    @property
    def is_connected(self) -> bool:
        """Whether it is open, with nothing to read at any layer: that would be the peer's close, or excess data."""
        return self.sock is not None and not _has_pending(self.sock) and not self._silence.poll(0)

    def exchange(self, method: str, head: bytes, body: bytes | Upload) -> Answer:
        """Sends a request and reads its answer up to the body.

        Raises `ConnectionError` if the connection dies before a byte of the answer has come.
        """
        self.deadline.doing = "sending"
        sent, data = self._send(head, body)
        self.deadline.doing = "waiting for the answer"
        status, minor, fields, data = self._receive_head(data)
        self.deadline.doing = "reading the body"
        failed = status >= 500  # noqa: PLR2004 - HTTP's classes of status
        closing = (
            failed or "close" in fields.get("connection", "").lower()
        )  # uvicorn closes after a 500 without saying so
        reusable = sent and minor > 0 and not closing
        return status, fields, framed(method, status, fields, data, self._receive_rest), reusable

    def _send(self, head: bytes, body: bytes | Upload) -> tuple[bool, bytes]:
        """Sends a request; returns whether all of it was sent, and the bytes of an answer that came meanwhile."""
        try:
            self._apply_deadline()
            if isinstance(body, Upload):
                return self._send_rest(chain((head,), body))
            first = head + body[:PIECE]
            sent = self.sock.send(first)
            if sent == len(head) + len(body):
                return True, b""
            return self._send_rest((memoryview(first)[sent:], memoryview(body)[PIECE:]))
        except (ConnectionError, ssl.SSLError):
            return False, b""  # an answer may have arrived all the same, and say why

    def _send_rest(self, parts: Iterable[bytes | memoryview]) -> tuple[bool, bytes]:
        """Sends the rest and reads meanwhile: the peer may refuse a request (401, 413) before it has read all of it."""
        events = select.poll()
        events.register(self.sock, select.POLLIN | select.POLLOUT)
        early = b""
        for part in parts:
            rest = memoryview(part)
            while rest:
                happened = sum(event for _, event in events.poll(1000 * self.deadline.left()))
                if happened & ~select.POLLOUT:
                    early += self._read_early()
                    if early[9:10] not in (b"", b"1"):  # "HTTP/1.1 1xx": go on
                        return False, early
                if happened & select.POLLOUT:
                    self._apply_deadline()
                    rest = rest[self.sock.send(rest[:PIECE]) :]
        return True, early

    def _read_early(self) -> bytes:
        """Returns what can be read without blocking; nothing if that was a TLS record without data."""
        self.sock.settimeout(0)
        try:
            data: bytes = self.sock.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise ConnectionResetError("closed while the request was being sent")
        return data

    def _receive_head(self, data: bytes) -> tuple[int, int, dict[str, str], bytes]:
        """Returns status, minor version and fields of the final answer, and the bytes after its head.

        Interim answers (100, 103) are skipped. Raises `ReplyError` for what is not HTTP/1.1, and `TlsError` for TLS.
        """
        if not data and not (data := self._receive(_FIRST)):
            raise ConnectionResetError("closed before a byte of the answer")
        start = interim = 0
        while True:
            end = HEAD_END.search(data, start)
            if data[:1] in _TLS_RECORDS and data[1:2] in (b"", b"\x03"):
                raise TlsError("the answer is a TLS record")
            if not b"HTTP/1.".startswith(data[:7]) or (end.start() if end else len(data)) > MAX_HEAD:
                raise malformed(f"a head that starts with {data[:16]!r}")
            if not end:
                start = max(0, len(data) - 2)
                data += expected(self._receive_rest)
                continue
            status, minor, fields = parse_head(data[: end.start()])
            data, start, interim = data[end.end() :], 0, interim + end.end()
            if status >= 200:  # noqa: PLR2004 - HTTP's classes of status
                return status, minor, fields, data
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise malformed("a 101 that nobody asked for")
            if interim > MAX_HEAD:
                raise malformed("interim answers, and no final one")

    def _receive(self, most: int) -> bytes:
        """Returns the next bytes, at most `most`; none once the peer has closed the connection."""
        while True:
            self._apply_deadline()
            try:
                data: bytes = self.sock.recv(most)
            except TimeoutError:
                continue
            return data

    def _receive_rest(self) -> bytes:
        try:
            return self._receive(PIECE)
        except OSError as error:
            raise cut(str(error)) from error

    def _apply_deadline(self) -> None:
        """Sets the socket's timeout to the time left, unless it is within 5 % of it: setting it is a system call."""
        left = self.deadline.left()
        if not 0.95 * left <= (self.sock.gettimeout() or 0) <= 1.05 * left:
            self.sock.settimeout(left)

    def _follow_route(self) -> None:
        route, proxy = self._route, self._route.proxy
        if proxy is None:
            self._reach(route.host, route.port)
        else:
            try:
                self._reach(proxy.host, proxy.port)
                if proxy.tls:
                    self._secure(proxy.tls, proxy.host)
                if route.has_tunnel:
                    self._tunnel(route, proxy)
            except TimeoutError:
                raise
            except (OSError, UnicodeError) as error:
                raise ProxyError("no way through the proxy", error) from error
        if route.tls:
            self._secure(route.tls, route.host)

    def _reach(self, host: str, port: int) -> None:
        """Connects to the first address that answers; each gets an equal share of the time left."""
        _LOG.debug("connecting to %s, port %d", host, port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure = OSError("the name has no address")
        for untried, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            self.close()
            try:
                self.sock = socket.socket(family, kind, protocol)
                self.sock.settimeout(self.deadline.left() / untried)
                self.sock.connect(address)
            except OSError as error:
                failure = error
            else:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
        raise failure

    def _secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Starts TLS; the peer has to prove that it is `host`."""
        self._apply_deadline()
        name = host.partition("%")[0].rstrip(".")  # certificates have neither the zone of an address nor the root's dot
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock = NestedTls(self.sock, tls, name)
            else:
                self.sock = tls.wrap_socket(self.sock, server_hostname=name)
        except (
            ConnectionError
        ) as error:  # a reset is chance: the same close may be seen as an end, which is an `SSLError`
            raise ssl.SSLError("closed during the handshake") from error

    def _tunnel(self, route: Route, proxy: Proxy) -> None:
        """Asks the proxy for a tunnel to the origin (RFC 9110, section 9.3.6)."""
        authority = f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
        fields = Headers({"Host": authority} | proxy.fields)
        self._send(f"CONNECT {authority} HTTP/1.1\r\n{fields.text}\r\n".encode("latin-1"), b"")
        try:
            status, _, _, extra = self._receive_head(b"")
        except (CutError, ReplyError) as error:  # which are for rows, and the origin has not seen one
            raise NoTunnelError(f"CONNECT got no valid answer: {error.detail}") from None
        if not is_ok(status):
            raise NoTunnelError(f"CONNECT was answered with {status}")
        if extra:
            raise NoTunnelError("the proxy sent bytes of its own into the tunnel")


def _has_pending(sock: Any) -> bool:
    """Returns whether TLS holds bytes that `poll` does not see: it decrypts whole records at a time."""
    return isinstance(sock, _TLS) and sock.pending() > 0
