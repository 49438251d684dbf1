"""Values by key on disk, so that any number of them takes little memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from struct import Struct
from typing import Final, cast

from connector.base.errors import StorageError

_WRITTEN: Final = 1 << 18  # bytes written at a time
_CACHE: Final = 8 << 10  # KiB of the index in memory
_COST: Final = 100  # bytes of an unwritten entry besides its key and value, roughly
_GONE: Final = 5_000  # entries removed from the index at a time
_ASKED: Final = 500  # keys looked up at a time
_HEAD: Final = Struct("<qH")  # an entry's number and the length of its key; key and value follow


class Spool:
    """A multimap on disk: stores values, each with a number, under keys of at least eight bytes.

    Values are appended to an unnamed temporary file, which is created on the first write and ends with the process; the
    space of removed values is not reused. An index finds them by the first bytes of their keys, which have to be as
    good as random. Not thread-safe.
    """

    def __init__(self) -> None:
        self._file: FileIO | None = None
        self._index: sqlite3.Connection | None = None
        self._end = 0
        self._pending: dict[bytes, list[tuple[int, bytes]]] = {}
        self._size = 0
        self._gone: dict[int, int] = {}  # removed entries that are still in the index: their offsets and IDs

    def put(self, key: bytes, number: int, value: bytes = b"") -> None:
        """Adds a value.

        Raises:
            StorageError: The disk is full.
        """
        self._pending.setdefault(key, []).append((number, value))
        self._size += len(key) + len(value) + _COST
        if self._size >= _WRITTEN:
            self._write()

    def having(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns those of the keys that have a value. Much faster for many at a time than one by one."""
        found = {key for key in keys if key in self._pending}
        if self._index is not None:
            for first in range(0, len(keys), _ASKED):
                some = [(_id_of(key), key) for key in keys[first : first + _ASKED]]
                statement = f"SELECT id FROM place WHERE id IN ({','.join('?' * len(some))})"  # noqa: S608 - no values
                with explained():
                    likely = set(self._index.execute(statement, [each for each, _ in some]).fetchall())
                found.update(key for each, key in some if likely and (each,) in likely and self._written(key))
        return found

    def get(self, key: bytes) -> list[tuple[int, bytes]]:
        """Returns the numbers and values of a key, in the order in which they were added."""
        return [(number, value) for _, number, value in self._written(key)] + self._pending.get(key, [])

    def keys(self, number: int) -> list[bytes]:
        """Returns the keys that have a value with this number. Slow: it scans all entries."""
        pending = (key for key, values in self._pending.items() if any(each == number for each, _ in values))
        if self._index is None:
            return list(pending)
        with explained():
            places = self._index.execute("SELECT start, size FROM place ORDER BY start").fetchall()
            read = [self._entry(start, size)[:2] for start, size in places if start not in self._gone]
        return list(dict.fromkeys([*(key for key, each in read if each == number), *pending]))

    def take(self, key: bytes, number: int) -> list[tuple[int, bytes]]:
        """Like `get`, but removes the values; returns nothing unless the first value has this number."""
        written = self._written(key)
        pending = self._pending.get(key, [])
        found = [(each, value) for _, each, value in written] + pending
        if not found or found[0][0] != number:
            return []
        if pending:
            del self._pending[key]
        if written:
            self._gone.update((start, _id_of(key)) for start, _, _ in written)
            if len(self._gone) >= _GONE and self._index is not None:
                with explained():
                    self._index.executemany("DELETE FROM place WHERE start = ? AND id = ?", self._gone.items())
                self._gone.clear()
        return found

    def close(self) -> None:
        """Frees the space."""
        self._pending.clear()
        if self._index is not None and self._file is not None:
            self._index.close()
            self._file.close()
            self._index = self._file = None

    def _written(self, key: bytes) -> list[tuple[int, int, bytes]]:
        """Returns the offset, the number and the value of each value of a key."""
        if self._index is None:
            return []
        with explained():
            places = self._index.execute("SELECT start, size FROM place WHERE id = ?", (_id_of(key),)).fetchall()
            entries = [(start, self._entry(start, size)) for start, size in places if start not in self._gone]
        return [(start, number, value) for start, (name, number, value) in entries if name == key]

    def _entry(self, start: int, size: int) -> tuple[bytes, int, bytes]:
        """Reads the key, number and value of an entry."""
        file = cast("FileIO", self._file)
        file.seek(start)
        data = file.read(size)
        number, length = _HEAD.unpack_from(data)
        value = _HEAD.size + length
        return data[_HEAD.size : value], number, data[value:]

    def _write(self) -> None:
        entries: list[bytes] = []
        places: list[tuple[int, int, int]] = []
        start = self._end
        for key, values in self._pending.items():
            for number, value in values:
                entries.append(b"".join((_HEAD.pack(number, len(key)), key, value)))
                places.append((_id_of(key), start, len(entries[-1])))
                start += len(entries[-1])
        with explained():
            if self._index is None or self._file is None:
                self._index, self._file = _indexed(), tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            self._file.seek(self._end)
            data = memoryview(b"".join(entries))
            while data:
                data = data[self._file.write(data) :]
            self._index.executemany("INSERT INTO place VALUES (?, ?, ?)", sorted(places))
        self._end, self._size = start, 0
        self._pending.clear()


def _id_of(key: bytes) -> int:
    return int.from_bytes(key[:8], signed=True)


def _indexed() -> sqlite3.Connection:
    """Opens an index: a private temporary database, which need not survive anything."""
    index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for statement in (
        "PRAGMA journal_mode = OFF",
        "PRAGMA synchronous = OFF",
        f"PRAGMA cache_size = -{_CACHE}",
        "CREATE TABLE place (id INTEGER, start INTEGER, size INTEGER, PRIMARY KEY (id, start)) WITHOUT ROWID",
    ):
        index.execute(statement)
    return index


@contextmanager
def explained() -> Iterator[None]:
    """Explains errors of reading and writing temporary files.

    Raises:
        StorageError: The disk is full.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"waiting rows cannot be kept on disk in {tempfile.gettempdir()} ({error}): make room there, or set TMPDIR"
        ) from error
