"""Several rows in one chat call: their prompts go together with numbers, and the answers come back by them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from connector.base.decoding import loads
from connector.base.records import JSON, Schema
from connector.base.values import dumps
from connector.endpoints._shapes import index_of, listed, mapped, text_of

_CAPS: Final = ("max_tokens", "max_completion_tokens")
_TASK: Final = """\
Here are {count} inputs that have nothing to do with each other, each with an id. Answer each of them exactly as if it
had come alone. Reply with JSON only, with one entry for each id: {{"answers": [{{"id": 1, "answer": …}}, …]}}

"""


class Rows:
    """Packs chat requests that differ in nothing but their last message.

    Args:
        most: Rows in a call at the most.
        schema: What each answer has to fit; `None` for a text.
    """

    most_bytes: Final = 2**17

    def __init__(self, most: int, schema: Schema | None) -> None:
        self.most = most
        self._is_text = schema is None
        self._fits = schema is None or b'"$ref"' not in dumps(schema)  # which would point elsewhere in a larger schema
        self._answer = schema or {"type": "string"}

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Everything but the text of the last message."""
        messages = listed(body.get("messages"))
        last = mapped(messages[-1]) if messages else {}
        plain = last.get("role") == "user" and isinstance(last.get("content"), str)
        if not (plain and self._fits) or body.get("tools") or body.get("n", 1) != 1:
            return None
        return dumps({**body, "messages": [*messages[:-1], {**last, "content": None}]})

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """One request under a schema that has an answer for each id."""
        first, count = bodies[0], len(bodies)
        *before, last = first["messages"]
        inputs = [{"id": place, "input": body["messages"][-1]["content"]} for place, body in enumerate(bodies, 1)]
        content = _TASK.format(count=count) + dumps(inputs).decode()
        entry = _object({"id": {"type": "integer"}, "answer": self._answer})
        described = {
            "name": "answers",
            "strict": True,
            "schema": _object({"answers": {"type": "array", "items": entry}}),
        }
        return {
            **first,
            **{cap: first[cap] * count for cap in _CAPS if isinstance(first.get(cap), int)},
            "messages": [*before, {**last, "content": content}],
            "response_format": {"type": "json_schema", "json_schema": described},
        }

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Each answer as a whole completion. An id that is missing, or comes twice, has none."""
        choices = [choice for choice in listed(body.get("choices")) if isinstance(choice, dict)]
        choice = min(choices, key=index_of, default={})
        try:
            answers = mapped(loads(text_of(mapped(choice.get("message")).get("content")) or "")).get("answers")
        except ValueError:
            return [None] * count
        found: dict[int, list[str]] = {}
        for entry in listed(answers):
            place, answer = mapped(entry).get("id"), mapped(entry).get("answer")
            if type(place) is int and answer is not None and isinstance(answer, str) >= self._is_text:
                found.setdefault(place, []).append(answer if self._is_text else dumps(answer).decode())
        return [self._alone(body, choice, found.get(place, [])) for place in range(1, count + 1)]

    def _alone(self, body: dict[str, Any], choice: dict[str, Any], answers: list[str]) -> dict[str, Any] | None:
        if len(answers) != 1:
            return None
        message = {"role": "assistant", "content": answers[0]}
        rest = {name: value for name, value in body.items() if name != "usage"}
        return {**rest, "choices": [{**choice, "index": 0, "message": message}]}


def _object(properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
