"""Terminals as a person sees them: a real pseudo-terminal of any width, whose screen pyte draws."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pyte

_HEIGHT = 24
_READ = 1 << 16


class Terminal:
    """A pseudo-terminal: `stream` is what a program writes to.

    Attributes:
        stream: The terminal, as a program has it.
        writer: The same, as a descriptor.
        said: All bytes that it was sent.
    """

    def __init__(self, columns: int) -> None:
        self._reader, self.writer = pty.openpty()
        self.stream: TextIO = open(self.writer, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - closed below
        self.said = b""
        self._screen = pyte.Screen(columns, _HEIGHT)
        self._drawing = pyte.ByteStream(self._screen)
        self.resize(columns)

    def resize(self, columns: int) -> None:
        """Changes its width."""
        termios.tcsetwinsize(self.writer, (_HEIGHT, columns))
        self._screen.resize(_HEIGHT, columns)

    def read(self) -> bool:
        """Takes what was written, waiting for it; returns whether there may be more."""
        with suppress(OSError):  # the other side is closed
            if data := os.read(self._reader, _READ):
                self.said += data
                self._drawing.feed(data)
                return True
        return False

    def lines(self) -> list[str]:
        """What its screen shows now, without what is empty at the end."""
        os.set_blocking(self._reader, False)
        while self.read():
            pass
        os.set_blocking(self._reader, True)
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def close(self) -> None:
        """Closes both sides."""
        self.stream.close()
        for side in (self.writer, self._reader):
            with suppress(OSError):
                os.close(side)


@contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """Opens a terminal of so many columns."""
    opened = Terminal(columns)
    try:
        yield opened
    finally:
        opened.close()
