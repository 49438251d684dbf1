"""How all kinds put prompts, images and schemas into request formats."""

from __future__ import annotations

from connector.base.records import JSON
from connector.base.values import dumps
from connector.templates.verbatim import constant


def as_text(template: str) -> str:
    """Returns a template that always renders as text.

    A lone `{{ column }}` would keep its type, such as number or null, in the JSON. The comment after it prevents that.
    """
    return template + "{# text #}" if template.lstrip().startswith("{{") else template


def image_of(column: str) -> str:
    """Returns the template that renders the image in a column as a URL or data URL."""
    return f"{{{{ record[{constant(column)}] | image }}}}"


def schema_in_words(schema: JSON) -> str:
    """Returns the sentence that asks a model for a reply that fits `schema`, for endpoints that take no schema."""
    return f"Reply with JSON only, and nothing around it. It has to fit this JSON Schema: {dumps(schema).decode()}"
