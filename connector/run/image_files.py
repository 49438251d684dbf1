"""Images that an endpoint has made, as files named by a hash of their content.

The same image is the same file, however often its reply comes out of the ledger, and no other file is overwritten.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from connector.base.errors import FatalError, ReplyError
from connector.base.user_cache import make_private_directory, write_private_file
from connector.templates.image_structure import end_of
from connector.templates.images import SUFFIXES, media_type

_URLS: Final = ("http://", "https://")


def kept(images: Sequence[str], directory: Path) -> list[str]:
    """Writes images into files that only their owner can read, and returns the paths.

    An image is base64 or a data URL. Where the endpoint only gave a web address, that stays as it is.

    Raises:
        ReplyError: It is none of these, or not an image.
        FatalError: The directory cannot be written to.
    """
    return [image if image.startswith(_URLS) else str(_written(_bytes(image), directory)) for image in images]


def _bytes(image: str) -> bytes:
    try:
        return b64decode(image.partition(",")[2] if image.startswith("data:") else image, validate=True)
    except ValueError:  # also for letters that are not ASCII
        raise ReplyError("the reply's image is neither a URL nor base64") from None


def _written(data: bytes, directory: Path) -> Path:
    kind = media_type(data)
    if kind is None:
        raise ReplyError("the reply's image is neither PNG nor JPEG nor GIF nor WebP")
    end = end_of(data, kind)
    if end is None:
        raise ReplyError("the reply's image is incomplete")
    data = data[:end]  # what follows is not part of the image
    path = directory / f"{blake2b(data, digest_size=16).hexdigest()}{SUFFIXES[kind]}"
    try:
        if not _is_whole(path, len(data)):
            make_private_directory(directory)
            write_private_file(path, data)
    except OSError as error:
        raise FatalError(
            f"image_dir: {directory} cannot be written to ({error.strerror}): make room, or name another "
            "directory, then run the same command again; the replies are kept",
            detail=str(error),
        ) from error
    return path


def _is_whole(path: Path, size: int) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == size
    return False
