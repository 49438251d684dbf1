"""The way to a WebSocket is that of HTTP calls: the same headers, TLS, proxy, certificates and errors.

So one config means the same for both.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from urllib3 import exceptions as urllib3_errors
from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from connector.base.clock import Clock
from connector.base.errors import ConfigError, ConnectorError, NotFoundError, Problem
from connector.base.masking import Masker
from connector.endpoints._realtime_faults import closed
from connector.endpoints._realtime_socket import SWITCHING, Socket
from connector.http.adapter import Adapter, Request, Settings, address_of, origin
from connector.http.connection import Connection
from connector.http.deadline import Deadline
from connector.http.network_errors import explain
from connector.replies.refusals import error_of

KEY: Final = "openai-insecure-api-key"
"""A header by this name is none: its value goes into the subprotocol in which browsers send the key."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NONE: Final = "{} answers, but opens no WebSocket (HTTP {}): check url, which has to end in /v1/realtime"
_LEFT_OUT: Final = frozenset({"accept", "accept-encoding", "proxy-authorization", KEY})
_SILENT: Final = logging.getLogger(f"{__name__}.frames")
_SILENT.disabled = True  # the library's debug log would show the key


class Dialer:
    """Opens WebSockets to one endpoint, as the settings of HTTP calls say."""

    def __init__(self, settings: Settings, url: str, mask: Masker, clock: Clock) -> None:
        self._settings = settings
        self._adapter = Adapter(settings)
        self._url = url
        self._mask = mask
        self._clock = clock
        self._proxy = address_of(settings.proxy) if settings.proxy else ""
        key = next((value for name, value in settings.headers.items() if name.lower() == KEY), None)
        if key is not None and not _TOKEN.fullmatch(key):
            raise ConfigError([Problem("auth", f"{KEY} needs a key of letters, digits and - . _ ~ alone")])
        self._subprotocols = [Subprotocol("realtime"), Subprotocol(f"{KEY}.{key}")] if key else None
        if settings.proxy and settings.proxy.startswith("https") and url.startswith("http:"):
            raise ConfigError([Problem("proxy", "ws:// does not go through an https:// proxy: use wss://")])

    def open(self, query: Mapping[str, str], deadline: Deadline) -> Socket:
        """Opens one, with parameters added to those of the URL.

        Raises:
            ConnectorError: There is no connection, or the server refuses; its HTTP status tells which.
        """
        parts = urlsplit(self._url)
        added = {name: value for name, value in query.items() if name not in parse_qs(parts.query)}
        full = parts._replace(query="&".join(filter(None, (parts.query, urlencode(added))))).geturl()
        request = self._adapter.prepared("GET", full, "")
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
            if 200 <= status < 300:  # noqa: PLR2004 - HTTP's class of success
                raise NotFoundError(_NONE.format(request.address, status), http_status=status)
            raise error_of(status, fields, body, now=self._clock.time(), mask=self._mask)
        return socket

    def close(self) -> None:
        """Lets go of what was prepared."""
        self._adapter.close()

    def _connected(
        self, request: Request, deadline: Deadline, translate: Callable[[Exception], ConnectorError]
    ) -> Connection:
        """A connection that the pool of HTTP calls would make. Proxies are asked for a tunnel, RFC 6455 section 4.1."""
        pool = request.pool
        connection: Connection = pool._new_conn()  # type: ignore[assignment]  # noqa: SLF001 - a session keeps its own
        connection.deadline = deadline
        try:
            if pool.proxy is not None:
                _, host, port = origin(request.url)
                scheme = pool.proxy.scheme or "http"
                connection.set_tunnel(str(host), port, headers=pool.proxy_headers, scheme=scheme)
            connection.connect()
        except (OSError, UnicodeError, urllib3_errors.HTTPError) as error:
            lost = pool.proxy is not None and not connection.has_connected_to_proxy
            connection.close()
            raise translate(
                urllib3_errors.ProxyError("no connection to the proxy", error) if lost else error
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _protocol(self, request: Request) -> ClientProtocol:
        uri = parse_uri(f"ws{request.url.removeprefix('http')}")
        protocol = ClientProtocol(
            uri, subprotocols=self._subprotocols, max_size=self._settings.max_response_bytes, logger=_SILENT
        )
        hello = protocol.connect()
        del hello.headers["Host"]
        for name, value in request.headers.items():
            if name.lower() not in _LEFT_OUT and name not in hello.headers:
                hello.headers[name] = value
        protocol.send_request(hello)
        return protocol

    def _closed(self, code: int, reason: str) -> ConnectorError:
        return closed(code, reason, {}, now=self._clock.time(), mask=self._mask)
