"""What a kind of endpoint does where it has nothing of its own: a kind imports from here what it has no use for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.records import JSON, Schema
from connector.endpoints import Concession, Packing, Sender
from connector.http.adapter import Settings

CONCESSIONS: Final[Mapping[str, Concession]] = {}
ROOM: Final = 1


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:  # noqa: ARG001 - the contract's signature
    """The same request: a reply of this kind has no schema of the user's."""
    return body


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """The same request: this kind does not stream."""
    return body


def wire_form(body: bytes) -> tuple[str, bytes]:
    """The JSON as it is."""
    return "application/json", body


def dial(settings: Settings, url: str, mask: Masker, clock: Clock) -> Sender | None:  # noqa: ARG001 - the contract's signature
    """Nothing: its calls are HTTP requests."""
    return None


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The last event, for a server that streams a whole reply all the same."""
    body: dict[str, Any] = {}
    for event in events:
        body = event
    return body, bool(body)


def values(body: dict[str, Any]) -> dict[str, JSON]:  # noqa: ARG001 - the contract's signature
    """None."""
    return {}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """None."""
    return {}


def repaired(body: dict[str, JSON], content: str, problem: str) -> None:
    """Nothing: there is no model to tell what was wrong."""


def raised(body: dict[str, JSON]) -> None:
    """Nothing: there is no token limit."""


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """One row per call."""
    return None
