"""One HTTP/1.1 exchange inside urllib3's pool: its connecting, TLS, proxies and pooling are kept, the rest is short.

This is the one room that goes below the public API of requests and urllib3. A common call costs one send and one
receive. Bytes are framed by RFC 9112, and no byte of one reply can leak into the next: a connection returns to the pool
only at a clean message boundary, and is looked at once more before it is used again.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProxyError
from urllib3.util import Timeout
from urllib3.util.ssltransport import SSLTransport

from connector.errors import APITimeoutError, ConfigError, CutError, Problem, ReplyError

PIECE: Final = 1 << 16
"""The most bytes that one receive, or one step of decompression, hands on."""

MAX_HEAD: Final = 1 << 16
MAX_FIELDS: Final = 256

Receive: TypeAlias = Callable[[], bytes]
"""Waits for bytes; empty at the end of the connection."""

Body: TypeAlias = Generator[bytes, None, bool]
"""Pieces of a body as they come; returns whether the connection then stands exactly at the end of the message."""

Answer: TypeAlias = tuple[int, dict[str, str], Body, bool]
"""Status, fields (lower-case names), body, and whether the connection may serve again after it."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?![^ \r\n])")
_LENGTH = re.compile(r"([0-9]{1,18})(?:[ \t]*,[ \t]*\1)*")
_FOLD = re.compile(r"\r?\n[ \t]+")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK = re.compile(rb"\r?\n([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class Deadline(Timeout):
    """When a whole call must have ended: `total` seconds from now, at most `connect` of them for each connection."""

    def __init__(
        self, total: float, connect: float | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(total=total, connect=connect)
        self.message = "no complete reply within {:.3g} s: raise config.timeout, or ask for a shorter reply"
        self.doing = "starting"
        self._seconds = total
        self._for_connection = connect or total
        self._monotonic = monotonic
        self._end = monotonic() + total

    def left(self) -> float:
        """Seconds left, more than zero; raises `APITimeoutError` when there are none."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise APITimeoutError(self.message.format(self._seconds), detail=f"while {self.doing}")
        return left

    def to_connect(self) -> Deadline:
        """The deadline of one connection: `connect` seconds from now, or this one's end if that is sooner."""
        left, most = self.left(), self._for_connection
        part = Deadline(min(left, most), monotonic=self._monotonic)
        option = "connect_timeout" if most < left else "timeout"
        part.message = f"no connection within {{:.3g}} s: check host and port in `url`, or raise config.{option}"
        part.doing = "connecting"
        return part


class Headers(CaseInsensitiveDict[str]):
    """The fields sent with a request, and once and for all their text on the wire; they never show in a repr.

    Raises `ConfigError` for a name or value that RFC 9110 section 5 does not allow, a line break above all.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(fields)
        problem = "has a line break or another character that no header may have: remove it"
        if not all(map(_TOKEN.fullmatch, self)):
            raise ConfigError([Problem("headers", f"a name {problem}")])
        for name, value in self.items():
            if not _FIELD_VALUE.fullmatch(value):
                raise ConfigError([Problem(f"headers.{name}", problem)])
        self.text = "".join([f"{name}: {value}\r\n" for name, value in self.items()])

    def __repr__(self) -> str:
        return f"<{len(self)} headers>"


def malformed(what: str) -> ReplyError:
    """The error for bytes that are no HTTP/1.1 reply."""
    return ReplyError("the answer is not valid HTTP: check host, port and http or https in `url`", detail=what)


def cut(what: str) -> CutError:
    """The error for a reply that ends too soon."""
    return CutError("the connection was lost before the reply was complete", detail=what)


def parse_head(head: bytes) -> tuple[int, int, dict[str, str]]:
    """The status, the minor version and the fields (lower-case names) of a head without its empty line.

    RFC 9112 sections 2.2, 4 and 5: a bare LF ends a line too, folded lines are unfolded, repeated fields are joined by
    commas. A line without a colon is left out, as browsers do. Raises `ReplyError` for what is no head at all.
    """
    text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    first, *lines = text.split("\n")
    if not (status := _STATUS_LINE.match(first)):
        raise malformed("the status line")
    if len(lines) > MAX_FIELDS:
        raise malformed(f"more than {MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name = name.rstrip(" \t").lower()
            value = value.strip(" \t\r")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return int(status[2]), int(status[1]), fields


def _expected(receive: Receive) -> bytes:
    if not (data := receive()):
        raise cut("the peer closed the connection")
    return data


def framed(method: str, status: int, fields: Mapping[str, str], data: bytes, receive: Receive) -> Body:
    """The body behind a head, by the rules of RFC 9112 section 6.3; `data` is what has come of it."""
    if method == "HEAD" or status in {204, 304}:
        return sized(data, 0, receive)
    coding = fields.get("transfer-encoding", "").lower()
    if coding == "chunked":
        return chunked(data, receive)
    if coding not in {"", "identity"}:
        raise malformed(f"transfer-encoding {coding!r}")
    if "content-length" not in fields:
        return until_close(data, receive)
    if not (length := _LENGTH.fullmatch(fields["content-length"])):
        raise malformed("content-length")
    return sized(data, int(length[1]), receive)


def sized(data: bytes, size: int, receive: Receive) -> Body:
    """A body of `size` bytes that starts with `data`; raises `CutError` if fewer come."""
    while len(data) < size:
        if data:
            yield data
            size -= len(data)
        data = _expected(receive)
    if size:
        yield data[:size]
    return len(data) == size


def until_close(data: bytes, receive: Receive) -> Body:
    """A body that ends where the connection does; whether it was cut cannot be seen here."""
    data = data or receive()
    while data:
        yield data
        data = receive()
    return False


def chunked(data: bytes, receive: Receive) -> Body:
    """A chunked body, RFC 9112 section 7.1: extensions and trailers are read over.

    All the chunks that have arrived are handed on together, and before waiting for more. Raises `CutError` if the
    connection ends before the last chunk, `ReplyError` for a size that is none.
    """
    data = b"\r\n" + data  # so that every size line, the first too, follows a line end
    at = left = 0
    ready: list[bytes] = []
    while True:
        if left:
            ready.append(data[at : at + left])
            at += len(ready[-1])
            left -= len(ready[-1])
        if not left and (line := _CHUNK.match(data, at)):
            at, left = line.end(), int(line[1], 16)
            if left:
                continue
            break
        if ready:
            yield b"".join(ready)
            ready.clear()
        if not left and (b"\n" in data[at + 2 :] or len(data) - at > MAX_HEAD):
            raise malformed("the size of a chunk")
        data, at = data[at:] + _expected(receive), 0
    if ready:
        yield b"".join(ready)
    tail = b"\n" + data[at:]
    while not (end := _HEAD_END.search(tail)):
        if len(tail) > MAX_HEAD or not (more := receive()):
            return False  # complete all the same: the last chunk has come (RFC 9112 section 8)
        tail += more
    return end.end() == len(tail)


def inflated(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Decompress gzip (of any number of members) or deflate (with or without its zlib header) as it comes.

    A step never makes more than `PIECE` bytes, however much is packed into a few. Raises `CutError` if the data ends
    before its end and `ReplyError` if it is damaged.
    """
    engine = None
    for piece in pieces:
        data, full = piece, False
        while data or full:
            if engine is None or engine.eof:
                zlib_header = data[0] & 0x0F == zlib.DEFLATED  # RFC 1950 section 2.2; no raw block starts like this
                engine = zlib.decompressobj(31 if coding.endswith("gzip") else 15 if zlib_header else -15)
            try:
                text = engine.decompress(data, PIECE)
            except zlib.error as error:
                raise ReplyError(f"the reply cannot be decompressed ({coding})", detail=str(error)) from error
            if text:
                yield text
            data = engine.unconsumed_tail or engine.unused_data
            full = len(text) == PIECE and not engine.eof
    if engine is not None and not engine.eof:
        raise cut("compressed data without its end")


class Connection(HTTPConnection):
    """A connection whose every wait ends at `deadline`, which is set anew for each call.

    So are bounded: each address that is tried, the proxy's answer, the TLS handshake, sending and receiving. Not
    bounded are the name lookup (`getaddrinfo` cannot be interrupted) and a handshake that trickles inside a TLS proxy.
    """

    deadline: Deadline
    _silence: select.poll

    def connect(self) -> None:
        """Connect, through the proxy and with TLS where the pool says so."""
        call, self.deadline = self.deadline, self.deadline.to_connect()
        try:
            super().connect()
        except TimeoutError:
            self.deadline.left()
            raise
        self.deadline = call
        self._silence = select.poll()
        self._silence.register(self.sock, select.POLLIN)

    @property
    def is_connected(self) -> bool:
        """Open and silent: an idle connection with something to read was closed, or holds bytes nobody asked for."""
        return self.sock is not None and not self._silence.poll(0)

    def exchange(self, method: str, head: bytes, body: bytes) -> Answer:
        """Send a request and read its answer up to the body.

        Raises `ConnectionError` if the connection dies before a byte of the answer has come.
        """
        self.deadline.doing = "sending"
        sent, data = self._send(head, body)
        self.deadline.doing = "waiting for the answer"
        status, minor, fields, data = self._receive_head(data)
        self.deadline.doing = "reading the body"
        failed = status >= 500  # noqa: PLR2004 - HTTP's classes of status
        closing = failed or "close" in fields.get("connection", "").lower()  # uvicorn closes after a 500, not saying so
        reusable = sent and minor > 0 and not closing
        return status, fields, framed(method, status, fields, data, self._receive_rest), reusable

    def _send(self, head: bytes, body: bytes) -> tuple[bool, bytes]:
        """Send a request, a small one in one piece: whether all of it went out, and what was answered before that."""
        first = head + body[:PIECE]
        try:
            self._be_patient()
            sent = self.sock.send(first)
            if sent == len(head) + len(body):
                return True, b""
            return self._send_rest(memoryview(first)[sent:], memoryview(body)[PIECE:])
        except (ConnectionError, ssl.SSLError):
            return False, b""  # the answer may have come all the same, and say why

    def _send_rest(self, *parts: memoryview) -> tuple[bool, bytes]:
        """Send on with an ear for the peer, which may refuse a request (401, 413) before it has taken all of it."""
        events = select.poll()
        events.register(self.sock, select.POLLIN | select.POLLOUT)
        early = b""
        for part in parts:
            rest = part
            while rest:
                happened = sum(event for _, event in events.poll(1000 * self.deadline.left()))
                if happened & ~select.POLLOUT:
                    early += self._overhear()
                    if early[9:10] not in (b"", b"1"):  # "HTTP/1.1 1xx": go on
                        return False, early
                if happened & select.POLLOUT:
                    self._be_patient()
                    rest = rest[self.sock.send(rest[:PIECE]) :]
        return True, early

    def _overhear(self) -> bytes:
        """What can be read without waiting; nothing if it was only TLS talking to itself."""
        self.sock.settimeout(0)
        try:
            if data := self.sock.recv(PIECE):
                return data
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        raise ConnectionResetError("closed while the request was being sent")

    def _receive_head(self, data: bytes) -> tuple[int, int, dict[str, str], bytes]:
        """The head of the final answer (a 100 or 103 may come before it), and the bytes that came behind it."""
        if not data and not (data := self._receive()):
            raise ConnectionResetError("closed before a byte of the answer")
        start = 0
        while True:
            end = _HEAD_END.search(data, start)
            if not b"HTTP/1.".startswith(data[:7]) or (end.start() if end else len(data)) > MAX_HEAD:
                raise malformed(f"a head that starts with {data[:16]!r}")
            if not end:
                start = max(0, len(data) - 2)
                data += _expected(self._receive_rest)
                continue
            status, minor, fields = parse_head(data[: end.start()])
            data, start = data[end.end() :], 0
            if status >= 200:  # noqa: PLR2004 - HTTP's classes of status
                return status, minor, fields, data
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise malformed("a 101 that nobody asked for")

    def _receive(self) -> bytes:
        """The next bytes, at most `PIECE`; none when the peer has closed."""
        while True:
            self._be_patient()
            try:
                return self.sock.recv(PIECE)
            except TimeoutError:
                continue

    def _receive_rest(self) -> bytes:
        try:
            return self._receive()
        except OSError as error:
            raise cut(str(error)) from error

    def _be_patient(self) -> None:
        """Let the socket wait for what is left of the deadline, give or take 5 %: a change costs a system call."""
        left = self.deadline.left()
        if not 0.95 * left <= (self.sock.gettimeout() or 0) <= 1.05 * left:
            self.sock.settimeout(left)

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; each gets an equal share of the time left."""
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        failure = OSError("the name has no address")
        for untried, (*_, address) in zip(range(len(found), 0, -1), found, strict=True):
            try:
                self.sock = socket.create_connection((str(address[0]), self.port), self.deadline.left() / untried)
            except OSError as error:
                failure = error
            else:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._be_patient()
                return self.sock
        raise failure

    def _tunnel(self) -> None:
        """Ask the proxy for a tunnel to the endpoint, RFC 9110 section 9.3.6."""
        host, port = str(self._tunnel_host), self._tunnel_port
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        fields = Headers({"Host": authority} | self._tunnel_headers)  # type: ignore[attr-defined]  # of `http.client`
        try:
            self._send(f"CONNECT {authority} HTTP/1.1\r\n{fields.text}\r\n".encode("latin-1"), b"")
            status, _, _, extra = self._receive_head(b"")
        except OSError as error:
            raise ProxyError("no tunnel", error) from error
        if not 200 <= status < 300 or extra:  # noqa: PLR2004 - HTTP's class of success
            raise ProxyError("no tunnel", OSError(f"CONNECT was answered with {status}"))


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS."""

    @property
    def is_connected(self) -> bool:
        """As above; in a tunnel through a TLS proxy, bytes can also wait where `poll` does not see them."""
        return super().is_connected and not (isinstance(self.sock, SSLTransport) and self.sock.incoming.pending)


class Reply:
    """An answer whose head has been read; the rest of its surface is as urllib3's `HTTPResponse` has it."""

    __slots__ = ("_body", "_release", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: Body, release: Callable[[bool], None]) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._release: Callable[[bool], None] | None = release

    def stream(self) -> Iterator[bytes]:
        """The body, once, decoded, in pieces as they come. Behind the last one the connection returns to its pool."""
        coding = self.headers.get("content-encoding", "").lower()
        if coding in {"", "identity"}:
            return self._pieces()
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise ReplyError(f"the reply is compressed as {coding!r}, which was not asked for")
        return inflated(self._pieces(), coding)

    def close(self) -> None:
        """Give up what has not been read, and the connection with it."""
        self._finish(clean=False)

    def _pieces(self) -> Iterator[bytes]:
        clean = yield from self._body
        self._finish(clean=clean)

    def _finish(self, *, clean: bool) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            release(clean)


class Pool(HTTPConnectionPool):
    """urllib3's pool with this module's exchange in place of its own."""

    ConnectionCls = Connection

    def urlopen(  # type: ignore[override]  # all that `HTTPAdapter.send` passes, and no more
        self, method: str, url: str, body: bytes | None, headers: Headers, timeout: Deadline, **_: object
    ) -> Reply:
        """One exchange; what dies before a byte of its answer is sent once more, at once and on a fresh connection."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {url} HTTP/1.1\r\n{headers.text}{length}\r\n".encode("latin-1")
        conn: Connection = self._get_conn()  # type: ignore[assignment]  # of `ConnectionCls`
        conn.deadline = timeout
        try:
            if conn.is_closed:
                self._open(conn, tunnel=url.startswith("/"))
            try:
                status, fields, content, reusable = conn.exchange(method, head, body or b"")
            except ConnectionError:
                conn.close()
                self._open(conn, tunnel=url.startswith("/"))
                status, fields, content, reusable = conn.exchange(method, head, body or b"")
        except BaseException:
            self._give_back(conn, reusable=False, clean=False)
            raise
        return Reply(status, fields, content, partial(self._give_back, conn, reusable))

    def _open(self, conn: Connection, *, tunnel: bool) -> None:
        try:
            if tunnel and self.proxy:
                self._prepare_proxy(conn)
            else:
                conn.connect()
        except OSError as error:
            if self.proxy and not conn.has_connected_to_proxy:
                raise ProxyError("no connection to the proxy", error) from error
            raise

    def _give_back(self, conn: Connection, reusable: bool, clean: bool) -> None:
        if not (reusable and clean):
            conn.close()
        self._put_conn(conn)


class TlsPool(Pool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = TlsConnection


POOLS: Final = {"http": Pool, "https": TlsPool}
"""For `PoolManager.pool_classes_by_scheme`."""
