"""Defaults for the contract `Endpoint`: a kind imports from here what it does not define itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.numbers import loads
from connector.base.records import JSON, Schema
from connector.base.room import Room
from connector.endpoints import EndOfStream, Expectation, Fallback, Packing, Sender
from connector.http.preparing import Settings

FALLBACKS: Final[Mapping[str, Fallback]] = {}
REPLY_SIZE_FACTOR: Final = 1
HAS_OUTPUT_TOKENS: Final = True
OVER_HTTP: Final = True
COSTLY: Final = ""
IN_CAPABILITIES: Final = False
IN_BATCHES: Final = False


def structured(body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:  # noqa: ARG001 - the contract's signature
    """Returns the same request: replies of this kind take no schema."""
    return body


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns the same request: this kind does not stream."""
    return body


def encode(body: bytes) -> tuple[str, bytes]:
    """Returns the JSON as it is."""
    return "application/json", body


decode: Final = loads
"""Decodes JSON, with the exact value of every number."""


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns the last event, for a server that sends a whole reply as a stream."""
    body: dict[str, Any] = {}
    for event in events:
        body = event
    return body


def end_of_stream(request: bytes) -> EndOfStream:  # noqa: ARG001 - the contract's signature
    """Returns what calls a stream complete after any event."""
    return EndOfStream()


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event is a whole reply."""
    return "data" in event


def broken_off(body: dict[str, Any]) -> str | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: replies of this kind do not say how they ended."""
    return None


def expectation(request: JSON, reads: Collection[str]) -> Expectation | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: requests of this kind demand nothing that a successful reply could lack."""
    return None


def values(body: dict[str, Any]) -> dict[str, JSON]:  # noqa: ARG001 - the contract's signature
    """Returns no further names."""
    return {}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns no further names."""
    return {}


def repaired(body: dict[str, JSON], content: str, problem: str) -> None:
    """Returns `None`: there is no model that could read what was wrong."""


def raised(body: dict[str, JSON]) -> None:
    """Returns `None`: there is no token limit."""


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: each row has its own call."""
    return None


def other_purpose(model: str) -> str | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: a model's name does not tell whether it suits this kind."""
    return None


def dedicated_model(offered: Sequence[str]) -> str | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: any model will do."""
    return None


def open_sender(settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None) -> Sender | None:  # noqa: ARG001 - the contract's signature
    """Returns `None`: calls are HTTP requests."""
    return None
