"""Lines that come in any order and are written to a file in the order of their index."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import SEEK_END
from itertools import repeat
from pathlib import Path
from typing import Final

BUFFER: Final = 1 << 18
"""Bytes of a buffer for reading and writing files."""

_WAITING: Final = 1 << 22  # bytes of lines that wait in memory for an earlier one
_ABSENT, _EMPTY = -1, -2


class Ordered:
    """A file of lines. Each is written as soon as all before it are; until then it waits in memory.

    If one line keeps many waiting, these spill to a second file. `gap` is written for a line that never comes. `next`
    is the index of the line to write next.
    """

    def __init__(self, path: Path, gap: bytes = b"") -> None:
        self._path = path
        self._gap = gap
        self._file = path.open("wb", buffering=BUFFER)
        self.next = 0
        self._end = 0
        self._waiting: dict[int, bytes] = {}
        self._size = 0
        self._aside: _Aside | None = None

    def __len__(self) -> int:
        """Returns one more than the highest index."""
        return self._end

    def put(self, index: int, line: bytes, count: int = 1) -> None:
        """Takes a line. One that stands for `count` indexes must be the next one.

        Raises:
            OSError: The disk is full.
        """
        self._end = max(self._end, index + count)
        if index == self.next:
            self._write(line, count)
            if self._waiting or self._aside:
                for each in self._ready():
                    self._write(each)
            return
        self._waiting[index] = line
        self._size += len(line)
        if self._size > _WAITING:
            self._set_aside()

    def leave_out(self, index: int) -> None:
        """Writes a gap in place of the line at this index."""
        self.put(index, self._gap)

    def finish(self) -> Path:
        """Writes the lines that still wait, with a gap for each line that has not come; returns the file.

        Raises:
            OSError: The disk is full.
        """
        while self.next < self._end:
            line = self._taken()
            self._write(self._gap if line is None else line)
        self._file.flush()
        return self._path

    def close(self) -> None:
        """Closes the files. Errors are ignored: they were raised before, or the lines are no longer needed."""
        with suppress(OSError):
            self._file.close()
        if self._aside:
            self._aside.close()

    def _write(self, line: bytes, count: int = 1) -> None:
        self._file.write(line)
        self.next += count

    def _ready(self) -> Iterator[bytes]:
        while (line := self._taken()) is not None:
            yield line

    def _taken(self) -> bytes | None:
        """Removes and returns the next line, if it has come."""
        line = self._waiting.pop(self.next, None)
        if line is not None:
            self._size -= len(line)
        elif self._aside:
            line = self._aside.get(self.next)
            if self.next + 1 >= self._aside.end:
                self._aside.close()
                self._aside = None
        return line

    def _set_aside(self) -> None:
        if self._aside is None:
            self._aside = _Aside(self._path.with_suffix(".aside"), self.next)
        self._aside.put(self._waiting)
        self._waiting.clear()
        self._size = 0


class _Aside:
    """Spilled lines in a file, in any order, from index `first` on; `end` is one more than the highest."""

    def __init__(self, path: Path, first: int) -> None:
        self._file = path.open("w+b", buffering=BUFFER)
        self._first = first
        self._places = array("q")  # 8 bytes a line, not 100 as in a dict: there can be millions

    @property
    def end(self) -> int:
        return self._first + len(self._places)

    def put(self, lines: Mapping[int, bytes]) -> None:
        size = self._file.seek(0, SEEK_END)
        self._places.extend(repeat(_ABSENT, max(lines) + 1 - self.end))
        for index, line in lines.items():
            self._places[index - self._first] = size if line else _EMPTY
            self._file.write(line)
            size += len(line)

    def get(self, index: int) -> bytes | None:
        place = self._places[index - self._first] if index < self.end else _ABSENT
        if place < 0:
            return b"" if place == _EMPTY else None
        self._file.seek(place)
        return self._file.readline()

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()
