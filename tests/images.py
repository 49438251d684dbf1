"""Small images of every supported type, whole: made here, byte by byte."""

from __future__ import annotations

from struct import pack
from typing import Final
from zlib import compress, crc32


def png_chunk(name: bytes, data: bytes) -> bytes:
    return pack(">I", len(data)) + name + data + pack(">I", crc32(name + data))


def png(padding: int = 0, comment: bytes = b"") -> bytes:
    """One dot, and a text of this many bytes, or this text."""
    header = png_chunk(b"IHDR", pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = png_chunk(b"tEXt", b"a\0" + (comment or b"x" * padding)) if padding or comment else b""
    return b"\x89PNG\r\n\x1a\n" + header + text + png_chunk(b"IDAT", compress(b"\0\0")) + png_chunk(b"IEND", b"")


def _segment(marker: int, data: bytes) -> bytes:
    return pack(">BBH", 0xFF, marker, len(data) + 2) + data


def riff_chunk(name: bytes, data: bytes) -> bytes:
    return name + pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + pack("<I", len(body)) + body


PNG: Final = png()
JPEG: Final = (
    b"\xff\xd8"
    + _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
    + _segment(0xDB, bytes(65))
    + b"\xff\xff"  # markers may be filled up
    + _segment(0xC0, b"\x08\0\x01\0\x01\x01\x01\x11\0")
    + _segment(0xC4, bytes(17) + b"\0")
    + _segment(0xDA, b"\x01\x01\0\0\x3f\0")
    + b"\x12\xff\x00\x34\xff\xd0\x56"
    + b"\xff\xd9"
)
GIF: Final = (
    b"GIF89a\x01\0\x01\0\x80\0\0"
    + bytes(6)
    + b"\x21\xf9\x04\0\0\0\0\0"
    + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    + b"\x3b"
)
WEBP: Final = webp(riff_chunk(b"VP8 ", b"\x30\x01\0"))
IMAGES: Final = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": GIF, "image/webp": WEBP}
