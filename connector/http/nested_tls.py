"""TLS within the TLS of a proxy, which `SSLContext.wrap_socket` cannot do."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from connector.http.http1 import PIECE

_Done = TypeVar("_Done")


class NestedTls:
    """TLS over a socket that speaks TLS already, with those methods of an `SSLSocket` that a connection uses.

    As there, the timeout bounds each method as a whole, however often it waits; 0 is not to wait at all. Raises
    `SSLError` if the peer cannot prove that it is `host`.
    """

    def __init__(self, outer: ssl.SSLSocket, tls: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._timeout = outer.gettimeout() or 0.0
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unsent = bytearray()
        self._tls = tls.wrap_bio(self._received, self._encrypted, server_hostname=host)
        self._complete(self._tls.do_handshake)

    def recv(self, most: int) -> bytes:
        """Returns the next bytes, at most `most`; none once the peer has closed the connection."""
        try:
            return self._complete(partial(self._tls.read, most))
        except ssl.SSLEOFError:
            return b""

    def send(self, data: bytes | memoryview) -> int:
        """Sends bytes and returns how many."""
        return self._complete(partial(self._tls.write, data))

    def sendall(self, data: bytes) -> None:
        """Sends bytes."""
        self.send(data)

    def pending(self) -> int:
        """Returns how many bytes either layer holds, which `poll` does not see."""
        return self._tls.pending() + self._received.pending + self._outer.pending()

    def fileno(self) -> int:
        """Returns the descriptor of the socket."""
        return self._outer.fileno()

    def settimeout(self, seconds: float) -> None:
        """Sets the timeout."""
        self._timeout = seconds

    def gettimeout(self) -> float:
        """Returns the timeout."""
        return self._timeout

    def close(self) -> None:
        """Closes the socket."""
        self._outer.close()

    def _complete(self, step: Callable[[], _Done]) -> _Done:
        """Takes a step of the inner TLS, and moves bytes between it and the outer TLS until the step is complete."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush(end)
                self._wait_until(end)
                if data := self._outer.recv(PIECE):
                    self._received.write(data)
                else:
                    self._received.write_eof()
            else:
                self._flush(end)
                return done

    def _flush(self, end: float) -> None:
        self._unsent += self._encrypted.read()
        while self._unsent:
            self._wait_until(end)
            del self._unsent[: self._outer.send(self._unsent)]

    def _wait_until(self, end: float) -> None:
        left = end - time.monotonic()
        if self._timeout and left <= 0:
            raise TimeoutError("the TLS within a proxy's TLS did not get on in time")
        self._outer.settimeout(max(left, 0))
