"""What is data, not a template, within a structure of templates: a user's schema, the name of a column."""

from __future__ import annotations

import json
from typing import Final

from connector.base.records import JSON

_MARKS: Final = ("{{", "{%", "{#", "\r")
"""What makes a text a template, or another text: Jinja2 reads each line end as a line feed."""


def constant(text: str) -> str:
    """Returns a text as a template's expressions write it: in quotes, whatever it holds.

    Characters stay as they are: Jinja2 reads the two escapes that JSON makes of an emoji as two halves of one.
    """
    return json.dumps(text, ensure_ascii=False)


def verbatim(value: JSON) -> JSON:
    """Returns a structure of templates that renders to `value` for every row, braces and percent signs included."""
    if isinstance(value, dict):
        return {_text(key): verbatim(item) for key, item in value.items()}
    if isinstance(value, list):
        return [verbatim(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return f"{{{{ {constant(text)} }}}}" if any(mark in text for mark in _MARKS) else text
