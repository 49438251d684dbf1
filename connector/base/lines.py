"""Lines of a byte stream as they arrive, with `None` whenever the stream pauses, so that nothing is held back."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from io import UnsupportedOperation
from typing import BinaryIO, Final

from connector.base.errors import ConfigError

PAUSE_MS: Final = 10
"""Milliseconds without a byte that count as a pause. While it lasts, each further `None` comes at once.

The consumer also waits for calls, so it does not spin.
"""

MOST: Final = 64 << 20
"""The most bytes of a line, which is held in memory both as received and parsed."""

_CHUNK: Final = 1 << 16


def lines(stream: BinaryIO, most: int = MOST) -> Iterator[bytes | None]:
    """Yields the lines of a stream without their ends, and `None` for each pause. Needs no thread.

    Raises:
        ConfigError: A line is longer than `most` bytes.
    """
    try:
        descriptor = stream.fileno()
    except (AttributeError, UnsupportedOperation):
        while line := stream.readline(most + 1):
            yield _bounded(line.removesuffix(b"\n"), most)
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    begun: list[bytes] = []
    size = 0
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
        size += len(chunk)
        if b"\n" in chunk:
            *whole, rest = b"".join(begun).split(b"\n")
            _bounded(whole[0], most)
            yield from whole
            begun, size = [rest], len(rest)
        if size > most:
            raise _too_long(most)
    if rest := b"".join(begun):
        yield rest


def _bounded(line: bytes, most: int) -> bytes:
    if len(line) > most:
        raise _too_long(most)
    return line


def _too_long(most: int) -> ConfigError:
    return ConfigError(f"the input has a line of more than {most:,} bytes: end each message with a line feed")
