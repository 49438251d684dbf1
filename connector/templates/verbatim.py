"""Data within a structure of templates that must not be rendered: a user's schema, the name of a column."""

from __future__ import annotations

import json
from typing import Final

from connector.base.records import JSON

_MARKS: Final = ("{{", "{%", "{#", "\r")
"""What Jinja2 would render or change: template markup, and CR, since it reads every line end as LF."""


def constant(text: str) -> str:
    """Returns a text, whatever it holds, as a string literal of Jinja2.

    Characters are not escaped: of an emoji JSON makes two escapes, which Jinja2 would read as two characters.
    """
    return json.dumps(text, ensure_ascii=False)


def verbatim(value: JSON) -> JSON:
    """Returns a structure of templates that renders to `value` for every row, braces and percent signs unchanged."""
    if isinstance(value, dict):
        return {_text(key): verbatim(item) for key, item in value.items()}
    if isinstance(value, list):
        return [verbatim(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return f"{{{{ {constant(text)} }}}}" if any(mark in text for mark in _MARKS) else text
