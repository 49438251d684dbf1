"""Turns the errors of sockets, proxies and TLS into errors that tell the user what to do."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from socket import gaierror
from typing import Final

from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    ConnectorError,
    RetryableError,
)
from connector.http.connection import NoTunnelError, ProxyError
from connector.http.http1 import TlsError

_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)
_MEANINGS: Final[dict[type[Exception], tuple[type[ConnectorError], str]]] = {
    gaierror: (
        APIConnectionError,
        "the host name of {peer} cannot be resolved: check it in `{key}`, and the DNS of this machine",
    ),
    UnicodeError: (APIConnectionError, "{peer} is not a name that DNS allows: check it in `{key}`"),
    ssl.SSLCertVerificationError: (
        APIConnectionError,
        "the TLS certificate of {peer} cannot be verified: check `{key}`, or set `ca_bundle` to its authority",
    ),
    TlsError: (APIConnectionError, "{peer} speaks TLS: write https in `{key}`"),
    ssl.SSLError: (
        APIConnectionError,
        "no TLS connection to {peer}: check https in `{key}`, and `client_certificate` if it requires one",
    ),
    ConnectionRefusedError: (
        APIConnectionError,
        "{peer} refuses connections: check host and port in `{key}`, and that the server is running",
    ),
    TimeoutError: (APITimeoutError, "{peer} did not answer in time: check `{key}`, or raise config.timeout"),
    NoTunnelError: (APIConnectionError, "{peer} does not let the call through: check user and host in `{key}`"),
    ConnectionError: (
        APIConnectionError,
        "{peer} closed the connection without an answer: check http or https in `{key}`",
    ),
    Exception: (APIConnectionError, "no connection to {peer}: check host and port in `{key}`, and the network"),
}
"""Our error for each low-level one, most specific first. `peer` is `host:port`; `key` is the option that names it."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those wrapped in it, from the outside in."""
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = next((arg for arg in cause.args if isinstance(arg, BaseException)), cause.__cause__)


def explain(error: Exception, peer: str, proxy: str) -> ConnectorError:
    """Returns our error for one of a socket, a proxy or TLS; `peer` and `proxy` are `host:port`."""
    causes = list(_causes(error))
    key = "url"
    if any(isinstance(cause, ProxyError) for cause in causes):
        key, peer = "proxy", f"the proxy {proxy}"
    found = next(kind for kind in _MEANINGS if any(isinstance(cause, kind) for cause in causes))
    kind, text = _MEANINGS[found]
    if any(isinstance(cause, OSError) and cause.errno in _TOO_MANY for cause in causes):
        text = "more files and connections are open than this machine allows: lower `concurrency`, or raise `ulimit -n`"
    explained = kind(text.format(peer=peer, key=key), detail=f"{type(causes[-1]).__name__}: {causes[-1]}")
    if isinstance(explained, RetryableError):
        explained.was_closed = found is ConnectionError and key == "url"
    return explained
