"""urllib3's connection pool with our own HTTP exchange. Only this module and `connection` use its private API.

No byte of one reply can leak into the next: a connection returns to the pool only at the exact end of a message, and is
checked again before it is reused.
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
    """A response whose head has been read. Has the attributes of urllib3's `HTTPResponse` that `requests` uses."""

    __slots__ = ("_body", "_release", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: Body, release: Callable[[bool], None]) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._release: Callable[[bool], None] | None = release

    def stream(self) -> Iterator[bytes]:
        """Yields the decoded body, once, in pieces as they arrive; the connection then returns to its pool.

        Raises `ReplyError` for a content coding that was not asked for and cannot be decoded.
        """
        coding = self.headers.get("content-encoding", "").lower()
        if coding in {"", "identity"}:
            return self._pieces()
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise ReplyError(f"the reply is compressed as {coding!r}, which was not asked for")
        return inflated(self._pieces(), coding)

    def whole(self) -> bytes | None:
        """Returns the body if it arrived with its head, as most do, and is not compressed; else `None`."""
        if not isinstance(self._body, bytes) or self.headers.get("content-encoding", "identity") != "identity":
            return None
        self._finish(clean=True)
        return self._body

    def close(self) -> None:
        """Closes the connection if the body has not been read to its end."""
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
    """The idle connections of a pool: a `queue.LifoQueue` without locks, as nobody ever waits for it.

    Python's own would take a tenth of a call's time.
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
        """Adds a connection. Raises `queue.Full` if there are `maxsize` already."""
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
        """Makes one exchange; repeats it on a new connection if a keep-alive one dies before a byte of its answer.

        A server may close an idle connection just as it is reused; the request was then most probably not read (RFC
        9112, section 9.3.1). If a new connection dies, the request may have been carried out, so the caller decides
        whether to repeat it (RFC 9110, section 9.2.2). `timeout.resent` counts the repeats; `timeout.is_once` forbids
        them.
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
        """Returns an idle connection that is still alive, or a new one, in four calls less than urllib3 makes."""
        del timeout  # nobody waits for one
        idle = self.pool  # read once: another thread may close the pool meanwhile
        if idle is None:
            raise ClosedPoolError(self, "Pool is closed.")
        try:
            conn: Connection | None = idle.get()
        except Empty:
            conn = None
        if conn is None:  # urllib3 fills a new pool with `None`
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
