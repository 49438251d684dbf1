"""urllib3's pool with our own HTTP exchange. Only this module and `connection` use its private API.

No byte of one reply can leak into the next: a connection returns to the pool only at the exact end of a message, and is
checked once more before it is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, Full
from typing import Final

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError, ProxyError

from connector.base.errors import ReplyError
from connector.http.connection import Connection, TlsConnection
from connector.http.deadline import Deadline
from connector.http.http1 import Body, Headers, cut, inflated, pieces
from connector.http.upload import Upload


class RawResponse:
    """A response whose head has been read; what `requests` uses of it is as in urllib3's `HTTPResponse`."""

    __slots__ = ("_body", "_release", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: Body, release: Callable[[bool], None]) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._release: Callable[[bool], None] | None = release

    def stream(self) -> Iterator[bytes]:
        """Yields the decoded body, once, in pieces as they come. The connection then returns to its pool."""
        coding = self.headers.get("content-encoding", "").lower()
        if coding in {"", "identity"}:
            return self._pieces()
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise ReplyError(f"the reply is compressed as {coding!r}, which was not asked for")
        return inflated(self._pieces(), coding)

    def whole(self) -> bytes | None:
        """Returns the body at once where it came with its head, as most do, and is not compressed; else `None`."""
        if not isinstance(self._body, bytes) or self.headers.get("content-encoding", "identity") != "identity":
            return None
        self._finish(clean=True)
        return self._body

    def close(self) -> None:
        """Gives up what has not been read, and the connection with it."""
        if self._release is not None:
            self._finish(clean=False)

    def _pieces(self) -> Iterator[bytes]:
        clean = yield from pieces(self._body)
        self._finish(clean=clean)

    def _finish(self, *, clean: bool) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            release(clean)


class _Idle:
    """The connections of a pool that are not in use, as a `queue.LifoQueue` that nobody waits at: it needs no locks.

    Python's own takes a tenth of what a call costs.
    """

    def __init__(self, maxsize: int) -> None:
        self._connections: list[object] = []  # whose `pop` and `append` are atomic
        self._most = maxsize

    def get(self, block: bool = False, timeout: float | None = None) -> object:
        """Returns the connection that was used last. Raises `queue.Empty` if there is none."""
        del block, timeout
        try:
            return self._connections.pop()
        except IndexError:
            raise Empty from None

    def put(self, item: object, block: bool = False) -> None:
        """Adds a connection. Raises `queue.Full` if there are enough."""
        del block
        if len(self._connections) >= self._most:
            raise Full
        self._connections.append(item)

    def qsize(self) -> int:
        """Returns how many there are."""
        return len(self._connections)


class Pool(HTTPConnectionPool):
    """urllib3's pool with this module's exchange in place of its own."""

    ConnectionCls = Connection
    QueueCls = _Idle  # type: ignore[assignment]  # what urllib3 calls of it

    def urlopen(  # type: ignore[override]  # all that `HTTPAdapter.send` passes, and no more
        self, method: str, url: str, body: bytes | Upload | None, headers: Headers, timeout: Deadline, **_: object
    ) -> RawResponse:
        """Makes one exchange; if a kept connection dies before a byte of its answer, once more on a new one.

        A server may close a connection that is idle just when it is used again: the request was then most probably not
        read (RFC 9112, section 9.3.1). On a new connection the request may have been carried out, so whether to repeat
        it is for the caller to decide (RFC 9110, section 9.2.2). `timeout.resent` counts what was sent again, and
        `timeout.is_once` says that nothing may be.
        """
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {url} HTTP/1.1\r\n{headers.text}{length}\r\n".encode("latin-1")
        conn = self._get_conn()
        conn.deadline = timeout
        try:
            is_new = conn.is_closed
            if is_new:
                self._open(conn, tunnel=url.startswith("/"))
            try:
                status, fields, content, reusable = conn.exchange(method, head, body or b"")
            except ConnectionError:
                if is_new or timeout.is_once:
                    raise
                conn.close()
                timeout.resent += 1
                self._open(conn, tunnel=url.startswith("/"))
                status, fields, content, reusable = conn.exchange(method, head, body or b"")
            except ReplyError as error:
                if is_new:
                    raise
                raise cut(f"no answer, but what an earlier one had behind it: {error.detail}") from error
        except BaseException:
            self._give_back(conn, reusable=False, clean=False)
            raise
        return RawResponse(status, fields, content, partial(self._give_back, conn, reusable))

    def _get_conn(self, timeout: float | None = None) -> Connection:
        """Returns a connection that is open and silent, or a new one. urllib3's own way there takes four calls more."""
        del timeout  # nobody waits for one
        idle = self.pool  # which another thread may take away meanwhile
        if idle is None:
            raise ClosedPoolError(self, "Pool is closed.")
        try:
            conn: Connection | None = idle.get()
        except Empty:
            conn = None
        if conn is None:  # as urllib3 fills the pool with
            return self._new_conn()  # type: ignore[return-value]  # of `ConnectionCls`
        if not conn.is_connected:
            conn.close()
        return conn

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
