"""What generated and edited images have in common: streams, replies and what `check` sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector.base.records import JSON, Answer, Schema, Status
from connector.endpoints import EndOfStream, Fallback, usage_of
from connector.endpoints._shapes import as_dict, as_list, by_place, null_in, text_or_none
from connector.replies.finish_reasons import Ending, ending_of

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
    "usual_format": Fallback(
        lambda words: "response_format" in words, _without_format, "pictures come in the endpoint's usual format"
    )
}


def inline(files: bool) -> dict[str, JSON]:
    """Asks for base64 if images are written to files, since their URLs expire."""
    return {"response_format": "b64_json"} if files else {}


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of a prompt that is null."""
    return null_in(body.get("prompt", ""), "prompt")


def streamed(body: dict[str, JSON]) -> dict[str, JSON]:
    """Adds `stream`, without asking for partial images."""
    return {**body, "stream": True}


def fold(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Collects the images of the `….completed` events (OpenAI API reference, "Image streaming"), or a whole reply."""
    body: dict[str, Any] = {}
    images: list[JSON] = []
    for event in events:
        if "data" in event:
            body, images = dict(event), as_list(event["data"])
        elif _is_image(event):
            body |= {_NAMES.get(name, name): value for name, value in event.items() if name not in _OF_EVENTS}
            images = [*images, {"b64_json": event.get("b64_json")}]
    return {**body, "data": images} if body else {}


def end_of_stream(request: bytes) -> EndOfStream:  # noqa: ARG001 - the contract's signature
    """Returns what calls a stream complete after any image; more of them may follow."""
    return _AfterImage()


class _AfterImage(EndOfStream):
    def follow(self, event: dict[str, Any]) -> None:
        self.is_complete = self.is_complete or "data" in event or _is_image(event)


def _is_image(event: dict[str, Any]) -> bool:
    return str(event.get("type", "")).endswith(".completed")


def is_chunk(event: dict[str, Any]) -> bool:
    """Returns whether an event is an image, or a whole reply."""
    return isinstance(event.get("type"), str) or "data" in event


def broken_off(body: dict[str, Any]) -> str | None:
    """Returns why one of the images was broken off."""
    reason = _reason(body, Ending.BROKEN_OFF)
    return None if reason is None else f"the endpoint broke off the reply ({reason})"


def answer(body: dict[str, Any]) -> Answer:
    """Reads the images: a success if there is at least one and none was filtered. There is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    problem = broken_off(body)
    if problem is not None:
        return Answer(None, None, model, usage, Status.ERROR, problem)
    reason = _reason(body, Ending.FILTERED)
    if reason is not None:
        problem = f"the endpoint's content filter stopped the reply ({reason})"
        return Answer(None, reason, model, usage, Status.FILTERED, problem)
    if _ordered(body) is None:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply's images have wrong indexes")
    if not _images(body):
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, "the reply has no image")
    return Answer(None, None, model, usage)


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """Returns each image as base64 or else its URL, and the prompt as the model revised it."""
    images = _images(body)
    prompts = (text_or_none(item.get("revised_prompt")) for item in _ordered(body) or ())
    return {
        "image": images[0] if images else None,
        "images": images,
        "revised_prompt": next(filter(None, prompts), None),
    }


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns the schemas of texts: base64, URLs or paths."""
    return {"image": _TEXT, "images": {"type": "array", "items": _TEXT}, "revised_prompt": _TEXT}


def _ordered(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the images in the order of their indexes, or as they come if they have none; `None` for wrong indexes."""
    items = [item for item in as_list(body.get("data")) if isinstance(item, dict)]
    return by_place(items, len(items))


def _reason(body: dict[str, Any], ending: Ending) -> str | None:
    """Returns the first finish reason that means `ending`; some servers give one for each image."""
    reasons = (text_or_none(as_dict(item).get("finish_reason")) for item in as_list(body.get("data")))
    return next((reason for reason in reasons if reason and ending_of(reason) is ending), None)


def _images(body: dict[str, Any]) -> list[str]:
    found = (item.get("b64_json") or item.get("url") for item in _ordered(body) or ())
    return [image for image in found if image and isinstance(image, str)]
