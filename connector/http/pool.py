"""Pools of connections, and the exchanges over them.

No byte of one reply can leak into the next: a connection returns to the pool only at the exact end of a message, and is
checked again before it is reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from connector.base.errors import ReplyError
from connector.http.connection import Connection, Route
from connector.http.deadline import Deadline
from connector.http.http1 import Body, Headers, cut, inflated, pieces
from connector.http.upload import Upload


class RawResponse:
    """A response whose head has been read. Its body is read once, whole or as a stream."""

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
        told = self.headers.get("content-encoding", "")  # shown as it is: a key in another case would not be masked
        coding = told.lower()
        if coding in {"", "identity"}:
            return self._pieces()
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise ReplyError(f"the reply is compressed as {told!r}, which was not asked for")
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


class Pool:
    """The connections to one origin: as many as are needed at once, of which at most `size` are kept while idle."""

    def __init__(self, route: Route, size: int) -> None:
        self.route = route
        self._size = size
        self._idle: list[Connection] = []  # whose `pop` and `append` are atomic: a lock would take a tenth of a call

    def exchange(
        self, method: str, target: str, headers: Headers, body: bytes | Upload | None, deadline: Deadline
    ) -> RawResponse:
        """Makes one exchange; repeats it on a new connection if a keep-alive one dies before a byte of its answer.

        A server may close an idle connection just as it is reused; the request was then most probably not read (RFC
        9112, section 9.3.1). If a new connection dies, the request may have been carried out, so the caller decides
        whether to repeat it (RFC 9110, section 9.2.2). `deadline.resent` counts the repeats; `deadline.is_once` forbids
        them.
        """
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\n{headers.text}{length}\r\n".encode("latin-1")
        connection = self._take()
        connection.deadline = deadline
        try:
            is_new = connection.sock is None
            if is_new:
                connection.connect()
            try:
                status, fields, content, reusable = connection.exchange(method, head, body or b"")
            except ConnectionError:
                if is_new or deadline.is_once:
                    raise
                connection.close()
                deadline.resent += 1
                connection.connect()
                status, fields, content, reusable = connection.exchange(method, head, body or b"")
            except ReplyError as error:
                if is_new:
                    raise
                raise cut(f"no answer, but what an earlier one had behind it: {error.detail}") from error
        except BaseException:
            connection.close()
            raise
        return RawResponse(status, fields, content, partial(self._give_back, connection, reusable))

    def close(self) -> None:
        """Closes the idle connections; those in use are closed after it."""
        self._size = 0
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection:
        """Returns the connection that was used last and is still open, or a new one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return Connection(self.route)
        if not connection.is_connected:
            connection.close()
        return connection

    def _give_back(self, connection: Connection, reusable: bool, clean: bool) -> None:
        if reusable and clean and len(self._idle) < self._size:
            self._idle.append(connection)
            if not self._size:  # another thread has closed the pool meanwhile
                self.close()
        else:
            connection.close()
