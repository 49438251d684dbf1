"""HTTP/1.1 as bytes, without a socket: the fields of a request, and the head and body of a reply (RFC 9112)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final, TypeAlias

from connector.base.errors import ConfigError, CutError, Problem, ReplyError
from connector.base.regex import regex

PIECE: Final = 1 << 16
"""The most bytes that one receive or one step of decompression returns."""

MAX_HEAD: Final = 1 << 16
MAX_FIELDS: Final = 256

_FEW, _SMALLEST = 1000, 64  # members of compressed data that may be small, and bytes that the others have on average

Receive: TypeAlias = Callable[[], bytes]
"""Waits for bytes and returns them; none at the end of the connection. May raise `CutError`."""

Body: TypeAlias = bytes | Generator[bytes, None, bool]
"""A body that has arrived with its head, or a generator of its pieces as they arrive. The generator returns whether
the connection is then at the exact end of the message and so can be used again; with a whole body it always is."""

_TOKEN = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = regex(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS_LINE = regex(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?![^ \r\n])")
_LENGTH = regex(r"([0-9]{1,18})(?:[ \t]*,[ \t]*\1)*")
_FOLD = regex(r"\r?\n[ \t]+")
HEAD_END = regex(rb"\n\r?\n")
_CHUNK = regex(rb"\r?\n([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class Headers(Mapping[str, str]):
    """The header fields of a request, and `text`, their form on the wire. Their values stay out of the repr.

    Names are the same in any case; the last of a name wins. Raises `ConfigError` for a name or value that RFC 9110
    section 5 does not allow, a line break above all.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = {name.lower(): (name, value) for name, value in fields.items()}
        problem = "has a line break or another character that no header may have: remove it"
        if not all(map(_TOKEN.fullmatch, self)):
            raise ConfigError([Problem("headers", f"a name {problem}")])
        for name, value in self._fields.values():
            if not _FIELD_VALUE.fullmatch(value):
                raise ConfigError([Problem(f"headers.{name}", problem)])
        self.text = "".join([f"{name}: {value}\r\n" for name, value in self._fields.values()])

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<{len(self)} headers>"


class TlsError(OSError):
    """The peer answered with TLS to plain HTTP."""


def malformed(what: str) -> ReplyError:
    """Returns the error for bytes that are not an HTTP/1.1 reply."""
    return ReplyError("the answer is not valid HTTP: check host, port and http or https in `url`", detail=what)


def too_large(most: float) -> ReplyError:
    """Returns the error for a reply of more than `most` bytes."""
    return ReplyError(f"the reply is larger than max_response_bytes = {most}")


def cut(what: str) -> CutError:
    """Returns the error for a reply that ends too soon."""
    return CutError("the connection was lost before the reply was complete", detail=what)


def parse_head(head: bytes) -> tuple[int, int, dict[str, str]]:
    """Returns status, minor version and fields (lower-case names) of a head without its empty line.

    RFC 9112, sections 2.2, 4 and 5: a bare LF ends a line too, folded lines are unfolded, repeated fields are joined
    with commas. A line without a colon is ignored, as in browsers. Raises `ReplyError` for what is not a head.
    """
    text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    first, *lines = text.split("\n")
    if not (status := _STATUS_LINE.match(first)):
        raise malformed("the status line")
    if len(lines) > MAX_FIELDS:
        raise malformed(f"more than {MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name = name.rstrip(" \t").lower()
            value = value.strip(" \t\r")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return int(status[2]), int(status[1]), fields


def expected(receive: Receive) -> bytes:
    """Returns the next bytes; raises `CutError` at the end of the connection."""
    if not (data := receive()):
        raise cut("the peer closed the connection")
    return data


def framed(method: str, status: int, fields: Mapping[str, str], data: bytes, receive: Receive) -> Body:
    """Returns the body that follows a head, by RFC 9112, section 6.3; `data` is the part that has arrived.

    Raises `ReplyError` for an invalid length, and for a transfer coding other than chunked.
    """
    if method == "HEAD" or status in {204, 304}:
        return sized(data, 0, receive)
    told = fields.get("transfer-encoding", "")
    coding = told.lower()
    if coding == "chunked":
        return chunked(data, receive)
    if coding not in {"", "identity"}:
        raise malformed(f"transfer-encoding {told!r}")
    if "content-length" not in fields:
        return until_close(data, receive)
    if not (length := _LENGTH.fullmatch(fields["content-length"])):
        raise malformed("content-length")
    size = int(length[1])
    return data if len(data) == size else sized(data, size, receive)


def pieces(body: Body) -> Generator[bytes, None, bool]:
    """Yields either form of a body in pieces; returns whether the connection is at the exact end of the message."""
    if isinstance(body, bytes):
        yield body
        return True
    return (yield from body)


def sized(data: bytes, size: int, receive: Receive) -> Generator[bytes, None, bool]:
    """Yields a body of `size` bytes that starts with `data`; raises `CutError` if fewer come."""
    while len(data) < size:
        if data:
            yield data
            size -= len(data)
        data = expected(receive)
    if size:
        yield data[:size]
    return len(data) == size


def until_close(data: bytes, receive: Receive) -> Generator[bytes, None, bool]:
    """Yields a body that ends with the connection; whether it was cut cannot be seen here."""
    data = data or receive()
    while data:
        yield data
        data = receive()
    return False


def chunked(data: bytes, receive: Receive) -> Generator[bytes, None, bool]:
    """Yields a chunked body (RFC 9112, section 7.1), without its extensions and trailers.

    Chunks that have arrived are joined and yielded before waiting for more. Raises `CutError` if the connection ends
    before the last chunk, or a chunk's size cannot be read.
    """
    data = b"\r\n" + data  # so that every size line, the first too, follows a line end
    at = left = 0
    ready: list[bytes] = []
    while True:
        if left:
            ready.append(data[at : at + left])
            at += len(ready[-1])
            left -= len(ready[-1])
        if not left and (line := _CHUNK.match(data, at)):
            at, left = line.end(), int(line[1], 16)
            if left:
                continue
            break
        if ready:
            yield b"".join(ready)
            ready.clear()
        if not left and (b"\n" in data[at + 2 :] or len(data) - at > MAX_HEAD):
            raise cut("the size of a chunk is not a number")
        data, at = data[at:] + expected(receive), 0
    if ready:
        yield b"".join(ready)
    tail = b"\n" + data[at:]
    while not (end := HEAD_END.search(tail)):
        if len(tail) > MAX_HEAD or not (more := receive()):
            return False  # complete all the same: the last chunk has come (RFC 9112 section 8)
        tail += more
    return end.end() == len(tail)


def inflated(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Yields decompressed gzip (any number of members) or deflate (with or without a zlib header) as it arrives.

    Each piece has at most `PIECE` bytes, however well it was compressed. Raises `CutError` if the data ends too soon
    and `ReplyError` if it is damaged, or has many members with hardly a byte in each: they take time by their number.
    """
    engine, members, size = None, 0, 0
    for piece in pieces:
        data, full = piece, False
        while data or full:
            if engine is None or engine.eof:
                members += 1
                if members > _FEW + size // _SMALLEST:
                    raise ReplyError(f"the reply cannot be decompressed ({coding}): its members are empty")
                zlib_header = data[0] & 0x0F == zlib.DEFLATED  # RFC 1950 section 2.2; no raw block starts like this
                engine = zlib.decompressobj(31 if coding.endswith("gzip") else 15 if zlib_header else -15)
            try:
                text = engine.decompress(data, PIECE)
            except zlib.error as error:
                raise ReplyError(f"the reply cannot be decompressed ({coding})", detail=str(error)) from error
            if text:
                size += len(text)
                yield text
            data = engine.unconsumed_tail or engine.unused_data
            full = len(text) == PIECE and not engine.eof
    if engine is not None and not engine.eof:
        raise cut("compressed data without its end")
