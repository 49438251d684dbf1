"""What generated and edited images have in common: streams, replies and what `check` asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import Fallback, usage_of
from connector.endpoints._shapes import as_dict, as_list, text_or_none

COLUMNS: Final[Mapping[str, str]] = {"image": "{{ image }}"}
REPLY_SIZE_FACTOR: Final = 4
COSTLY: Final = "makes an image, which costs more than a few tokens"

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
    """Leaves out `response_format`, which GPT image models refuse: they always send base64."""
    if "response_format" not in body:
        return None
    return {name: value for name, value in body.items() if name != "response_format"}


FALLBACKS: Final[Mapping[str, Fallback]] = {
    "usual_format": Fallback(lambda words: "response_format" in words, _without_format)
}


def inline(files: bool) -> dict[str, JSON]:
    """Asks for the image itself where it will be written to a file, since URLs of images expire."""
    return {"response_format": "b64_json"} if files else {}


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, without asking for partial images."""
    return {**body, "stream": True}


def fold(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Collects the images of the `….completed` events (OpenAI API reference, "Image streaming"), or a whole reply."""
    body: dict[str, Any] = {}
    images: list[JSON] = []
    for event in events:
        if "data" in event:
            body, images = dict(event), as_list(event["data"])
        elif str(event.get("type", "")).endswith(".completed"):
            body |= {_NAMES.get(name, name): value for name, value in event.items() if name not in _OF_EVENTS}
            images = [*images, {"b64_json": event.get("b64_json")}]
    return ({**body, "data": images}, True) if body else ({}, False)


def answer(body: dict[str, Any]) -> Answer:
    """Reads the images: a success if there is one. There is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    if not _images(body):
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no image")
    return Answer(None, None, model, usage)


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns each image as base64, or else its URL, and the prompt as the model revised it."""
    images = _images(body)
    prompts = (text_or_none(as_dict(item).get("revised_prompt")) for item in as_list(body.get("data")))
    return {"image": images[0], "images": images, "revised_prompt": next(filter(None, prompts), None)}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns the schemas of texts: base64, URLs or paths."""
    return {"image": _TEXT, "images": {"type": "array", "items": _TEXT}, "revised_prompt": _TEXT}


def _images(body: dict[str, Any]) -> list[str]:
    items = [as_dict(item) for item in as_list(body.get("data"))]
    found = (item.get("b64_json") or item.get("url") for item in items)
    return [image for image in found if image and isinstance(image, str)]
