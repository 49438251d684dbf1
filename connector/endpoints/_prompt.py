"""What all kinds make of prompts, images and schemas in their request formats."""

from __future__ import annotations

from connector.base.records import JSON
from connector.base.values import dumps
from connector.templates.verbatim import constant


def as_text(template: str) -> str:
    """Returns a template that always renders as text.

    A lone `{{ column }}` would become a number or null in the JSON. The comment behind it keeps it a text.
    """
    return template + "{# text #}" if template.lstrip().startswith("{{") else template


def image_of(column: str) -> str:
    """Returns the template that makes a URL, or a data URL, of the image in a column."""
    return f"{{{{ record[{constant(column)}] | image }}}}"


def schema_in_words(schema: JSON) -> str:
    """Returns the sentence that asks a model for a reply that fits `schema`, for endpoints that take no schema."""
    return f"Reply with JSON only, and nothing around it. It has to fit this JSON Schema: {dumps(schema).decode()}"
