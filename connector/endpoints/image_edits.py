"""Images made from other images: `POST /v1/images/edits` (OpenAI API reference, "Images").

A request is JSON like any other, with images as data URLs, which the filter `image` makes. It becomes a form with files
(`multipart/form-data`, RFC 7578) only when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex
from typing import Final

from connector.base.errors import BadRequestError
from connector.base.numbers import loads
from connector.base.records import JSON
from connector.base.values import dumps
from connector.endpoints import Shorthand
from connector.endpoints._defaults import (
    HAS_OUTPUT_TOKENS,
    IN_BATCHES,
    IN_CAPABILITIES,
    OVER_HTTP,
    decode,
    dedicated_model,
    expectation,
    open_sender,
    other_purpose,
    packing,
    raised,
    repaired,
    structured,
)
from connector.endpoints._images import (
    COLUMNS,
    COSTLY,
    FALLBACKS,
    REPLY,
    REPLY_SIZE_FACTOR,
    answer,
    broken_off,
    end_of_stream,
    fold,
    inline,
    is_chunk,
    missing_text,
    streamed,
    value_types,
    values,
)
from connector.endpoints._prompt import as_text, image_of
from connector.templates.images import SUFFIXES, ImageError, bytes_of, media_type

PATH: Final = "/images/edits"

_BOUNDARY: Final = token_hex(16)  # random, so that no row can contain it
_TYPE: Final = f"multipart/form-data; boundary={_BOUNDARY}"
_FILES: Final = frozenset({"image", "mask"})
_DOT: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR4nGNgAAIAAAUAAXpeqz8AAAAASUVORK5CYII="
)


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a request with the images of the image columns, and the prompt that says what to do with them."""
    model = {} if shorthand.model is None else {"model": shorthand.model}
    images: list[JSON] = [image_of(name) for name in shorthand.images]
    given = {"image": images[0] if len(images) == 1 else images} if images else {}
    return {**model, "prompt": as_text(shorthand.prompt or ""), **given, **inline(shorthand.files)}


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request with one image of a single pixel."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "prompt": "a dot", "image": _DOT}


def encode(body: bytes) -> tuple[str, bytes]:
    """Returns a form with images as files and all else as text. Raises `BadRequestError` for the URL of an image."""
    parts = [part for name, value in loads(body).items() for part in _parts(name, value)]
    return _TYPE, b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])


def _parts(name: str, value: JSON) -> Iterator[bytes]:
    if name in _FILES:
        images = value if isinstance(value, list) else [value]
        for image in images:
            yield _file(name if len(images) == 1 else f"{name}[]", image)
    elif value is not None:
        yield _part(name, "", value.encode() if isinstance(value, str) else dumps(value))


def _file(name: str, image: JSON) -> bytes:
    if not isinstance(image, str) or not image.startswith("data:"):
        raise BadRequestError(
            f"{name}: an edit needs the image itself: a data URL, as the filter image makes of a file"
        )
    try:
        data = bytes_of(image)
    except ImageError as error:
        raise BadRequestError(f"{name}: {error}") from None
    kind = media_type(data) or "image/png"
    more = f'; filename="image{SUFFIXES[kind]}"\r\nContent-Type: {kind}'
    return _part(name, more, data)


def _part(name: str, more: str, data: bytes) -> bytes:
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as HTML's forms do it (RFC 7578, 2)
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{quoted}"{more}\r\n\r\n'
    return head.encode() + data + b"\r\n"
