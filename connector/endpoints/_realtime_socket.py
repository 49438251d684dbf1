"""A WebSocket (RFC 6455) whose every wait ends at a deadline: the protocol is `websockets`', the waiting ours.

So a session costs no thread of its own, and what holds for HTTP calls holds here: one deadline, one set of errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from connector.base.decoding import loads
from connector.base.errors import ConnectorError, ReplyError
from connector.base.values import dumps
from connector.http.connection import Connection
from connector.http.http1 import HEAD_END, MAX_HEAD, PIECE, cut, framed, malformed, parse_head

SWITCHING: Final = 101
"""The status of a handshake that went well (RFC 6455, section 4.2.2)."""

_GOODBYE: Final = 0.2  # seconds that saying so may take


class Socket:
    """An open WebSocket that carries JSON objects. Set `deadline` anew for each call; it bounds every wait.

    Attributes:
        headers: The fields of the server's answer to the handshake, with lower-case names.
    """

    def __init__(
        self,
        connection: Connection,
        protocol: ClientProtocol,
        limit: int,
        translate: Callable[[Exception], ConnectorError],
        ended: Callable[[int, str], ConnectorError],
    ) -> None:
        self.deadline = connection.deadline
        self.headers: Mapping[str, str] = {}
        self._connection = connection
        self._protocol = protocol
        self._limit = limit
        self._lost = translate
        self._ended = ended
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []

    def send(self, *events: Mapping[str, Any]) -> None:
        """Sends events. That the server has gone shows when it is listened to: it may have said why."""
        try:
            for event in events:
                self._protocol.send_text(dumps(event))
        except InvalidState:
            return
        self._flush()

    def receive(self) -> dict[str, Any]:
        """The next event.

        Raises `APITimeoutError` at the deadline, `CutError` or what its code stands for if the socket was closed, and
        `ReplyError` for what is no event.
        """
        while not self._messages:
            self._check()
            self._feed(self.read())
        data = self._messages.popleft()
        try:
            event = loads(data)
        except ValueError as error:
            raise ReplyError("the session holds an event that is not JSON", detail=str(error)) from None
        if not isinstance(event, dict):
            raise ReplyError("the session holds an event that is not an object")
        return event

    def read(self) -> bytes:
        """The next bytes; none at the end of the connection."""
        sock = self._connection.sock
        while True:
            sock.settimeout(self.deadline.left())
            try:
                return bytes(sock.recv(PIECE))
            except TimeoutError:
                continue
            except OSError as error:
                raise self._lost(error) from error

    def start(self) -> tuple[int, Mapping[str, str], bytes]:
        """Sends the handshake: the status and fields that answer it, and the body where it is a refusal."""
        self._flush()
        data = b""
        while not (end := HEAD_END.search(data)):
            if not b"HTTP/1.".startswith(data[:7]) or len(data) > MAX_HEAD:
                raise malformed(f"a head that starts with {data[:16]!r}")
            piece = self.read()
            if not piece:
                error = ConnectionResetError("closed during the handshake")
                raise cut(str(error)) if data else self._lost(error)
            data += piece
        status, _, fields = parse_head(data[: end.start()])
        self.headers = fields
        if status != SWITCHING:
            return status, fields, self._body(status, fields, data[end.end() :])
        self._feed(data)
        if self._protocol.handshake_exc is not None:
            raise malformed(f"no WebSocket handshake: {self._protocol.handshake_exc}")
        self._lost = _cut
        return status, fields, b""

    def close(self) -> None:
        """Says goodbye, as far as that takes no time, and closes."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            with suppress(OSError):  # which says that it is gone already
                self._connection.sock.settimeout(_GOODBYE)
                self._connection.sock.sendall(b"".join(self._protocol.data_to_send()))
        self._connection.close()

    def _body(self, status: int, fields: Mapping[str, str], data: bytes) -> bytes:
        body = b""
        for piece in framed("GET", status, fields, data, self.read):
            body += piece
            if len(body) > self._limit:
                break
        return body

    def _check(self) -> None:
        """Raises why nothing more will come."""
        protocol, told = self._protocol, self._protocol.close_rcvd
        if told is not None:
            raise self._ended(told.code, told.reason)
        if isinstance(protocol.parser_exc, PayloadTooBig):
            raise ReplyError(f"the reply is larger than max_response_bytes = {self._limit}")
        if isinstance(protocol.parser_exc, EOFError):
            raise cut("the peer closed the connection")
        if protocol.parser_exc is not None:
            raise ReplyError("the server breaks the WebSocket protocol", detail=str(protocol.parser_exc))

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame) or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._messages.append(b"".join(self._parts))
                self._parts.clear()

    def _flush(self) -> None:
        rest = memoryview(b"".join(self._protocol.data_to_send()))
        sock = self._connection.sock
        try:
            while rest:
                sock.settimeout(self.deadline.left())
                rest = rest[sock.send(rest[:PIECE]) :]
        except ConnectionError:
            pass  # what the server said before it went can still be read
        except OSError as error:
            raise self._lost(error) from error


def _cut(error: Exception) -> ConnectorError:
    return cut(str(error))
