"""The endpoint kinds. One module is one kind, complete: its path, options, request, stream folding and answers.

A kind is a plain module with the names of `Endpoint`. It is found by its file name: adding one touches no other file.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from connector.records import JSON, Answer, Schema, Usage


class Endpoint(Protocol):
    """What a kind of endpoint consists of."""

    PATH: str
    """What follows `/v1` in its URL, as `/chat/completions`."""

    REPLY: Schema
    """The JSON Schema of a whole reply, as far as it is sure: column types are read off it."""

    def request_format(self, model: str | None, system_prompt: str | None, prompt: str | None) -> dict[str, JSON]:
        """The request that the shorthands of the config stand for."""

    def structured(self, body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
        """The request, asking for a reply that `schema` describes."""

    def streamed(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """The request, asking for a stream that ends with its usage."""

    def fold(self, events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The whole reply that a stream's events make up, and whether it says itself that it is complete."""

    def answer(self, body: dict[str, Any]) -> Answer:
        """What a whole reply says. Raises nothing: a reply that is no answer gets a status that says so."""

    def minimal(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """The cheapest request that proves key, endpoint and model to work, in place of `body`."""


KINDS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all kinds, which are also the values of the config's `endpoint`."""


@cache
def load(kind: str) -> Endpoint:
    """Opens one kind by its name, so that what only it needs is imported only where it is chosen."""
    return cast("Endpoint", import_module(f"{__name__}.{kind}"))


def kind_of(path: str) -> str | None:
    """The kind whose path a URL's path ends with; `None` for a base URL."""
    found = [kind for kind in KINDS if path.rstrip("/").endswith(load(kind).PATH)]
    return max(found, key=lambda kind: len(load(kind).PATH), default=None)


class Address(NamedTuple):
    """Where an endpoint is: its kind, its full URL, and the base URL that all endpoints of the server share."""

    kind: str
    url: str
    base_url: str


def address_of(url: str, kind: str | None = None) -> Address:
    """Completes a URL, which may be a base URL or a full one; the kind is `kind`, else read off the path, else chat."""
    parts = urlsplit(url)
    found = kind_of(parts.path)
    kind = kind or found or "chat"
    path = parts.path.rstrip("/").removesuffix(load(kind).PATH)
    base_url = parts._replace(path=path, query="", fragment="").geturl()
    full = url if found == kind else parts._replace(path=path + load(kind).PATH).geturl()
    return Address(kind, full, base_url)


def usage_of(body: dict[str, Any]) -> Usage:
    """Token counts under either of the names that OpenAI's API has for them; `None` where the endpoint gave none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details_in = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details_out = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return Usage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _count(details_in, "cached_tokens"),
        _count(details_out, "reasoning_tokens"),
    )


def _count(usage: object, *names: str) -> int | None:
    values = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    return next((value for value in values if type(value) is int and value >= 0), None)
