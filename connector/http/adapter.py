"""An adapter for `requests` that skips most of its work per call, and requests prepared once and sent often."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url, urldefragauth
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager

from connector.base.errors import ConfigError, Problem
from connector.base.regex import regex
from connector.base.version import __version__
from connector.http.auth import KEYLESS, Auth, Fields
from connector.http.deadline import Deadline
from connector.http.http1 import Headers
from connector.http.pool import POOLS, RawResponse
from connector.http.upload import Upload

JSON_TYPE: Final = "application/json"
CONTROL: Final = regex(r"[\x00-\x1f\x7f]")

_KEPT: Final = 64
_HASHED: Final = regex(r"[0-9a-f]{8}\.\d+")  # the names by which OpenSSL finds certificates in a folder
_UNREADABLE: Final = "cannot be read: it must name PEM files that exist, the key of a certificate without a password"
_PORTS: Final = {"http": 80, "https": 443}
_DEFAULTS: Final = {
    "User-Agent": f"openai-compatible-connector/{__version__}",
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",  # replies are small, and a compressed stream may be held back on its way
}


@dataclass(frozen=True, eq=False)
class Settings:
    """The settings of a transport. Times are in seconds; fields that may hold a secret stay out of the repr.

    `timeout` bounds a whole call, from connect to last byte; `connect_timeout` bounds each connection attempt within
    it. `connections` is the size of the connection pool: make it the number of threads that call at once. `auth` and
    `headers` add header fields to every request; `headers` wins where both have one. `query` adds parameters that the
    URL does not already have.
    """

    timeout: float = 30.0
    connect_timeout: float | None = None
    connections: int = 8
    auth: Auth = KEYLESS
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    client_cert: str | tuple[str, str] | None = None
    max_response_bytes: int = 16 * 2**20


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Returns scheme, host and port; raises `ValueError` for a port that is not a number."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def resolved(url: str, reference: str) -> str | None:
    """Returns the URL that a reference means at `url` (RFC 3986, section 5); `None` if it means none."""
    try:
        target = urljoin(url, reference)
        origin(target)
    except ValueError:
        return None
    return target


def address_of(url: str, *, omit: int | None = None) -> str:
    """Returns `host:port` without user and password; without the port if that equals `omit`."""
    _, host, port = origin(url)
    host = f"[{host}]" if ":" in (host or "") else host
    return f"{host}" if port == omit else f"{host}:{port}"


@lru_cache(maxsize=_KEPT)
def tls_context(ca_bundle: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Returns a TLS context that verifies with `ca_bundle`, or certifi's. Cached, since loading one takes 20 ms.

    `ca_bundle` is a PEM file, or a folder with certificates named as `openssl rehash` names them. Raises `ConfigError`
    where a file cannot be read.

    The context is built by hand, as the defaults of Python and urllib3 obey `SSLKEYLOGFILE` and `SSL_CERT_FILE`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    at_fault = "ca_bundle"
    try:
        named = ca_bundle or DEFAULT_CA_BUNDLE_PATH
        place = Path(named)
        # OpenSSL reads a folder only at the first connection. Loading an empty one as a file fails now, not then.
        is_folder = place.is_dir() and any(_HASHED.fullmatch(each.name) for each in place.iterdir())
        context.load_verify_locations(**{"capath" if is_folder else "cafile": named})
        if client_cert:
            at_fault = "client_certificate"
            cert, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
            context.load_cert_chain(cert, key, password="")  # an encrypted key fails, or OpenSSL would prompt for it
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        # One message for every reason: whoever fills in a platform's form must not learn which files its server has.
        raise ConfigError([Problem(at_fault, _UNREADABLE)]) from error
    return context


class Request(requests.PreparedRequest):
    """A prepared request with its peer's address, pool and request-target; each call is a copy with a body."""

    url: str
    address: str
    pool: HTTPConnectionPool
    target: str

    def with_body(self, body: bytes | Upload | None) -> Request:
        """Returns a copy of this request with a body."""
        call = Request.__new__(Request)
        call.__dict__.update(self.__dict__, body=body)
        return call


_SEND: Final = HTTPAdapter.send if getattr(HTTPAdapter.send, "__globals__", None) is vars(requests.adapters) else None
"""The original `HTTPAdapter.send`; `None` if somebody had replaced it before this module was loaded."""


class Adapter(HTTPAdapter):
    """The adapter of `requests`, with hooks that do no more than a call needs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(pool_connections=_KEPT, pool_maxsize=settings.connections, max_retries=0)
        self._settings = settings
        self._tls = partial(tls_context, settings.ca_bundle, settings.client_cert)
        self._manager: PoolManager = self.poolmanager
        if settings.proxy:
            proxy_tls = self._tls() if settings.proxy.startswith("https") else None
            self._manager = self.proxy_manager_for(settings.proxy, proxy_ssl_context=proxy_tls)
        self._manager.pool_classes_by_scheme = POOLS
        self._pools: set[HTTPConnectionPool] = set()
        self.prepared = lru_cache(maxsize=_KEPT)(self._prepare)

    def close(self) -> None:
        """Closes the pooled connections."""
        for pool in self._pools:
            pool.close()
        self._pools.clear()
        self.prepared.cache_clear()
        super().close()

    def _prepare(self, method: str, url: str, content_type: str, identity: Fields) -> Request:
        """Prepares and checks a request without its body; `identity` holds the header fields that authenticate it.

        The user's headers win, except for the content type of a multipart body. Raises `ConfigError` for a URL that
        cannot be called.
        """
        request = Request()
        try:
            given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
            request.prepare_url(url, {name: value for name, value in self._settings.query.items() if name not in given})
            scheme, host, port = origin(request.url)
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in _PORTS or not host or CONTROL.search(url):
            raise ConfigError([Problem("url", "cannot be called: write it like https://host/v1, without line breaks")])
        user, password = get_auth_from_url(request.url)
        request.url = urldefragauth(request.url)
        forwarder = self._settings.proxy if scheme == "http" else None
        request.headers = Headers(
            {"Host": address_of(request.url, omit=_PORTS[scheme]), **_DEFAULTS}
            | ({"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"} if user else {})
            | ({"Content-Type": content_type} if content_type else {})
            | dict(identity)
            | dict(self._settings.headers)
            | ({"Content-Type": content_type} if content_type not in {"", JSON_TYPE} else {})
            | (self.proxy_headers(forwarder) if forwarder else {})
        )
        request.method = method
        request.address = address_of(request.url)
        request.target = request.url if forwarder else request.path_url
        tls = {"ssl_context": self._tls()} if (forwarder or scheme).startswith("https") else None
        request.pool = self._manager.connection_from_host(host, port, scheme, pool_kwargs=tls)
        self._pools.add(request.pool)
        return request

    def exchange(
        self, request: Request, body: bytes | Upload | None, deadline: Deadline
    ) -> RawResponse | BaseHTTPResponse:
        """Sends a prepared request and returns the response once its head has arrived.

        `HTTPAdapter.send` takes a tenth of a call's time, and besides the hooks below does nothing that we need. So it
        is bypassed, unless somebody has patched it, as the library `responses` does in tests.
        """
        if type(self).send is _SEND:
            return request.pool.urlopen(request.method, request.target, body, request.headers, timeout=deadline)  # type: ignore[arg-type]  # of `POOLS`
        return self.send(request.with_body(body), stream=True, timeout=deadline).raw  # type: ignore[arg-type]  # as urllib3's

    def get_connection_with_tls_context(  # type: ignore[override]  # none but `Request`s are sent
        self, request: Request, *_: object, **__: object
    ) -> HTTPConnectionPool:
        """Returns the pool that was found when the request was prepared."""
        return request.pool

    def cert_verify(self, *_: object) -> None:
        """Does nothing: the pool has its TLS context."""

    def request_url(self, request: Request, *_: object) -> str:  # type: ignore[override]  # as above
        """Returns the request-target that was found when the request was prepared."""
        return request.target

    def build_response(self, req: requests.PreparedRequest, resp: BaseHTTPResponse) -> requests.Response:
        """Returns a `requests.Response` with only the attributes that `exchange` and `send` read."""
        response = requests.Response.__new__(requests.Response)  # `__init__` makes a cookie jar that nobody reads
        response.request, response.raw, response.status_code = req, resp, resp.status
        response.headers = resp.headers  # type: ignore[assignment]  # only tested for names
        return response
