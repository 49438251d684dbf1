"""Several prompts in one call, which is made for them: each gets a choice of its own, by its index."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from connector.base.records import JSON
from connector.base.values import dumps
from connector.endpoints._shapes import listed


class Prompts:
    """Packs requests that differ in nothing but their prompt.

    Args:
        most: Prompts in a call at the most.
    """

    most_bytes: Final = 2**20

    def __init__(self, most: int) -> None:
        self.most = most

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Everything but the prompt. Where a prompt gets several choices, their indexes do not tell whose they are."""
        if not isinstance(body.get("prompt"), str) or body.get("n", 1) != 1:
            return None
        return dumps({**body, "prompt": None})

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """One request with a list of prompts. `max_tokens` is for each of them."""
        return {**bodies[0], "prompt": [body["prompt"] for body in bodies]}

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Each choice as a completion of its own, by its index; none where there is not exactly one for each prompt.

        A server that takes one prompt only, or gives every choice the same index, cannot be trusted with any of them.
        """
        choices = [choice for choice in listed(body.get("choices")) if isinstance(choice, dict)]
        found = {choice["index"]: choice for choice in choices if type(choice.get("index")) is int}
        if len(choices) != count or found.keys() != set(range(count)):
            return [None] * count
        rest = {name: value for name, value in body.items() if name != "usage"}
        return [{**rest, "choices": [{**found[place], "index": 0}]} for place in range(count)]
