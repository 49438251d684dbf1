"""Other ways to ask for a chat completion, for servers that refuse parameters which others require."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from connector.base.records import JSON
from connector.endpoints import Concession
from connector.endpoints._prompt import in_json
from connector.endpoints._shapes import listed, mapped

_SCHEMA_WORDS: Final = ("response_format", "json_schema", "json_object", "schema", "structured", "grammar", "guided")
_VALUE: Final = re.compile(r"too (?:large|high|big|small)|at most|at least|less than|greater than|exceed|range")
_STRICT_WORDS: Final = ("strict", "additionalproperties", "invalid schema", "'required' is required")


def _renamed(old: str, new: str, body: dict[str, JSON]) -> dict[str, JSON] | None:
    if old not in body:
        return None
    return {new if name == old else name: value for name, value in body.items() if name != new}


def _loosely(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """A schema that is a hint: OpenAI's strict mode refuses optional properties, and much else that JSON Schema has."""
    asked = mapped(body.get("response_format"))
    described = mapped(asked.get("json_schema"))
    if not described.get("strict"):
        return None
    return {**body, "response_format": {**asked, "json_schema": {**described, "strict": False}}}


def _as_json_object(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """JSON of any shape; the schema goes into the prompt, which OpenAI's JSON mode wants to hear of JSON anyway."""
    schema = schema_of(body)
    return None if schema is None else _told({**body, "response_format": {"type": "json_object"}}, schema)


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Nothing but words. The schema is in the prompt already where JSON mode had been asked for in its place."""
    if "response_format" not in body:
        return None
    schema = schema_of(body)
    bare = {name: value for name, value in body.items() if name != "response_format"}
    return bare if schema is None else _told(bare, schema)


def schema_of(body: dict[str, JSON]) -> JSON | None:
    """The schema that the request asks a reply for."""
    return mapped(mapped(body.get("response_format")).get("json_schema")).get("schema")


def _told(body: dict[str, JSON], schema: JSON) -> dict[str, JSON]:
    """The schema at the end of the last message, since not every model takes a further one."""
    words = in_json(schema)
    messages = list(listed(body.get("messages")))
    last: Any = messages[-1] if messages else None
    if not isinstance(last, dict) or not isinstance(last.get("content"), str | list):
        return {**body, "messages": [*messages, {"role": "user", "content": words}]}
    content = last["content"]
    longer = f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "text", "text": words}]
    return {**body, "messages": [*messages[:-1], {**last, "content": longer}]}


def _without_usage(body: dict[str, JSON]) -> dict[str, JSON] | None:
    return (
        {name: value for name, value in body.items() if name != "stream_options"} if "stream_options" in body else None
    )


CONCESSIONS: Final[Mapping[str, Concession]] = {
    "max_completion_tokens": Concession(
        lambda words: ("max_tokens" in words or "max_completion_tokens" in words) and not _VALUE.search(words),
        lambda body: _renamed("max_tokens", "max_completion_tokens", body),
    ),
    "max_tokens": Concession(
        lambda words: "max_completion_tokens" in words and not _VALUE.search(words),
        lambda body: _renamed("max_completion_tokens", "max_tokens", body),
    ),
    "loose_schema": Concession(lambda words: any(word in words for word in _STRICT_WORDS), _loosely),
    "json_object": Concession(lambda words: any(word in words for word in _SCHEMA_WORDS), _as_json_object),
    "prompt": Concession(lambda words: any(word in words for word in _SCHEMA_WORDS), _as_prompt),
    "no_usage": Concession(lambda words: "stream_options" in words or "include_usage" in words, _without_usage),
}
"""By the names that the table of capabilities keeps them under, in the order in which they are tried."""
