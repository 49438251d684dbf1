"""Server-sent events, parsed from bytes under any chunking (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

DONE: Final = b"[DONE]"
"""The data by which OpenAI's streams say that nothing follows."""

STARTS: Final = (b"data:", b"event:", b":")
"""How a stream of events begins, whatever its content type; JSON never begins so."""

BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may precede either."""

ERROR: Final = b"error"
"""The name of an event that tells of a failure."""

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = ord("\r")
_IGNORED: Final = (b":", b"id:", b"retry:")
_NAME: Final = b"event:"
_DATA: Final = b"data:"
_FAILURE: Final = b"error:"
_FIELDS: Final = (b"data", b"event", b"id", b"retry")
_SIGNS_OF_LIFE: Final = frozenset({b"ping", b"keepalive", b"keep-alive", b"heartbeat"})


Event: TypeAlias = tuple[bytes, bytes]
"""An event of a stream: its data and its name, empty where it has none. A plain tuple: a reply has hundreds."""


def is_stream(head: bytes, content_type: str) -> bool:
    """Returns whether a reply is a stream: by its first bytes, or else by its content type, which servers get wrong."""
    start = head.lstrip(BLANK)
    return start.startswith(STARTS) or ("event-stream" in content_type.lower() and not start.startswith(b"{"))


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yields each event as soon as its blank line has arrived. Comments, `id:`, `retry:` and pings are dropped.

    Lines end in LF, CR or CRLF. An event that the stream's end leaves without a blank line is yielded as well: whether
    its data is whole is for the caller to see, and some servers end like that.

    A line that the standard does not know is yielded as an event of its own with the name `ERROR`, where the standard
    says to ignore it: servers and proxies tell of a failure that way, as `error: {…}` or in plain text.
    """
    data: list[bytes] = []
    name = b""
    for line in _lines(chunks):
        if not line:
            if (data or name == ERROR) and name not in _SIGNS_OF_LIFE:
                yield data[0] if len(data) == 1 else b"\n".join(data), name
            data.clear()
            name = b""
        elif line.startswith(_DATA):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(_NAME):
            name = line.removeprefix(_NAME).strip()
        elif line == b"data":
            data.append(b"")
        elif not line.startswith(_IGNORED) and line.strip() and not _is_begun(line):
            yield line.removeprefix(_FAILURE).strip(), ERROR
    if (data or name == ERROR) and name not in _SIGNS_OF_LIFE:
        yield b"\n".join(data), name


def _is_begun(line: bytes) -> bool:
    """Returns whether a line is a field without a value, or as much of one as a stream that was cut has left."""
    return any(field.startswith(line) for field in _FIELDS)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    after_cr = False
    for chunk in filter(None, _without_bom(chunks)):
        is_shared = after_cr and chunk[:1] == b"\n"
        after_cr = chunk[-1:] == b"\r"
        if is_shared:
            chunk = chunk[1:]  # noqa: PLW2901 - the LF of a CRLF that two chunks share
        if _CR in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # noqa: PLW2901 - one kind of line end from here
        lines = chunk.split(b"\n")
        if len(lines) > 1:
            pending.append(lines[0])
            yield b"".join(pending)
            yield from lines[1:-1]
            pending = []
        if lines[-1]:
            pending.append(lines[-1])
    if pending:
        yield b"".join(pending)


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    head = b""
    rest = iter(chunks)
    for chunk in rest:
        head += chunk
        if len(head) >= len(_BOM) or not _BOM.startswith(head):
            break
    yield head.removeprefix(_BOM)
    yield from rest
