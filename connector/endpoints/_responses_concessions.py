"""Other ways to ask for a response, for servers that refuse parameters which others require."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connector.base.records import JSON
from connector.endpoints import Concession
from connector.endpoints._chat_concessions import CONCESSIONS as CHAT
from connector.endpoints._prompt import in_json
from connector.endpoints._shapes import listed, mapped

_UNKNOWN: Final = ("unsupported", "not supported", "unknown", "unrecognized", "unexpected", "not permitted", "moved")
_OLD_CAPS: Final = ("max_tokens", "max_completion_tokens")


def told(body: dict[str, JSON], words: str) -> dict[str, JSON]:
    """The request with words at the end of its last message, since not every model takes a further one."""
    asked: Any = body.get("input")
    if isinstance(asked, str):
        return {**body, "input": f"{asked}\n\n{words}" if asked else words}
    items = listed(asked)
    last: Any = items[-1] if items else None
    if not isinstance(last, dict) or last.get("role") != "user" or not isinstance(last.get("content"), str | list):
        return {**body, "input": [*items, {"role": "user", "content": words}]}
    content = last["content"]
    longer = f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "input_text", "text": words}]
    return {**body, "input": [*items[:-1], {**last, "content": longer}]}


def _is_unknown(words: str, *names: str) -> bool:
    return any(name in words for name in names) and any(word in words for word in _UNKNOWN)


def _capped(old: tuple[str, ...], new: str, body: dict[str, JSON]) -> dict[str, JSON] | None:
    """The limit under its other name. It is never left out: what goes beyond it would be paid for."""
    cap = next((body[name] for name in old if name in body), None)
    return None if cap is None else {**{name: body[name] for name in body if name not in old}, new: cap}


def _formatted(body: dict[str, JSON], form: JSON) -> dict[str, JSON]:
    """The request with another `text.format`, or with none."""
    text = {name: value for name, value in mapped(body.get("text")).items() if name != "format"}
    text |= {} if form is None else {"format": form}
    rest = {name: value for name, value in body.items() if name != "text"}
    return {**rest, "text": text} if text else rest


def _format_of(body: dict[str, JSON]) -> dict[str, Any]:
    return mapped(mapped(body.get("text")).get("format"))


def schema_of(body: dict[str, JSON]) -> JSON | None:
    """The schema that the request asks a reply for."""
    return _format_of(body).get("schema")


def _loosely(body: dict[str, JSON]) -> dict[str, JSON] | None:
    form = _format_of(body)
    return _formatted(body, {**form, "strict": False}) if form.get("strict") else None


def _as_json_object(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """JSON of any shape; the schema goes into the input."""
    schema = schema_of(body)
    return None if schema is None else told(_formatted(body, {"type": "json_object"}), in_json(schema))


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Nothing but words, which the input holds already where JSON of any shape had been asked for."""
    form = _format_of(body)
    if not form:
        return None
    bare = _formatted(body, None)
    return told(bare, in_json(form["schema"])) if "schema" in form else bare


def _is_about_the_schema(words: str) -> bool:
    return "text.format" in words or CHAT["json_object"].is_asked(words) or _is_unknown(words, "'text'", ": text")


CONCESSIONS: Final[Mapping[str, Concession]] = {
    "max_output_tokens": Concession(
        lambda words: _is_unknown(words, *_OLD_CAPS),
        lambda body: _capped(_OLD_CAPS, "max_output_tokens", body),
    ),
    "max_tokens": Concession(
        lambda words: _is_unknown(words, "max_output_tokens"),
        lambda body: _capped(("max_output_tokens",), "max_tokens", body),
    ),
    "loose_schema": Concession(CHAT["loose_schema"].is_asked, _loosely),
    "json_object": Concession(_is_about_the_schema, _as_json_object),
    "prompt": Concession(_is_about_the_schema, _as_prompt),
}
"""By the names that the table of capabilities keeps them under, in the order in which they are tried."""
