"""Lines of a stream of bytes as they come, with `None` wherever the stream pauses, so that nothing is held back."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from io import UnsupportedOperation
from typing import BinaryIO, Final

PAUSE_MS: Final = 10
"""Milliseconds without a byte that count as a pause. As long as it lasts, each further `None` comes at once.

The reader has calls to watch as well, and waits there.
"""

_CHUNK: Final = 1 << 16


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yields the lines of a stream without their ends, and `None` for each pause. Needs no thread."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, UnsupportedOperation):
        yield from (line.removesuffix(b"\n") for line in stream)
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    begun: list[bytes] = []
    patience = PAUSE_MS
    while True:
        if not poll.poll(patience):
            patience = 0
            yield None
            continue
        patience = PAUSE_MS
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            break
        begun.append(chunk)
        if b"\n" in chunk:
            *whole, rest = b"".join(begun).split(b"\n")
            yield from whole
            begun = [rest]
    if rest := b"".join(begun):
        yield rest
