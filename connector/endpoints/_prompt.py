"""The parts of a request that prompts become, whatever the kind."""

from __future__ import annotations

import json

from connector.base.records import JSON
from connector.base.values import dumps


def as_text(template: str) -> str:
    """A prompt is always a text: the comment keeps a lone `{{ column }}` from becoming a number or null in the JSON."""
    return template + "{# text #}" if template.lstrip().startswith("{{") else template


def image_of(column: str) -> str:
    """The template that makes a URL, or a data URL, of the image in a column."""
    return f"{{{{ record[{json.dumps(column)}] | image }}}}"


def in_json(schema: JSON) -> str:
    """What tells a model to reply as `schema` says, where the endpoint takes no schema."""
    return f"Reply with JSON only, and nothing around it. It has to fit this JSON Schema: {dumps(schema).decode()}"
