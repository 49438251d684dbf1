"""Rows that share a call: the request has a list of texts as `input`, the reply a list with one part for each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from connector.base.records import JSON
from connector.base.values import dumps
from connector.endpoints._shapes import as_list, by_place


class InputPacking:
    """Packs requests that differ only in their text. Parts of the reply are matched by `index`, or else by order.

    Args:
        most: The highest number of rows in a call.
        most_bytes: The highest total size of the requests of a call, in bytes.
        parts: The key of the reply that holds the parts.
    """

    def __init__(self, most: int, most_bytes: int, parts: str) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._parts = parts

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Returns everything but the text; `None` for an empty text, and for an input that is already a list."""
        text = body.get("input")
        return dumps({**body, "input": None}) if isinstance(text, str) and text else None

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """Returns one request with a list of texts."""
        return {**bodies[0], "input": [body["input"] for body in bodies]}

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Returns the part for each text, in order; all `None` unless each text has exactly one."""
        parts = by_place(as_list(body.get(self._parts)), count)
        if parts is None:
            return [None] * count
        rest = {name: value for name, value in body.items() if name != "usage"}
        return [{**rest, self._parts: [{**part, "index": 0} if "index" in part else part]} for part in parts]
