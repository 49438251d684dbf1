"""Reachability: name, connection, TLS and proxy; and the address that was probably meant if nothing answers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final
from urllib.parse import SplitResult, urlsplit

from connector.base.decoding import loads, weight_of_reply
from connector.base.errors import APIConnectionError, APITimeoutError, ConnectorError, CutError, ReplyError, parted
from connector.base.suggestions import closest
from connector.check._providers import PROVIDERS
from connector.check.probe import Probe
from connector.http.transport import Settings, Transport
from connector.run.runtime import is_loopback

_TRY_SECONDS: Final = 1.0  # seconds for each further address
_LOCAL_PORTS: Final = (8000, 8080, 11434, 1234, 4000)  # vLLM, llama.cpp, Ollama, LM Studio, LiteLLM
_WEB: Final = ("https", "http")  # each at its own port
_SHOWN: Final = 3  # models
_PORTS: Final = {"http": 80, "https": 443}
# OpenSSL's verification errors (X509_V_ERR_…), as in `SSLCertVerificationError.verify_code`
_CERTIFICATES: Final = {
    10: ("has expired", "renew it on the server"),
    9: ("is not valid yet", "check the clock of this machine"),
    18: ("is self-signed", "set ca_bundle to the PEM file of that certificate"),
    19: ("is signed by a private authority", "set ca_bundle to the PEM file of that authority"),
    20: (
        "is signed by an authority that this machine does not know",
        "set ca_bundle to the PEM file of that authority",
    ),
    62: ("is for another host name", "use the name in url that the certificate was issued for"),
    64: ("is for another address", "use the name in url that the certificate was issued for"),
}


def unresolved(probe: Probe) -> str | None:
    """Returns what is wrong with the host's name. A thread does the lookup, since that cannot be interrupted."""
    url = urlsplit(probe.config.proxy or probe.config.url)
    option, host = ("proxy", url.hostname) if probe.config.proxy else ("url", url.hostname)
    failed: list[OSError | UnicodeError] = []
    try:
        port = url.port or _PORTS.get(url.scheme, 443)
    except ValueError:
        return f"the port in {option} is not a number from 1 to 65535: write it like {url.scheme}://{host}:8000"

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(probe.left() / 2)
    if thread.is_alive():
        return f"the DNS of this machine does not answer for {host}: check the network, and the host in {option}"
    if not failed:
        return None
    known = [urlsplit(each.base_url).netloc for each in PROVIDERS]
    if host in known:
        return f"the name {host} is spelled correctly, but not known here: check the network and DNS, or set proxy"
    near = closest(host or "", known, 1, 0.8)
    meant = (
        f": did you mean {near[0]}? Set {option} to that" if near else f": check its spelling in {option}, and the DNS"
    )
    return f"the name {host} is not known{meant}"


def explained(probe: Probe, error: ConnectorError) -> tuple[str, str]:
    """Returns the failed step and its finding for a call without an answer, after free tries of other addresses."""
    parts = urlsplit(probe.config.url)
    if "proxy" in error.message:
        return "reachability", f"{error.message}; or remove proxy to connect without one"
    certificate = next((each for each in _causes(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        what, change = _CERTIFICATES.get(certificate.verify_code, (certificate.verify_message, "check it"))
        return "reachability", f"the TLS certificate of {parts.netloc} {what}: {change}"
    wrong, others = parted(error.message)[0], _others(parts)
    if isinstance(error, APITimeoutError):  # a host that is silent at one port is silent at the others
        others = islice(others, 1)
    for url in others:
        is_same = urlsplit(url).netloc == parts.netloc
        found = _found(probe, url, sure=is_same)
        if found is None:
            continue
        warning = "" if url.startswith("https") else " (unencrypted: anyone on the way can read the key)"
        if is_same:
            return "url", f"{wrong}; {url} answers: set url to that{warning}"
        other = f"{url} answers, which may be another program ({found}): set url to that if you mean it{warning}"
        return "url", f"{wrong}; {other}"
    silent = f"{parts.netloc} does not answer: " if isinstance(error, APITimeoutError) else ""
    return "reachability", silent + error.message


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = next((each for each in cause.args if isinstance(each, BaseException)), cause.__cause__)


def _others(parts: SplitResult) -> Iterator[str]:
    """Yields the URL with the other scheme and with other ports; common ports only for this machine."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    other = "http" if parts.scheme == "https" else "https"
    yield parts._replace(scheme=other).geturl()
    if parts.port:
        for scheme in _WEB:
            yield parts._replace(scheme=scheme, netloc=f"{host}").geturl()
    for port in _LOCAL_PORTS if is_loopback(parts.hostname or "") else ():
        if port != parts.port:
            yield parts._replace(scheme="http", netloc=f"{host}:{port}").geturl()


def other_scheme(probe: Probe) -> str | None:
    """Returns the URL with https instead of http, or the other way round, if that answers."""
    url = next(_others(urlsplit(probe.config.url)))
    return url if _found(probe, url, sure=True) is not None else None


def _found(probe: Probe, url: str, *, sure: bool) -> str | None:
    """Returns what answers at a URL, without key, headers or parameters, within a second; `None` if no API does.

    Any answer counts if it is `sure` that the server is the right one.
    """
    settings = Settings(
        timeout=min(_TRY_SECONDS, probe.left()),
        proxy=probe.config.proxy,
        ca_bundle=probe.config.ca_bundle,
        connections=1,
    )
    parts = urlsplit(url)
    path = "/v1" if "/v1" in parts.path else parts.path.rstrip("/")
    transport = Transport(settings)
    try:
        response = transport.get(parts._replace(path=f"{path}/models", query="").geturl())
        body = response.read()
        weight_of_reply(body, settings.max_response_bytes)
    except (APITimeoutError, CutError, ReplyError):
        return None
    except APIConnectionError as error:
        is_tls = any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(error))
        return "a TLS server with another certificate" if is_tls else None
    finally:
        transport.close()
    if not sure and "json" not in response.headers.get("content-type", ""):
        return None
    return _described(response.status, response.headers, body)


def _described(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Describes a server by the models that it lists, or else by its `Server` header."""
    try:
        listed = loads(body)["data"]
        names = [str(each["id"]) for each in listed[:_SHOWN]]
    except (ValueError, TypeError, KeyError):
        names = []
    if names:
        return f"it lists {', '.join(names)}{', …' if len(listed) > len(names) else ''}"
    return f"HTTP {status}" + (f" of {headers['server']}" if headers.get("server") else "")
