"""Server-sent events, parsed from bytes under any chunking (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import Final, TypeAlias

from connector.base.errors import ReplyError
from connector.http.http1 import PIECE, too_large

DONE: Final = b"[DONE]"
"""The data of the event that ends OpenAI's streams."""

STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How an event stream may begin; JSON never does."""

BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may precede an event stream or JSON: a byte order mark and white space."""

ERROR: Final = b"error"
"""The name of an event that reports a failure."""

_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_SHORTEST: Final = 4  # bytes: a stream may have as many lines as an event of the most bytes has lines of this length
_CR: Final = ord("\r")
_IGNORED: Final = (b":", b"id:", b"retry:")
_NAME: Final = b"event:"
_DATA: Final = b"data:"
_FAILURE: Final = b"error:"
_FIELDS: Final = (b"data", b"event", b"id", b"retry")
_SIGNS_OF_LIFE: Final = frozenset({b"ping", b"keepalive", b"keep-alive", b"heartbeat"})


Event: TypeAlias = tuple[bytes, bytes]
"""The data and the name of an event, each empty if there is none. A plain tuple for speed: a reply has hundreds."""


def is_stream(head: bytes, content_type: str) -> bool:
    """Returns whether a reply is a stream, by its first bytes; if these do not tell, by its content type.

    Servers often send the wrong content type.
    """
    start = head.lstrip(BLANK)
    return start.startswith(STARTS) or ("event-stream" in content_type.lower() and not start.startswith(b"{"))


def beginning(chunks: Iterator[bytes], least: int = 1) -> bytes:
    """Reads chunks until there are `least` bytes, and returns these without blank ones at the start.

    Blank bytes mean nothing before JSON or events, and some servers send millions of them.
    """
    head = b""
    for chunk in chunks:
        head = (head + chunk).lstrip(_SPACE).removeprefix(_BOM).lstrip(_SPACE)
        if len(head) >= least and not _BOM.startswith(head):
            break
    return head


def events(chunks: Iterable[bytes], most: float = float("inf")) -> Iterator[Event]:
    """Yields each event as soon as its blank line has arrived. Comments, `id:`, `retry:` and pings are dropped.

    Lines end in LF, CR or CRLF. A last event without its blank line is yielded too, since some servers end a stream
    like that; the caller must check whether its data is whole.

    A line that is not a field of the standard is yielded as an event named `ERROR`, although the standard says to
    ignore it: servers and proxies report failures that way, as `error: {…}` or in plain text.

    However it is cut into lines and chunks, an event takes no more memory than its bytes. Raises `ReplyError` for an
    event of more than `most` bytes, and for a stream of so many lines that their number alone would take long.
    """
    data: bytes | None = None
    more = BytesIO()  # data of several lines: a list of millions of short ones would take far more memory
    name = b""
    for line in _lines(chunks, most):
        if not line:
            if (data is not None or name == ERROR) and name not in _SIGNS_OF_LIFE:
                yield more.getvalue() if more.tell() else data or b"", name
            if more.tell():
                more = BytesIO()
            data, name = None, b""
        elif line.startswith(_DATA) or line == b"data":
            value = line[6:] if line[5:6] == b" " else line[5:]
            if data is None:
                data = value
                continue
            if not more.tell():
                more.write(data)
            more.write(b"\n" + value)
            if more.tell() > most:
                raise too_large(most)
        elif line.startswith(_NAME):
            name = line.removeprefix(_NAME).strip()
        elif not line.startswith(_IGNORED) and line.strip() and not _is_begun(line):
            yield line.removeprefix(_FAILURE).strip(), ERROR
    if (data is not None or name == ERROR) and name not in _SIGNS_OF_LIFE:
        yield more.getvalue() if more.tell() else data or b"", name


def _is_begun(line: bytes) -> bool:
    """Returns whether a line is the name of a field, or the start of one, as at the end of a stream that was cut."""
    return any(field.startswith(line) for field in _FIELDS)


def _lines(chunks: Iterable[bytes], most: float) -> Iterator[bytes]:
    pending = bytearray()
    after_cr = False
    left = most / _SHORTEST
    for chunk in filter(None, _without_bom(chunks)):
        is_shared = after_cr and chunk[:1] == b"\n"
        after_cr = chunk[-1:] == b"\r"
        if is_shared:
            chunk = chunk[1:]  # noqa: PLW2901 - the LF of a CRLF that two chunks share
        if _CR in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # noqa: PLW2901 - one kind of line end from here
        lines = chunk.split(b"\n")
        if len(lines) > 1:
            left -= len(lines)
            if left < 0:
                told = f"the stream has more lines than max_response_bytes = {most} allows: one for {_SHORTEST} bytes"
                raise ReplyError(told)
            if pending:
                pending += lines[0]
                yield bytes(pending)
                pending = bytearray()
            else:
                yield lines[0]
            yield from lines[1:-1]
        if lines[-1]:
            pending += lines[-1]
            if len(pending) > most:
                raise too_large(most)
    if pending:
        yield bytes(pending)


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the chunks without a byte order mark; splits large ones, as `_lines` makes a list of a chunk's lines."""
    head = b""
    rest = iter(chunks)
    for chunk in rest:
        head += chunk
        if len(head) >= len(_BOM) or not _BOM.startswith(head):
            break
    for chunk in chain((head.removeprefix(_BOM),), rest):
        if len(chunk) <= PIECE:
            yield chunk
        else:
            yield from (chunk[at : at + PIECE] for at in range(0, len(chunk), PIECE))
