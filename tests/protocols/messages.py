"""Messages of Singer, as a tap writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]


def schema(stream: str = "reviews", *columns: str, **more: Any) -> Message:
    properties = {name: {"type": ["null", "string"]} for name in columns or ("text",)}
    described = {"type": "object", "properties": {"id": {"type": "integer"}, **properties}}
    return {"type": "SCHEMA", "stream": stream, "schema": described, "key_properties": ["id"], **more}


def record(number: int, stream: str = "reviews", text: str = "", **more: Any) -> Message:
    return {"type": "RECORD", "stream": stream, "record": {"id": number, "text": text or f"row {number}"}, **more}


def state(number: int) -> Message:
    return {"type": "STATE", "value": {"bookmarks": {"reviews": {"replication_key_value": number}}}}


def text_of(messages: Iterable[Message | str]) -> str:
    """Messages as lines; a text is a line as it is."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in messages)
