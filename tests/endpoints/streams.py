"""Reads streams as the client does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from connector.endpoints import Endpoint


def assembled(endpoint: Endpoint, events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Returns the reply that the events make up, and whether it is complete."""
    end = endpoint.end_of_stream(b"{}")

    def followed() -> Iterator[dict[str, Any]]:
        for event in events:
            end.follow(event)
            yield event

    return endpoint.fold(followed()), end.is_complete
