"""WebSockets (RFC 6455) that connect as HTTP calls do and never wait past a deadline.

Headers, TLS, proxy, certificates and errors are those of HTTP calls, so a config means the same for both. The library
`websockets` speaks the protocol without I/O; reading and waiting happen here, so that a session needs no thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from connector.base import numbers
from connector.base.clock import Clock
from connector.base.decoding import TOO_DEEP, Allowance, DepthError, loads
from connector.base.errors import ConfigError, ConnectorError, NotFoundError, Problem, ReplyError
from connector.base.masking import Masker
from connector.base.records import is_ok
from connector.base.regex import regex
from connector.base.values import dumps
from connector.endpoints._realtime_errors import error_of_close
from connector.http.auth import Fields
from connector.http.connection import Connection
from connector.http.deadline import Deadline
from connector.http.http1 import HEAD_END, MAX_HEAD, PIECE, cut, framed, malformed, parse_head, pieces
from connector.http.network_errors import explain
from connector.http.preparing import Preparer, Request, Settings, address_of
from connector.replies.refusals import error_of

KEY: Final = "openai-insecure-api-key"
"""The header name for `auth` that sends the key as a subprotocol instead, as browsers do."""

_TOKEN: Final = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_WEBSOCKET: Final = "{} answers, but opens no WebSocket (HTTP {}): check url, which has to end in /v1/realtime"
_LEFT_OUT: Final = frozenset({"accept", "accept-encoding", "proxy-authorization", KEY})
_SILENT: Final = logging.getLogger(f"{__name__}.frames")
_SILENT.disabled = True  # the library's debug log would show the key

SWITCHING: Final = 101
"""The status of a handshake that succeeded (RFC 6455, section 4.2.2)."""

_FEW, _SMALLEST = 1000, 32  # frames of a call that may be smaller, as no event is, and how much
_GOODBYE: Final = 0.2  # seconds for sending the close frame


class Socket:
    """An open WebSocket that carries JSON objects. `begin` starts each call and bounds its time and size.

    Attributes:
        headers: The header fields of the server's answer to the handshake, with names in lower case.
    """

    def __init__(
        self,
        connection: Connection,
        protocol: ClientProtocol,
        limit: int,
        translate: Callable[[Exception], ConnectorError],
        error_of_close: Callable[[int, str], ConnectorError],
    ) -> None:
        self.headers: Mapping[str, str] = {}
        self._connection = connection
        self._protocol = protocol
        self._limit = limit
        self._error_of = translate
        self._error_of_close = error_of_close
        self._messages: deque[bytes] = deque()
        self._part = bytearray()  # of an incomplete message: it takes no more memory than what has arrived
        self.begin(connection.deadline)

    def begin(self, deadline: Deadline) -> None:
        """Begins a call: `deadline` bounds its waits, and the limit the total of all that it receives."""
        self.deadline = deadline
        self._left = self._limit
        self._spare = _FEW
        self._allowance = Allowance(self._limit)

    @property
    def taken(self) -> int:
        """About how many bytes of memory the events of this call take."""
        return self._allowance.taken

    def send(self, *events: Mapping[str, Any]) -> None:
        """Sends events. If the server has gone, `receive` raises the reason, which may have arrived before."""
        try:
            for event in events:
                self._protocol.send_text(dumps(event))
        except InvalidState:
            return
        self._flush()

    def receive(self) -> dict[str, Any]:
        """Returns the next event.

        Raises:
            APITimeoutError: The deadline has passed.
            ConnectorError: The server closed the socket; its close code decides which error that is.
            ReplyError: The message is not an event, or the events of the call exceed the limit, or take far more
                memory than that once they are decoded.
        """
        while not self._messages:
            self._check()
            self._feed(self.read())
        data = self._messages.popleft()
        self._left -= len(data)
        if self._left < 0:
            raise self._too_large()
        self._allowance.take(data)
        try:
            event = loads(data, numbers.loads)
        except DepthError as error:
            raise ReplyError(TOO_DEEP, detail=str(error)) from None
        except ValueError as error:
            raise ReplyError("the session holds an event that is not JSON", detail=str(error)) from None
        if not isinstance(event, dict):
            raise ReplyError("the session holds an event that is not an object")
        return event

    def read(self) -> bytes:
        """Returns the next bytes; empty at the end of the connection."""
        sock = self._connection.sock
        while True:
            sock.settimeout(self.deadline.left())
            try:
                return bytes(sock.recv(PIECE))
            except TimeoutError:
                continue
            except OSError as error:
                raise self._error_of(error) from error

    def start(self) -> tuple[int, Mapping[str, str], bytes]:
        """Sends the handshake; returns the status and header fields of the answer, and the body of a refusal."""
        self._flush()
        data = b""
        while not (end := HEAD_END.search(data)):
            if not b"HTTP/1.".startswith(data[:7]) or len(data) > MAX_HEAD:
                raise malformed(f"a head that starts with {data[:16]!r}")
            piece = self.read()
            if not piece:
                error = ConnectionResetError("closed during the handshake")
                raise cut(str(error)) if data else self._error_of(error)
            data += piece
        status, _, fields = parse_head(data[: end.start()])
        self.headers = fields
        if status != SWITCHING:
            return status, fields, self._body(status, fields, data[end.end() :])
        self._feed(data)
        if self._protocol.handshake_exc is not None:
            raise malformed(f"no WebSocket handshake: {self._protocol.handshake_exc}")
        self._error_of = _cut
        return status, fields, b""

    def close(self) -> None:
        """Closes the socket, with a close frame if that can be sent at once."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            with suppress(OSError):  # the server has gone already
                self._connection.sock.settimeout(_GOODBYE)
                self._connection.sock.sendall(b"".join(self._protocol.data_to_send()))
        self._connection.close()

    def _body(self, status: int, fields: Mapping[str, str], data: bytes) -> bytes:
        body = b""
        for piece in pieces(framed("GET", status, fields, data, self.read)):
            body += piece
            if len(body) > self._limit:
                break
        return body

    def _check(self) -> None:
        """Raises the error that ended the session, if one did."""
        protocol, close = self._protocol, self._protocol.close_rcvd
        if close is not None:
            raise self._error_of_close(close.code, close.reason)
        if isinstance(protocol.parser_exc, PayloadTooBig):
            raise self._too_large()
        if isinstance(protocol.parser_exc, EOFError):
            raise cut("the peer closed the connection")
        if protocol.parser_exc is not None:
            raise ReplyError("the server breaks the WebSocket protocol", detail=str(protocol.parser_exc))

    def _too_large(self) -> ReplyError:
        return ReplyError(f"the reply is larger than max_response_bytes = {self._limit}")

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame):
                continue
            self._spare += len(frame.data) // _SMALLEST - 1
            if self._spare < 0:
                raise ReplyError("the server sends frames with hardly a byte in them, which take long by their number")
            if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            self._part += frame.data
            if frame.fin:
                self._messages.append(bytes(self._part))
                self._part.clear()

    def _flush(self) -> None:
        rest = memoryview(b"".join(self._protocol.data_to_send()))
        sock = self._connection.sock
        try:
            while rest:
                sock.settimeout(self.deadline.left())
                rest = rest[sock.send(rest[:PIECE]) :]
        except ConnectionError:
            pass  # what the server sent before it went can still be read
        except OSError as error:
            raise self._error_of(error) from error


def _cut(error: Exception) -> ConnectorError:
    return cut(str(error))


class Dialer:
    """Opens WebSockets to one endpoint, with the settings of HTTP calls."""

    def __init__(self, settings: Settings, url: str, mask: Masker, clock: Clock) -> None:
        self._settings = settings
        self._preparer = Preparer(settings)
        self._url = url
        self._mask = mask
        self._clock = clock
        self._proxy = address_of(settings.proxy) if settings.proxy else ""
        _subprotocols({**dict(settings.auth.settled), **settings.headers})

    def open(self, query: Mapping[str, str], identity: Fields, deadline: Deadline) -> Socket:
        """Opens a WebSocket; `query` is added to the URL's parameters, and `identity` holds the authentication fields.

        Raises:
            ConnectorError: There is no connection, or the server refuses with an HTTP status.
        """
        parts = urlsplit(self._url)
        added = {name: value for name, value in query.items() if name not in parse_qs(parts.query)}
        full = parts._replace(query="&".join(filter(None, (parts.query, urlencode(added))))).geturl()
        request = self._preparer.prepared("GET", full, "", identity)
        translate = partial(explain, peer=request.address, proxy=self._proxy)
        connection = self._connected(request, deadline, translate)
        try:
            protocol = self._protocol(request)
            socket = Socket(connection, protocol, self._settings.max_response_bytes, translate, self._closed)
            status, fields, body = socket.start()
        except BaseException:
            connection.close()
            raise
        if status != SWITCHING:
            connection.close()
            if is_ok(status):
                raise NotFoundError(_NO_WEBSOCKET.format(request.address, status), http_status=status)
            raise error_of(status, fields, body, now=self._clock.time(), mask=self._mask)
        return socket

    def close(self) -> None:
        """Closes what all connections share."""
        self._preparer.close()

    def _connected(
        self, request: Request, deadline: Deadline, translate: Callable[[Exception], ConnectorError]
    ) -> Connection:
        """Connects as the pool of HTTP calls does. A proxy is asked for a tunnel (RFC 6455, section 4.1)."""
        route = request.pool.route
        connection = Connection(route._replace(has_tunnel=route.proxy is not None))
        connection.deadline = deadline
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            connection.close()
            raise translate(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _protocol(self, request: Request) -> ClientProtocol:
        uri = parse_uri(f"ws{request.url.removeprefix('http')}")
        protocol = ClientProtocol(
            uri, subprotocols=_subprotocols(request.headers), max_size=self._settings.max_response_bytes, logger=_SILENT
        )
        hello = protocol.connect()
        del hello.headers["Host"]
        for name, value in request.headers.items():
            if name.lower() not in _LEFT_OUT and name not in hello.headers:
                hello.headers[name] = value
        protocol.send_request(hello)
        return protocol

    def _closed(self, code: int, reason: str) -> ConnectorError:
        return error_of_close(code, reason, {}, now=self._clock.time(), mask=self._mask)


def _subprotocols(headers: Mapping[str, str]) -> list[Subprotocol] | None:
    """Returns the subprotocols to offer if a header sends the key that way. Raises `ConfigError` for an unfit key."""
    key = next((value for name, value in headers.items() if name.lower() == KEY), None)
    if key is not None and not _TOKEN.fullmatch(key):
        raise ConfigError([Problem("auth", f"{KEY} needs a key that consists of letters, digits and - . _ ~ only")])
    return [Subprotocol("realtime"), Subprotocol(f"{KEY}.{key}")] if key else None
