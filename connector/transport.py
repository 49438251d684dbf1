"""POST and GET over `requests`, for many threads at once: one adapter, one deadline per call, one place for errors.

The environment is never consulted: no netrc, no proxy, CA or key-log variables. TLS is always verified.
"""

from __future__ import annotations

import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from socket import gaierror
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url, urldefragauth
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager
from urllib3 import exceptions as urllib3_errors

from connector.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigError,
    ConnectorError,
    CutError,
    Problem,
    ReplyError,
)
from connector.version import __version__
from connector.wire import POOLS, Deadline, Headers, Reply

MAX_REDIRECTS: Final = 5

JSON_TYPE: Final = "application/json"

_KEPT: Final = 64
_REDIRECTS: Final = {"GET": {301, 302, 303, 307, 308}, "POST": {307, 308}}
_PORTS: Final = {"http": 80, "https": 443}
_FRAMING: Final = {"content-length", "transfer-encoding"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULTS: Final = {
    "User-Agent": f"openai-compatible-connector/{__version__}",
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",  # replies are small, and a compressed stream may be held back on its way
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a transport needs. Times are in seconds; what may hold a secret stays out of the repr.

    `timeout` bounds a whole call, connect to last byte; `connect_timeout` each connection within it. `connections` is
    how many are kept open, so at best how many threads call at once. `headers` go with every request.
    """

    timeout: float = 30.0
    connect_timeout: float | None = None
    connections: int = 8
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    client_cert: str | tuple[str, str] | None = None
    max_response_bytes: int = 16 * 2**20


class Response:
    """An answer: its status, its headers (lower-case names), and its body, to be taken once with `read` or `chunks`."""

    __slots__ = ("_explain", "_limit", "_raw", "headers", "status")

    def __init__(
        self, raw: Reply | BaseHTTPResponse, limit: int, explain: Callable[[Exception], ConnectorError]
    ) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}
        self._raw = raw
        self._limit = limit
        self._explain = explain

    def read(self) -> bytes:
        """The whole decoded body. Raises as `chunks` does."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The decoded body as it arrives; taken to its end, the connection serves again.

        Raises `APITimeoutError` at the call's deadline, `CutError` at the end of what came if the body is not whole,
        and `ReplyError` if it is larger than `max_response_bytes` or cannot be decoded.
        """
        size = 0
        try:
            for data in self._raw.stream():
                size += len(data)
                if size > self._limit:
                    raise ReplyError(f"the reply is larger than max_response_bytes = {self._limit}")
                yield data
        except (urllib3_errors.HTTPError, OSError) as error:
            raise self._explain(error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Give up what has not been read, and the connection with it; after the end this does nothing."""
        self._raw.close()


_LATE: Final = (APITimeoutError, "{peer} did not answer in time: check `{key}`, or raise config.timeout")
_LOST: Final = (CutError, "the connection with {peer} was lost in the middle of the reply")
_MEANINGS: Final[dict[type[Exception], tuple[type[ConnectorError], str]]] = {
    gaierror: (APIConnectionError, "the name of {peer} is not known: check it in `{key}`, and the DNS of this machine"),
    UnicodeError: (APIConnectionError, "the name of {peer} is not one that DNS allows: check it in `{key}`"),
    ssl.SSLCertVerificationError: (
        APIConnectionError,
        "the TLS certificate of {peer} cannot be verified: check `{key}`, or set `ca_bundle` to its authority",
    ),
    ssl.SSLError: (
        APIConnectionError,
        "no TLS connection with {peer}: check that `{key}` should begin with https, and `client_cert` if it wants one",
    ),
    ConnectionRefusedError: (
        APIConnectionError,
        "{peer} refuses connections: check host and port in `{key}`, and that the server is running",
    ),
    TimeoutError: _LATE,
    requests.Timeout: _LATE,
    urllib3_errors.TimeoutError: _LATE,
    requests.exceptions.ChunkedEncodingError: _LOST,
    urllib3_errors.IncompleteRead: _LOST,
    urllib3_errors.DecodeError: (ReplyError, "the reply of {peer} cannot be decompressed"),
    urllib3_errors.ProxyError: (
        APIConnectionError,
        "{peer} does not let the call through: check user and host in `{key}`",
    ),
    ConnectionError: (
        APIConnectionError,
        "{peer} closed the connection without an answer: check http or https in `{key}`",
    ),
    Exception: (APIConnectionError, "no connection with {peer}: check host and port in `{key}`, and the network"),
}
"""What a low-level error, the most telling first, means to the user: `peer` is a host and port, `key` their option."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what is wrapped in it, from the outside in."""
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = next((arg for arg in cause.args if isinstance(arg, BaseException)), cause.__cause__)


def explain(error: Exception, peer: str, proxy: str) -> ConnectorError:
    """The one place where an error of requests, urllib3, a socket or TLS becomes ours; both others are addresses."""
    causes = list(_causes(error))
    key = "url"
    if any(isinstance(cause, urllib3_errors.ProxyError) for cause in causes):
        key, peer = "proxy", f"the proxy {proxy}"
    kind, text = next(_MEANINGS[kind] for kind in _MEANINGS if any(isinstance(cause, kind) for cause in causes))
    return kind(text.format(peer=peer, key=key), detail=f"{type(causes[-1]).__name__}: {causes[-1]}")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _address(url: str, *, omit: int | None = None) -> str:
    """Host and port, never the user; the port is left out if it is `omit`."""
    _, host, port = _origin(url)
    host = f"[{host}]" if ":" in (host or "") else host
    return f"{host}" if port == omit else f"{host}:{port}"


def _next_url(response: Response, method: str, url: str) -> str | None:
    """Where to go on: a redirect that may be followed keeps the origin, so nothing is ever sent to another one."""
    location = response.headers.get("location")
    if location is None or response.status not in _REDIRECTS[method] or _CONTROL.search(location):
        return None
    try:
        target = urljoin(url, location)
        same = _origin(target) == _origin(url)
    except ValueError:
        return None
    there = urlsplit(target)
    return urlsplit(url)._replace(path=there.path, query=there.query).geturl() if same else None


@lru_cache(maxsize=_KEPT)
def _tls(ca_bundle: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Verifying TLS by `ca_bundle`, a file or a directory, or else by certifi. Made once: it takes some 20 ms.

    Python's and urllib3's own defaults would obey `SSLKEYLOGFILE` and `SSL_CERT_FILE`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    at_fault = "ca_bundle"
    try:
        authorities = ca_bundle or DEFAULT_CA_BUNDLE_PATH
        context.load_verify_locations(**{"capath" if Path(authorities).is_dir() else "cafile": authorities})
        if client_cert:
            at_fault = "client_cert"
            cert, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
            context.load_cert_chain(cert, key, password="")  # an encrypted key fails, or OpenSSL would prompt for it
    except OSError as error:
        problem = "cannot be read: it must name PEM files that exist, the key of a certificate without a password"
        raise ConfigError([Problem(at_fault, problem)], detail=str(error)) from error
    return context


class _Request(requests.PreparedRequest):
    """A request that knows its peer's address, its pool and its target; every call is a copy `with_body`."""

    url: str
    address: str
    pool: HTTPConnectionPool
    target: str

    def with_body(self, body: bytes | None) -> _Request:
        call = _Request.__new__(_Request)
        call.__dict__.update(self.__dict__, body=body)
        return call


class _Adapter(HTTPAdapter):
    """requests' adapter, its hooks cut short. `send` stays as it is: that is what the `responses` library patches."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(pool_connections=_KEPT, pool_maxsize=settings.connections, max_retries=0)
        self._settings = settings
        self._tls = partial(_tls, settings.ca_bundle, settings.client_cert)
        self._manager: PoolManager = self.poolmanager
        if settings.proxy:
            proxy_tls = self._tls() if settings.proxy.startswith("https") else None
            self._manager = self.proxy_manager_for(settings.proxy, proxy_ssl_context=proxy_tls)
        self._manager.pool_classes_by_scheme = POOLS
        self._pools: set[HTTPConnectionPool] = set()
        self.prepared = lru_cache(maxsize=_KEPT)(self._prepare)

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
        self._pools.clear()
        self.prepared.cache_clear()
        super().close()

    def _prepare(self, method: str, url: str, content_type: str) -> _Request:
        """A request without its body, checked. The user's headers win, but cannot call a multipart body JSON."""
        request = _Request()
        try:
            request.prepare_url(url, None)
            scheme, host, port = _origin(request.url)
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in _PORTS or not host or _CONTROL.search(url):
            raise ConfigError([Problem("url", "cannot be called: write it like https://host/v1, without line breaks")])
        user, password = get_auth_from_url(request.url)
        request.url = urldefragauth(request.url)
        forwarder = self._settings.proxy if scheme == "http" else None
        request.headers = Headers(
            {"Host": _address(request.url, omit=_PORTS[scheme]), **_DEFAULTS}
            | ({"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"} if user else {})
            | ({"Content-Type": content_type} if content_type else {})
            | dict(self._settings.headers)
            | ({"Content-Type": content_type} if content_type not in {"", JSON_TYPE} else {})
            | (self.proxy_headers(forwarder) if forwarder else {})
        )
        request.method = method
        request.address = _address(request.url)
        request.target = request.url if forwarder else request.path_url
        tls = {"ssl_context": self._tls()} if (forwarder or scheme).startswith("https") else None
        request.pool = self._manager.connection_from_host(host, port, scheme, pool_kwargs=tls)
        self._pools.add(request.pool)
        return request

    def get_connection_with_tls_context(  # type: ignore[override]  # none but `_Request`s are sent
        self, request: _Request, *_: object, **__: object
    ) -> HTTPConnectionPool:
        return request.pool

    def cert_verify(self, *_: object) -> None:
        """Nothing to do: the pool has its TLS context."""

    def request_url(self, request: _Request, *_: object) -> str:  # type: ignore[override]  # as above
        return request.target

    def build_response(self, req: requests.PreparedRequest, resp: BaseHTTPResponse) -> requests.Response:
        response = requests.Response.__new__(requests.Response)  # `__init__` makes a cookie jar that nobody looks at
        response.request, response.raw, response.status_code = req, resp, resp.status
        response.headers = resp.headers  # type: ignore[assignment]  # only ever asked whether it holds a name
        return response


class Transport:
    """Calls endpoints from any number of threads; `close` it when done.

    Raises `ConfigError` for settings that cannot work.
    """

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        for name in Headers(settings.headers):
            if name.lower() in _FRAMING:
                raise ConfigError([Problem(f"headers.{name}", "follows from the body: remove it")])
        if settings.proxy and not re.match(r"https?://[^/]", settings.proxy):
            raise ConfigError([Problem("proxy", "must look like http://host:port")])
        if settings.ca_bundle or settings.client_cert:
            _tls(settings.ca_bundle, settings.client_cert)
        self._settings = settings
        self._monotonic = monotonic
        self._adapter = _Adapter(settings)
        self._proxy = _address(settings.proxy or "")

    def post(self, url: str, body: bytes, content_type: str = JSON_TYPE) -> Response:
        """Send `body`; when this returns, the head of the answer has come, whatever its status.

        A redirect is followed only where method, scheme, host and port stay; any other is returned as it is. Raises
        `ConfigError` for a URL that cannot be called, `APITimeoutError`, `APIConnectionError`, `CutError` if the head
        is not whole, and `ReplyError` if it is not HTTP.
        """
        return self._call("POST", url, content_type, body)

    def get(self, url: str) -> Response:
        """As `post`, without a body."""
        return self._call("GET", url, "", None)

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._adapter.close()

    def _call(self, method: str, url: str, content_type: str, body: bytes | None) -> Response:
        deadline = Deadline(self._settings.timeout, self._settings.connect_timeout, monotonic=self._monotonic)
        response = self._send(self._adapter.prepared(method, url, content_type), body, deadline)
        for _ in range(MAX_REDIRECTS):
            target = _next_url(response, method, url)
            if target is None:
                break
            response.read()
            url = target
            response = self._send(self._adapter.prepared(method, url, content_type), body, deadline)
        return response

    def _send(self, prepared: _Request, body: bytes | None, deadline: Deadline) -> Response:
        translate = partial(explain, peer=prepared.address, proxy=self._proxy)
        try:
            call = prepared.with_body(body)
            raw = self._adapter.send(call, stream=True, timeout=deadline).raw  # type: ignore[arg-type]  # as urllib3's
        except (OSError, UnicodeError, urllib3_errors.HTTPError) as error:
            raise translate(error) from error
        return Response(raw, self._settings.max_response_bytes, translate)
