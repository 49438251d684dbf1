"""Access to the page: only for a browser on this machine that has the token.

The rules are those of OWASP against cross-site request forgery, WebSocket hijacking and DNS rebinding: the Host must be
one of this machine's names, an Origin (which every WebSocket has) must be that host, and the cookie must be the one for
which the token was exchanged.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_TEXT: Final = b"text/plain; charset=utf-8"
_ONWARD: Final = b'<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>Studio</title>'
_REFUSED: Final = b"This is not open to you. Open the address that the program printed in its terminal.\n"


class Guard:
    """An ASGI application that admits only its user to another application.

    Args:
        inner: The other application.
        port: The port of the server.

    Attributes:
        token: The token in the first URL, which is exchanged for a cookie.
    """

    def __init__(self, inner: Application, port: int) -> None:
        self._inner = inner
        self.token = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._name = f"studio_{port}"  # cookies are shared by all ports of a host
        self._hosts = {f"{name}:{port}" for name in _NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        host = headers.only("host")
        origin = headers.only("origin")
        is_socket = scope["type"] == "websocket"
        if host not in self._hosts or origin not in ({f"http://{host}"} if is_socket else {f"http://{host}", None}):
            await _refuse(scope, send)
        elif self._is_known(headers):
            await self._inner(scope, receive, send if is_socket else _with_headers(send))
        elif not is_socket and self._has_token(scope):
            cookie = f"{self._name}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
            # Not a redirect: a browser sends a strict cookie only if a page of the same site made the request.
            await _answer(send, 200, _ONWARD, ((b"set-cookie", cookie.encode()),), kind=b"text/html; charset=utf-8")
        else:
            await _refuse(scope, send)

    def _is_known(self, headers: _Headers) -> bool:
        # Every program on this machine can set cookies for its name, in any form, so each is parsed by itself.
        pairs = (each.strip().partition("=") for each in (headers.only("cookie") or "").split(";"))
        given = [value.encode() for name, _, value in pairs if name == self._name]
        return any(compare_digest(each, self._cookie.encode()) for each in given)

    def _has_token(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        is_first = scope["path"] == "/" and scope["method"] == "GET"
        return is_first and compare_digest(given[0].encode(), self.token.encode())


class _Headers:
    """The headers of a request. One that is repeated matches no expected value."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in pairs]

    def only(self, name: str) -> str | None:
        """Returns the value of a header; `None` if missing; if repeated, all values joined, which match nothing."""
        found = [value for key, value in self._pairs if key == name]
        return None if not found else found[0] if len(found) == 1 else ", ".join(found)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _answer(send, 403, _REFUSED)


async def _answer(
    send: Send, status: int, body: bytes, more: Iterable[tuple[bytes, bytes]] = (), *, kind: bytes = _TEXT
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    start: Message = {"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS, *more]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
