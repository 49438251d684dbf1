"""The problems of an invalid config, each with the change that solves it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from connector.base.errors import ConfigError, Problem
from connector.base.regex import regex
from connector.base.suggestions import closest

_CHANGES: Final = {
    "config.timeout": 'write seconds, more than 0, such as "30"',
    "config.connect_timeout": 'write seconds, more than 0, such as "5"',
    "output_schema": 'write a JSON Schema such as {"type": "object", "properties": {"label": {"type": "string"}}}',
    "prompt": "write a column like {{ text }}, with two braces on both sides, and end what {% begins",
    "system_prompt": "write a column like {{ text }}, with two braces on both sides, and end what {% begins",
    "request_format": 'write JSON such as {"model": "…", "messages": [{"role": "user", "content": "{{ column }}"}]}',
    "response_format": 'write JSON such as {"label": "{{ content }}"}',
    "proxy": "write it like http://host:port, or remove it",
    "ca_bundle": "give the path of a PEM file that exists, or remove it",
    "client_certificate": "give the path of a PEM file with certificate and key, or remove it",
}
_URL: Final = regex(r"'([^']*)'")
_SCHEMES: Final = ("http", "https")
_HAS_CHANGE: Final = regex(
    r": (?:use|change it|did you|write|set|remove|add|describe|give|pick|expected|there are)\b|is missing"
)


def advised(error: ConfigError) -> str:
    """Returns every problem with the change to make, one per line."""
    return "\n".join(map(_advised, error.problems))


def _advised(problem: Problem) -> str:
    if problem.path == "url" and (quoted := _URL.search(problem.message)) and "is not an http" in problem.message:
        with suppress(ValueError):  # brackets without an IPv6 address
            return f"{problem}: did you mean {_meant(quoted[1])}?"
    if _HAS_CHANGE.search(problem.message):
        return str(problem)
    if match := re.search(r"environment variable (\w+)", problem.message):
        return f"{problem}: export {match[1]}=…, or name another in ${{…}}"
    path = problem.path
    change = _CHANGES.get(path) or _CHANGES.get(path.partition(".")[0].partition("[")[0])
    if "there is no filter" in problem.message:
        return str(problem)  # it already lists the filters
    return f"{problem}: {change}" if change else str(problem)


def _meant(url: str) -> str:
    """Returns the URL with a valid scheme: the one closest to what was written, else the usual one for the host."""
    head, has_scheme, rest = url.partition("://")
    if not has_scheme:
        head, rest = "", re.sub(r"^[a-z]*:?/*(?=[a-z])", "", url) if re.match(r"^[a-z]+:/", url) else url
        near = closest(url.partition(":")[0], _SCHEMES, 1) if ":/" in url else []
    else:
        near = closest(head.lower(), _SCHEMES, 1, 0.5)
    host = urlsplit(f"//{rest}").hostname or ""
    is_local = host == "localhost" or re.fullmatch(r"[\d.]+|\[?[0-9a-f:]+\]?", host) is not None
    return f"{near[0] if near else 'http' if is_local else 'https'}://{rest}"
