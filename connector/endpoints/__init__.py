"""The endpoint kinds. One module is one kind, complete: its path, options, request, stream folding and answers.

A kind is a plain module with the names of `Endpoint`. It is found by its file name: adding one touches no other file.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol, cast

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


def usage_of(body: dict[str, Any]) -> Usage:
    """Token counts under either of the names that OpenAI's API has for them; `None` where the endpoint gave none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details_in = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details_out = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        _count(details_in.get("cached_tokens")) if isinstance(details_in, dict) else None,
        _count(details_out.get("reasoning_tokens")) if isinstance(details_out, dict) else None,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
