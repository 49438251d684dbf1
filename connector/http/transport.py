"""POST and GET for many threads: shared pools of connections, one deadline per call, errors translated here.

The environment is never read: no netrc, and no variables for proxies, CAs or key logs. TLS is always verified.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from io import BytesIO
from types import FunctionType
from typing import Final
from urllib.parse import urlsplit

from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.http.deadline import Deadline
from connector.http.http1 import Headers, too_large
from connector.http.network_errors import explain
from connector.http.pool import RawResponse
from connector.http.preparing import (
    CONTROL,
    JSON_TYPE,
    Preparer,
    Request,
    Settings,
    address_of,
    origin,
    resolved,
    tls_context,
)
from connector.http.upload import Upload

__all__ = ["MAX_REDIRECTS", "Response", "Settings", "Transport"]

MAX_REDIRECTS: Final = 5

_REDIRECTS: Final = {"GET": {301, 302, 303, 307, 308}, "POST": {307, 308}}
_NO_FIELDS: Final[Mapping[str, str]] = {}
_FRAMING: Final = {"content-length", "transfer-encoding"}


def joined_chunks(chunks: Iterable[bytes], most: int) -> bytes:
    """Joins the chunks of a body as they come, since a list of tiny ones would take far more memory than the body.

    Raises `ReplyError` for more than `most` bytes.
    """
    body = BytesIO()
    for chunk in chunks:
        body.write(chunk)
        if body.tell() > most:
            raise too_large(most)
    return body.getvalue()


class Response:
    """A response: status, headers (lower-case names), and a body to be read once, with `read` or `chunks`.

    `sends` is how often the request was sent: twice if a keep-alive connection had died.
    """

    __slots__ = ("_deadline", "_explain", "_limit", "_raw", "headers", "sends", "status")

    def __init__(
        self,
        raw: RawResponse,
        limit: int,
        explain: Callable[[Exception], ConnectorError],
        deadline: Deadline,
    ) -> None:
        self.status = raw.status
        self.sends = 1 + deadline.resent
        self.headers: Mapping[str, str] = raw.headers
        self._raw = raw
        self._limit = limit
        self._explain = explain
        self._deadline = deadline

    def read(self) -> bytes:
        """Returns the whole decoded body. Raises as `chunks` does."""
        whole = self._raw.whole()
        if whole is not None and len(whole) <= self._limit:
            return whole
        return joined_chunks(self.chunks(), self._limit)

    def chunks(self, most: float | None = None) -> Iterator[bytes]:
        """Yields the decoded body as it arrives. Once it is read to its end, the connection can be used again.

        Raises `APITimeoutError` at the call's deadline, `CutError` if the body ends too soon, and `ReplyError` if it
        cannot be decoded or is larger than `most` bytes, by default `max_response_bytes`.
        """
        size, limit = 0, self._limit if most is None else most
        is_packed = self.headers.get("content-encoding", "identity") != "identity"
        try:
            for data in self._raw.stream():
                if is_packed and size:
                    self._deadline.left()  # as receiving does, but a thousand pieces may come of what was received once
                size += len(data)
                if size > limit:
                    raise too_large(self._limit)
                yield data
        except OSError as error:
            raise self._explain(error) from error
        finally:
            self.close()

    def hurry(self, seconds: float | None) -> None:
        """Waits at most so many seconds more for the rest of the body; with `None`, as long as the call may take."""
        self._deadline.shorten(seconds)

    def close(self) -> None:
        """Closes the connection if the body has not been read to its end."""
        self._raw.close()


def _next_url(response: Response, method: str, url: str) -> str | None:
    """Returns the URL of a redirect to the same origin; `None` for any other, so that nothing goes to another host."""
    location = response.headers.get("location")
    if location is None or response.status not in _REDIRECTS[method] or CONTROL.search(location):
        return None
    target = resolved(url, location)
    if target is None or origin(target) != origin(url):
        return None
    there = urlsplit(target)
    return urlsplit(url)._replace(path=there.path, query=there.query).geturl()


def _is_proxy(url: str) -> bool:
    try:
        return re.match(r"https?://[^/]", url) is not None and origin(url)[1] is not None
    except ValueError:
        return False


def _is_replaced() -> bool:
    """Returns whether somebody has replaced `send` of the adapter of `requests`, as the library `responses` does."""
    adapters = sys.modules.get("requests.adapters")
    send = getattr(getattr(adapters, "HTTPAdapter", None), "send", None)  # another thread may be loading the module
    if type(send) is FunctionType:  # a wrapper may pass itself off as one, but for its type
        return send.__globals__ is not vars(adapters)
    return send is not None


class Transport:
    """Calls endpoints from any number of threads; `close` it when done.

    Raises `ConfigError` for settings that cannot work. `auth` is that of the settings: callers who can tell from a
    reply that a key was refused make their calls through `auth.attempt`.
    """

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        for name in Headers({**dict(settings.auth.settled), **settings.headers}):
            if name.lower() in _FRAMING:
                raise ConfigError([Problem(f"headers.{name}", "is set from the body: remove it")])
        if settings.proxy and not _is_proxy(settings.proxy):
            raise ConfigError([Problem("proxy", "must look like http://host:port")])
        if settings.ca_bundle or settings.client_cert:
            tls_context(settings.ca_bundle, settings.client_cert)
        self.auth = settings.auth
        self._settings = settings
        self._monotonic = monotonic
        self._preparer = Preparer(settings)
        self._proxy = address_of(settings.proxy or "")

    def post(
        self,
        url: str,
        body: bytes | Upload,
        content_type: str = JSON_TYPE,
        deadline: Deadline | None = None,
    ) -> Response:
        """Sends `body` and returns the response once its head has arrived, whatever its status.

        Redirects are followed only if method, scheme, host and port stay the same; any other is returned as it is.
        Raises `ConfigError` for a URL that cannot be called, `APITimeoutError`, `APIConnectionError`, `CutError` if
        the head is cut off, and `ReplyError` if it is not HTTP.
        """
        return self._call("POST", url, content_type, body, deadline)

    def get(self, url: str, deadline: Deadline | None = None, start: int = 0) -> Response:
        """Sends a GET without a body; otherwise as `post`.

        Args:
            deadline: When the call must end; by default `timeout` seconds from now.
            start: The first byte to ask for (RFC 9110, section 14.2). A 206 begins there; a 200 is the whole body.
        """
        return self._call("GET", url, "", None, deadline, {"Range": f"bytes={start}-"} if start else {})

    def deadline(self) -> Deadline:
        """Returns the deadline of a call that starts now."""
        return Deadline(self._settings.timeout, self._settings.connect_timeout, monotonic=self._monotonic)

    @property
    def max_response_bytes(self) -> int:
        """The most bytes that a reply may have."""
        return self._settings.max_response_bytes

    def close(self) -> None:
        """Closes the pooled connections."""
        self._preparer.close()

    def _call(
        self,
        method: str,
        url: str,
        content_type: str,
        body: bytes | Upload | None,
        deadline: Deadline | None = None,
        fields: Mapping[str, str] = _NO_FIELDS,
    ) -> Response:
        identity = (*self.auth.fields(), *fields.items())
        deadline = deadline or self.deadline()
        response = self._send(self._preparer.prepared(method, url, content_type, identity), body, deadline)
        for _ in range(MAX_REDIRECTS if response.status in _REDIRECTS[method] else 0):
            target = _next_url(response, method, url)
            if target is None:
                break
            response.read()
            url = target
            response = self._send(self._preparer.prepared(method, url, content_type, identity), body, deadline)
        return response

    def _send(self, prepared: Request, body: bytes | Upload | None, deadline: Deadline) -> Response:
        translate = partial(explain, peer=prepared.address, proxy=self._proxy)
        try:
            if _is_replaced():
                raw = import_module("connector.http.stand_in").exchange(prepared, body, deadline, self._settings)
            else:
                raw = prepared.pool.exchange(prepared.method, prepared.target, prepared.headers, body, deadline)
        except (OSError, UnicodeError) as error:
            told = translate(error)
            told.sends += deadline.resent
            raise told from error
        except ConnectorError as error:
            error.sends += deadline.resent
            raise
        return Response(raw, self._settings.max_response_bytes, translate, deadline)
