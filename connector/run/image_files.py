"""Images that an endpoint has made, as files. Their names follow from what is in them, never from a row or a reply.

So the same image is the same file, however often its reply comes out of the ledger, and none is ever overwritten.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from connector.base.errors import FatalError, ReplyError
from connector.templates.images import SUFFIXES, media_type

_URLS: Final = ("http://", "https://")


def kept(images: Sequence[str], directory: Path) -> list[str]:
    """The paths of the files, readable by their owner alone, that the images have been written into.

    An image is base64 or a data URL. One that the endpoint has only told the URL of stays that URL.

    Raises:
        ReplyError: It is neither, or no image.
        FatalError: The directory cannot be written to.
    """
    return [image if image.startswith(_URLS) else str(_written(_bytes(image), directory)) for image in images]


def _bytes(image: str) -> bytes:
    try:
        return b64decode(image.partition(",")[2] if image.startswith("data:") else image, validate=True)
    except binascii.Error:
        raise ReplyError("the reply's image is neither a URL nor base64") from None


def _written(data: bytes, directory: Path) -> Path:
    kind = media_type(data)
    if kind is None:
        raise ReplyError("what the reply has for an image is none: it is neither PNG nor JPEG nor GIF nor WebP")
    path = directory / f"{blake2b(data, digest_size=16).hexdigest()}{SUFFIXES[kind]}"
    try:
        if not _is_whole(path, len(data)):
            directory.mkdir(parents=True, exist_ok=True)
            _write(path, data)
    except OSError as error:
        raise FatalError(
            f"image_dir: {directory} cannot be written to ({error.strerror}): make room, or name another directory, "
            "then run the same command again; what is paid for is kept",
            detail=str(error),
        ) from error
    return path


def _is_whole(path: Path, size: int) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == size
    return False


def _write(path: Path, data: bytes) -> None:
    """All of the file or none of it, through another one beside it, which is 0600 as `tempfile` makes them."""
    with NamedTemporaryFile("wb", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
