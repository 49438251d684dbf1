"""Finds the end of an image by its whole structure, so that no other file passes as one by its first bytes.

Pixels are not decoded. Formats: PNG (W3C, "Portable Network Graphics"), JPEG (ITU-T T.81, annex B), GIF (CompuServe,
GIF89a), WebP (RFC 9649).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import unpack_from
from typing import Final
from zlib import crc32

from connector.base.regex import regex

_SCAN_END: Final = regex(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that does not occur within a scan
_PNG_START: Final = 8
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_SCAN, _END, _NONE = 0xDA, 0xD9, 0xFF
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B
_WEBP_IMAGES: Final = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


def end_of(data: bytes, kind: str) -> int | None:
    """Returns the offset at which an image of a media type ends; `None` unless `data` begins with a whole one."""
    try:
        end = _ENDS[kind](data)
    except (IndexError, ValueError):  # truncated
        return None
    return end if end <= len(data) else None


def _png(data: bytes) -> int:
    position, names = _PNG_START, list[bytes]()
    while names[-1:] != [b"IEND"]:
        (size,), name = _unpack(">I", data, position), data[position + 4 : position + 8]
        checksum = _unpack(">I", data, position + 8 + size)
        if not name.isalpha() or checksum != (crc32(data[position + 4 : position + 8 + size]),):
            raise ValueError
        names.append(name)
        position += 12 + size
    if names[0] != b"IHDR" or b"IDAT" not in names:
        raise ValueError
    return position


def _jpeg(data: bytes) -> int:
    position, has_frame, has_scan = 2, False, False
    while True:
        if data[position] != _NONE:
            raise ValueError
        while (marker := data[position + 1]) == _NONE:  # fill bytes
            position += 1
        position += 2
        if marker == _END and has_scan:
            return position
        if marker in _JPEG_BARE:
            continue
        (size,) = _unpack(">H", data, position)
        if marker in (0, _END) or size < 2:  # noqa: PLR2004 - the size includes its own two bytes
            raise ValueError
        position += size
        has_frame = has_frame or marker in _JPEG_FRAMES
        if marker == _SCAN and has_frame:
            has_scan, found = True, _SCAN_END.search(data, position)
            if found is None:
                raise ValueError
            position = found.end() - 2


def _gif(data: bytes) -> int:
    position, has_image = 13 + _gif_table(data[10]), False
    while True:
        block = data[position]
        if block == _GIF_END and has_image:
            return position + 1
        if block == _GIF_IMAGE:
            has_image = True
            position = _gif_blocks(data, position + 11 + _gif_table(data[position + 9]))
        elif block == _GIF_EXTENSION:
            position = _gif_blocks(data, position + 2)
        else:
            raise ValueError


def _gif_table(flags: int) -> int:
    """Returns the size of a colour table, in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_blocks(data: bytes, position: int) -> int:
    while size := data[position]:
        position += 1 + size
    return position + 1


def _webp(data: bytes) -> int:
    end, position, names = 8 + _unpack("<I", data, 4)[0], 12, set[bytes]()
    while position < end:
        names.add(data[position : position + 4])
        (size,) = _unpack("<I", data, position + 4)
        position += 8 + size + size % 2
    if position != end or names.isdisjoint(_WEBP_IMAGES):
        raise ValueError
    return end


def _unpack(form: str, data: bytes, position: int) -> tuple[int, ...]:
    if position + 4 > len(data):
        raise ValueError
    return unpack_from(form, data, position)


_ENDS: Final[Mapping[str, Callable[[bytes], int]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/gif": _gif,
    "image/webp": _webp,
}
