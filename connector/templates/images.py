"""Images for requests: turns a URL, data URL, path or bytes in a row into a URL or a data URL.

A path is opened only if the config says that a column holds images, only within one folder, and only if the whole file
is an image. So no other file of this machine gets into a request or an error.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from pathlib import Path
from stat import S_ISREG
from typing import Final

from connector.base.values import is_null
from connector.templates.image_structure import end_of

LARGEST: Final = 20 * 2**20
"""The largest size of an image, in bytes (OpenAI's vision guide)."""

SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}
"""The supported media types, and the suffixes of their files."""

_HEAD: Final = 12  # bytes at the start that show the type of an image
_STARTS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_WITH_MORE: Final = "image/jpeg"  # cameras append more pictures and data, which are not sent
_BASE64_STARTS: Final = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
_SHOWN: Final = 100


class ImageError(ValueError):
    """A value that is not an image or cannot be sent. The message quotes nothing of its content."""


def media_type(data: bytes) -> str | None:
    """Returns the media type of an image by its first bytes: PNG, JPEG, GIF or WebP; `None` for anything else."""
    if data[:4] == b"RIFF" and data[8:_HEAD] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


def url_of(value: object, folder: Path | None = None) -> str:
    """Returns the URL of an image: an http URL as it is, and anything else as a checked data URL.

    Args:
        value: The value of the column.
        folder: The only folder from which files may be read, and the base of relative paths; `None` to read no file.

    Raises:
        ImageError: The value is null, not an image, too large, or a file that cannot be read.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _data_url(bytes(value), "these bytes are")
    if is_null(value):
        raise ImageError("there is no image: the value is null")
    if not isinstance(value, str):
        raise ImageError(f"an image is a text or bytes, and this is {type(value).__name__}")
    text = value.strip()
    start = text[:8].lower()
    if start.startswith(("http://", "https://")):
        return text
    if start.startswith("data:"):
        return _data_url(bytes_of(text), "the data URL is")
    if text.startswith(_BASE64_STARTS):
        try:
            return _data_url(_decoded(text), "the base64 text is")
        except binascii.Error:
            pass  # a path can begin like base64
    return _data_url(_read(text, folder), f"{text[:_SHOWN]!r} is")


def bytes_of(data_url: str) -> bytes:
    """Returns the bytes of a data URL in base64 (RFC 2397).

    Raises:
        ImageError: It is not such a data URL, or larger than an image may be.
    """
    head, comma, data = data_url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("the data URL is not in base64: it must begin like data:image/png;base64,")
    try:
        return _decoded(data)
    except binascii.Error:
        raise ImageError("the data URL is cut short, or not valid base64") from None


def _decoded(text: str) -> bytes:
    if len(text) > LARGEST * 3 // 2:
        raise _too_large("the image")
    return b64decode("".join(text.split()).encode("ascii", "replace"), validate=True)


def _data_url(data: bytes, what: str) -> str:
    kind = media_type(data)
    if kind is None:
        raise ImageError(f"{what} not an image that can be sent: send PNG, JPEG, GIF or WebP")
    if len(data) > LARGEST:
        raise _too_large("the image")
    end = end_of(data, kind)
    if end is None:
        raise ImageError(f"{what} an incomplete image: send PNG, JPEG, GIF or WebP")
    if end < len(data) and kind != _WITH_MORE:
        raise ImageError(f"{what} an image with other data after it: save it again")
    return f"data:{kind};base64,{b64encode(data[:end]).decode()}"


def _read(path: str, folder: Path | None) -> bytes:
    """Returns the content of a file, or only its first bytes if they are not those of an image.

    Opening does not block on a named pipe.
    """
    shown = repr(path[:_SHOWN])
    if not path or "\0" in path:
        raise ImageError(f"{shown} is not an image, nor the path of one")
    if folder is None:
        raise ImageError(f"{shown} is not a URL and not an image in base64, and image_root names no folder of images")
    try:
        place = _within(folder, path, shown)
        found = place.stat()
        if not S_ISREG(found.st_mode):
            raise ImageError(f"{shown} is not a file: name an image")
        if found.st_size > LARGEST:
            raise _too_large(shown)
        with open(place, "rb", opener=_opened) as file:
            head = file.read(_HEAD)
            return head + file.read(LARGEST) if media_type(head) else head
    except FileNotFoundError:
        raise ImageError(
            f"{shown} is not a URL, not an image in base64, and there is no such file in {folder}"
        ) from None
    except OSError as error:
        raise ImageError(f"the image {shown} cannot be read: {error.strerror}") from None


def _within(folder: Path, path: str, shown: str) -> Path:
    """Returns a path with symbolic links resolved. One outside the folder is an error, whether it exists or not."""
    root, named = folder.resolve(), Path(os.path.normpath(folder.absolute() / path))
    is_named_within = named.is_relative_to(root) or named.is_relative_to(os.path.normpath(folder.absolute()))
    try:
        place = named.resolve() if is_named_within else named
    except RuntimeError:  # for a loop of links, before Python 3.13
        raise ImageError(f"the image {shown} cannot be read: its symbolic link leads nowhere") from None
    if not (is_named_within and place.is_relative_to(root)):
        raise ImageError(
            f"{shown} is outside of {folder}, where images are read from: move it there, or set image_root"
        )
    return place


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)


def _too_large(what: str) -> ImageError:
    return ImageError(f"{what} has more than {LARGEST >> 20} MB: make it smaller")
