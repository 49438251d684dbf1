"""Requests are prepared once and sent often: their URL, headers and pool, from the settings of a transport."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit

from connector.base.errors import ConfigError, Problem
from connector.base.regex import regex
from connector.base.version import __version__
from connector.http.auth import KEYLESS, Auth, Fields
from connector.http.connection import Proxy, Route
from connector.http.http1 import Headers
from connector.http.pool import Pool

JSON_TYPE: Final = "application/json"
CONTROL: Final = regex(r"[\x00-\x1f\x7f]")

_KEPT: Final = 64
_HASHED: Final = regex(r"[0-9a-f]{8}\.\d+")  # the names by which OpenSSL finds certificates in a folder
_PLAIN: Final = regex(
    r"https?://[a-z0-9][a-z0-9.-]*(:[1-9][0-9]{0,4})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?(\?[A-Za-z0-9._~=&-]+)?"
)
"""URLs that are sent as they are written."""

_UNREADABLE: Final = "cannot be read: it must name PEM files that exist, the key of a certificate without a password"
_PORTS: Final = {"http": 80, "https": 443}
_LOADING: Final = Lock()
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
    host = parts.hostname
    if host and ":" in host:
        host = host.replace("%25", "%", 1)  # before the zone of an IPv6 address (RFC 6874)
    return parts.scheme, host, parts.port or _PORTS.get(parts.scheme)


def resolved(url: str, reference: str) -> str | None:
    """Returns the URL that a reference means at `url` (RFC 3986, section 5); `None` if it means none."""
    try:
        target = urljoin(url, reference)
        origin(target)
    except ValueError:
        return None
    return target


def address_of(url: str, *, omit: int | None = None) -> str:
    """Returns `host:port` without user, password and zone; without the port if that equals `omit`."""
    _, host, port = origin(url)
    if host and ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return f"{host}" if port == omit else f"{host}:{port}"


def credentials_of(url: str) -> tuple[str, str] | None:
    """Returns user and password of a URL; `None` if it has no password."""
    parts = urlsplit(url)
    return None if parts.password is None else (unquote(parts.username or ""), unquote(parts.password))


def _basic(url: str) -> str | None:
    """Returns the value of a header for the user and password of a URL (RFC 7617); `None` if it has no user."""
    user, password = credentials_of(url) or ("", "")
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}" if user else None


def _as_sent(url: str, parameters: Mapping[str, str]) -> str:
    """Returns a URL with parameters as it is sent. Few need `requests` for that, so it is loaded only then.

    Raises `ValueError` for one that cannot be called.
    """
    if _PLAIN.fullmatch(url):
        return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}" if parameters else url
    request = import_module("requests").PreparedRequest()
    request.prepare_url(url, parameters)
    return str(request.url)


def tls_context(ca_bundle: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Returns the TLS context that verifies with `ca_bundle`, or certifi's: the same one for all threads.

    `ca_bundle` is a PEM file, or a folder with certificates named as `openssl rehash` names them. Raises `ConfigError`
    where a file cannot be read.
    """
    with _LOADING:  # or each of the threads that begin a run would take 20 ms to load its own, with a pool of its own
        return _loaded(ca_bundle, client_cert)


@lru_cache(maxsize=_KEPT)
def _loaded(ca_bundle: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Builds a TLS context by hand, as Python's defaults obey `SSLKEYLOGFILE` and `SSL_CERT_FILE`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    at_fault = "ca_bundle"
    try:
        named = ca_bundle or import_module("certifi").where()
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


class Request(NamedTuple):
    """A request without its body. `address` is the peer's `host:port`, `target` the request-target."""

    method: str
    url: str
    address: str
    target: str
    headers: Headers
    pool: Pool

    def __repr__(self) -> str:
        return f"<{self.method} to {self.address}>"


class Preparer:
    """Prepares requests by the settings of a transport, and holds the pools that they go through."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proxy = _proxy_of(settings)
        self._pools: dict[Route, Pool] = {}
        self._is_closed = False
        self.prepared = lru_cache(maxsize=_KEPT)(self._prepare)

    def close(self) -> None:
        """Closes the pooled connections. A call that another thread makes meanwhile, or later, keeps none."""
        self._is_closed = True
        self.prepared.cache_clear()
        while self._pools:
            self._pools.popitem()[1].close()

    def _prepare(self, method: str, url: str, content_type: str, identity: Fields) -> Request:
        """Prepares and checks a request; `identity` holds the header fields that authenticate it.

        The user's headers win, except for the content type of a multipart body. Raises `ConfigError` for a URL that
        cannot be called.
        """
        try:
            given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
            full = _as_sent(url, {name: value for name, value in self._settings.query.items() if name not in given})
            scheme, host, port = origin(full)
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in _PORTS or not host or not port or CONTROL.search(url):
            raise ConfigError([Problem("url", "cannot be called: write it like https://host/v1, without line breaks")])
        parts = urlsplit(full)
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        is_tls, basic, proxy = scheme == "https", _basic(full), self._proxy
        is_forwarded = proxy is not None and not is_tls
        headers = Headers(
            {"Host": address_of(full, omit=_PORTS[scheme]), **_DEFAULTS}
            | ({"Authorization": basic} if basic else {})
            | ({"Content-Type": content_type} if content_type else {})
            | dict(identity)
            | dict(self._settings.headers)
            | ({"Content-Type": content_type} if content_type not in {"", JSON_TYPE} else {})
            | (proxy.fields if proxy and is_forwarded else {})
        )
        target = parts.geturl() if is_forwarded else f"{parts.path}{parts.query and f'?{parts.query}'}"
        tls = tls_context(self._settings.ca_bundle, self._settings.client_cert) if is_tls else None
        route = Route(host, port, tls, proxy, has_tunnel=is_tls and proxy is not None)
        pool = self._pools.setdefault(route, Pool(route, self._settings.connections))
        if self._is_closed:
            pool.close()
        return Request(method, parts.geturl(), address_of(full), target, headers, pool)


def _proxy_of(settings: Settings) -> Proxy | None:
    if not settings.proxy:
        return None
    scheme, host, port = origin(settings.proxy)
    tls = tls_context(settings.ca_bundle, settings.client_cert) if scheme == "https" else None
    return Proxy(host or "", port or 0, tls, _basic(settings.proxy))
