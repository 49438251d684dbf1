"""The form of the URL, and where the endpoint is if it is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from connector import endpoints
from connector.base.regex import regex
from connector.check._providers import provider_of_host
from connector.check.probe import Probe
from connector.endpoints import KINDS, address_of
from connector.http.preparing import resolved

_VERSION: Final = regex(r"(.*?/v\d+(?:(?:alpha|beta)\d*)?(?:/openai)?)(?:/|$)")
_DEPLOYMENT: Final = "/openai/deployments/"
_PREFIXES: Final = ("/v1", "/api/v1", "/openai/v1")


def form(probe: Probe) -> str:
    """Returns where this URL sends requests, and what looks wrong with it."""
    config, path = probe.config, urlsplit(probe.config.url).path
    finding = f"requests go to {probe.plan.url} ({config.kind})"
    if not config.is_full_url:
        finding += ", since url is a base URL; AI Squared sends to url as it is, and would need that one in full"
    doubts = [
        "it has /v1 twice" if re.search(r"/v\d+/v\d+", path) else "",
        "it has no version such as /v1" if not _VERSION.match(path) and _DEPLOYMENT not in path else "",
        "it ends with a slash" if path.endswith("/") and config.is_full_url else "",
        "it has // in its path" if "//" in path else "",
    ]
    odd = " and ".join(filter(None, doubts))
    return f"{finding}; {odd}, which not every server accepts" if odd else finding


def meant(probe: Probe) -> str | None:
    """Returns the URL that was probably meant: the first candidate that answers. Probing is free."""
    if probe.keyless:
        return None
    return next((url for url in candidates(probe.config.url, probe.config.kind) if probe.is_endpoint(url)), None)


def candidates(url: str, kind: str) -> Iterator[str]:
    """Yields likely URLs of the endpoint on the same server, likeliest first, except the one given by `url`."""
    parts, path = urlsplit(url), endpoints.load(kind).PATH
    given = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    bases = [re.sub(r"(/v\d+)(?:/v\d+)+", r"\1", given)]
    if version := _VERSION.match(bases[0] + "/"):
        bases.append(version[1])
    known = provider_of_host(parts.hostname or "")
    if known is not None and urlsplit(known.base_url).hostname == parts.hostname:
        bases.append(urlsplit(known.base_url).path)
    stem = address_of(parts._replace(path=bases[0]).geturl(), kind).base_url
    bases += [f"{urlsplit(stem).path}/v1", *_PREFIXES, ""]
    tried = {address_of(url, kind).url}
    for base in bases:
        base_url = address_of(parts._replace(path=base).geturl(), kind).base_url
        full = parts._replace(path=urlsplit(base_url).path + path).geturl()
        if full not in tried:
            tried.add(full)
            yield full


def missing_endpoint(probe: Probe, response: str, target: str | None = None, *, lists_models: bool) -> tuple[str, str]:
    """Returns the failed step and its finding for a URL that is not an endpoint, or that redirects to `target`."""
    config, url = probe.config, probe.plan.url
    if target is not None:
        right = resolved(url, target) or target
        return "url", f"{url} redirects to {right}, where the key is not sent: set url to that"
    nothing = f"nothing answers at {url} ({response})"
    likely = meant(probe)
    if likely is not None:
        return "url", f"{nothing}; {likely} answers: set url to that"
    if _DEPLOYMENT in config.url and "api-version" not in url:
        return "url", f'{nothing}: Azure needs a version: set query to {{"api-version": "2024-10-21"}}'
    if _DEPLOYMENT in config.url:
        return "url", f"{nothing}: check the resource, the deployment's name and api-version in url"
    kinds = {kind: endpoints.load(kind) for kind in KINDS if kind != config.kind}
    others = {kind: config.base_url + each.PATH for kind, each in kinds.items() if each.OVER_HTTP}
    there = [] if probe.keyless else [kind for kind, other in others.items() if probe.is_endpoint(other)]
    if there:
        choices = "; ".join(f"{kind} at {others[kind]}" for kind in there)
        return "endpoint", (
            f"the server has no {config.kind} endpoint ({response}), but it has {choices}: set url to one that does "
            "what you need, and write request_format for it"
        )
    if lists_models:
        return (
            "endpoint",
            f"{nothing}, though the server lists models: it has no {config.kind} endpoint; set url to another",
        )
    known = provider_of_host(urlsplit(url).hostname or "")
    example = known.base_url if known else "https://api.openai.com/v1"
    return "url", f"{nothing}, nor at any likely path beside it: set url to the base URL of an API, such as {example}"
