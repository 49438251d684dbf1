"""Values by key that wait on disk, so that however many there are take little memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from connector.base.errors import StorageError

_WRITTEN: Final = 1 << 18  # bytes that are written at once
_CACHE: Final = 8 << 10  # KiB of pages in memory
_COST: Final = 100  # bytes of an entry besides its key and its value, roughly, until it is written


class Spool:
    """Takes values, each with a number, under keys; several may have the same key.

    It lies in a file without a name, made where temporary files are, once there is something to write: it goes with the
    process. One thread uses it at a time.
    """

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None
        self._pending: dict[bytes, list[tuple[int, bytes]]] = {}
        self._size = 0

    def put(self, key: bytes, number: int, value: bytes = b"") -> None:
        """Takes a value.

        Raises:
            StorageError: The disk is full.
        """
        self._pending.setdefault(key, []).append((number, value))
        self._size += len(key) + len(value) + _COST
        if self._size >= _WRITTEN:
            self._write()

    def __contains__(self, key: bytes) -> bool:
        if key in self._pending:
            return True
        if self._db is None:
            return False
        with _explained():
            return self._db.execute("SELECT 1 FROM item WHERE key = ? LIMIT 1", (key,)).fetchone() is not None

    def get(self, key: bytes) -> list[tuple[int, bytes]]:
        """Returns the numbers and values of a key, in the order in which they were put."""
        found: list[tuple[int, bytes]] = []
        if self._db is not None:
            with _explained():
                found = self._db.execute(
                    "SELECT number, value FROM item WHERE key = ? ORDER BY rowid", (key,)
                ).fetchall()
        return found + self._pending.get(key, [])

    def keys(self, number: int) -> list[bytes]:
        """Returns the keys that have a value of this number. It takes long: all are gone through."""
        found: list[tuple[bytes]] = []
        if self._db is not None:
            with _explained():
                found = self._db.execute("SELECT key FROM item WHERE number = ?", (number,)).fetchall()
        pending = [key for key, values in self._pending.items() if any(each == number for each, _ in values)]
        return list(dict.fromkeys([*(key for (key,) in found), *pending]))

    def forget(self, key: bytes) -> None:
        """Forgets all values of a key."""
        self._pending.pop(key, None)
        if self._db is not None:
            with _explained():
                self._db.execute("DELETE FROM item WHERE key = ?", (key,))

    def close(self) -> None:
        """Gives the space back."""
        self._pending.clear()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _write(self) -> None:
        with _explained():
            if self._db is None:
                self._db = _opened()
            rows = ((key, *each) for key, values in self._pending.items() for each in values)
            self._db.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
        self._pending.clear()
        self._size = 0


def _opened() -> sqlite3.Connection:
    db = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a file that nobody else can open
    for statement in (
        "PRAGMA journal_mode = OFF",
        "PRAGMA synchronous = OFF",
        f"PRAGMA cache_size = -{_CACHE}",
        "CREATE TABLE item (key BLOB, number INTEGER, value BLOB)",
        "CREATE INDEX item_key ON item (key)",
    ):
        db.execute(statement)
    return db


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"what waits cannot be kept on disk in {tempfile.gettempdir()} ({error}): make room there, or set TMPDIR"
        ) from error
