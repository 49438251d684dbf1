"""What generated and edited images have in common: their replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import Concession, usage_of
from connector.endpoints._shapes import listed, mapped, text_or_none

COLUMNS: Final[Mapping[str, str]] = {"image": "{{ image }}"}
ROOM: Final = 4

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_IMAGE: Final[Schema] = {
    "type": "object",
    "properties": {"url": _TEXT, "b64_json": _TEXT, "revised_prompt": _TEXT},
}
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        "created": _COUNT,
        "data": {"type": "array", "items": _IMAGE},
        "background": _TEXT,
        "output_format": _TEXT,
        "quality": _TEXT,
        "size": _TEXT,
        "usage": {
            "type": "object",
            "properties": {"input_tokens": _COUNT, "output_tokens": _COUNT, "total_tokens": _COUNT},
        },
    },
}
_OF_EVENTS: Final = ("type", "b64_json")
_NAMES: Final = {"created_at": "created"}


def _without_format(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """GPT image models know no `response_format`: they give base64 always."""
    if "response_format" not in body:
        return None
    return {name: value for name, value in body.items() if name != "response_format"}


CONCESSIONS: Final[Mapping[str, Concession]] = {
    "usual_format": Concession(lambda words: "response_format" in words, _without_format)
}


def inline(files: bool) -> dict[str, JSON]:
    """Asks for the image itself where it will be a file: its URL would soon lead nowhere."""
    return {"response_format": "b64_json"} if files else {}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`. Partial images come only where the request asks for them, and nobody looks at them."""
    return {**body, "stream": True}


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The images of the `….completed` events (OpenAI API reference, "Image streaming"), or a whole reply."""
    body: dict[str, Any] = {}
    images: list[JSON] = []
    for event in events:
        if "data" in event:
            body, images = dict(event), listed(event["data"])
        elif str(event.get("type", "")).endswith(".completed"):
            body |= {_NAMES.get(name, name): value for name, value in event.items() if name not in _OF_EVENTS}
            images = [*images, {"b64_json": event.get("b64_json")}]
    return ({**body, "data": images}, True) if body else ({}, False)


def answer(body: dict[str, Any]) -> Answer:
    """A reply with an image is a success; there is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    if not _images(body):
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no image")
    return Answer(None, None, model, usage)


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Each image as base64, or else its URL, and what the model has made of the prompt."""
    images = _images(body)
    prompts = (text_or_none(mapped(item).get("revised_prompt")) for item in listed(body.get("data")))
    return {"image": images[0], "images": images, "revised_prompt": next(filter(None, prompts), None)}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Texts: base64, URLs or paths."""
    return {"image": _TEXT, "images": {"type": "array", "items": _TEXT}, "revised_prompt": _TEXT}


def _images(body: dict[str, Any]) -> list[str]:
    items = [mapped(item) for item in listed(body.get("data"))]
    found = (item.get("b64_json") or item.get("url") for item in items)
    return [image for image in found if image and isinstance(image, str)]
