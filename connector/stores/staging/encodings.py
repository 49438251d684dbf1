"""The encodings of text files. Formats read UTF-8; files in other encodings are converted as they are read."""

from __future__ import annotations

import codecs
import io
from collections.abc import Generator
from encodings.aliases import aliases
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

from connector.base.suggestions import did_you_mean
from connector.stores.staging.compression import Compression, UnreadableTextError
from connector.stores.staging.ordered import BUFFER

ADVICE: Final = (
    'name its encoding with --encoding (`encoding` in the input), such as "cp1252" for a file of an old '
    "Windows program, or save it as UTF-8"
)
"""What to do about a text that is not in the expected encoding."""

_MARKS: Final = (  # the longer one first: UTF-32's begins like UTF-16's (The Unicode Standard, 23.8)
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TELLING: Final = 4  # bytes
_UTF8: Final = ("utf-8", "utf-8-sig", "ascii")


def is_encoding(name: str) -> str:
    """Returns the name of a text encoding. Raises `ValueError` if there is no such encoding."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name or "utf-8")
    except (LookupError, ValueError) as error:
        known = {each.replace("_", "-") for each in (*aliases, *aliases.values())}
        meant = did_you_mean(name, sorted(known)) or "write one such as utf-8, latin-1 or cp1252"
        raise ValueError(f"is not an encoding of texts: {meant}") from error
    return name


def marked(head: bytes) -> str:
    """Returns the encoding that the first bytes of a text show; an empty string if they show none.

    They show it by a byte order mark, or by a NUL in every second byte, as in UTF-16 (RFC 4627, 3).
    """
    even, odd = set(head[::2]), set(head[1::2])
    if len(head) >= _TELLING and (odd == {0}) != (even == {0}) and 0 not in even & odd:
        return "utf-16-le" if odd == {0} else "utf-16-be"
    return next((name for mark, name in _MARKS if head.startswith(mark)), "")


def recoded(compression: Compression, encoding: str) -> Compression:
    """Returns a compression whose text is converted to UTF-8. Reading a text not in `encoding` raises `BROKEN`."""
    if not encoding or codecs.lookup(encoding).name in _UTF8:
        return compression

    def opened(path: Path) -> BinaryIO:
        return BufferedReader(Chunks(_recoded(path, compression, encoding)), BUFFER)

    return compression._replace(open=opened, is_native=False)


def _recoded(path: Path, compression: Compression, encoding: str) -> Generator[bytes, None, None]:
    decoder, lines = codecs.getincrementaldecoder(encoding)(), 1
    with compression.open(path) as stream:
        while True:
            chunk = stream.read(BUFFER)
            try:
                text = decoder.decode(chunk, final=not chunk).encode()
            except UnicodeError as error:
                before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                lines += before.count(b"\n")
                raise UnreadableTextError(f"line {lines} is not {encoding}: {ADVICE}") from error
            lines += text.count(b"\n")
            yield text
            if not chunk:
                return


class Chunks(RawIOBase):
    """A stream of the bytes that a generator yields."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Returns `True`."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed names the wider type
        """Reads the next bytes into a buffer; returns how many."""
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = chunk
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Closes the generator as well."""
        self._chunks.close()
        super().close()
