"""The ledger: every final reply, stored before it is emitted, so that no call is ever paid for twice.

A SQLite file in WAL mode, keyed by a hash of endpoint and request body. It is the cache, the deduplication across runs
and the resume at once. One run owns it at a time: a second one on the same file waits for the first.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

import orjson

from connector.errors import StorageError
from connector.records import Reply

VERSION: Final = 1
"""`PRAGMA user_version` of the files that this version writes."""

_ROOM: Final = 900  # SQLite's default limit on parameters was 999 for a long time
_KEPT: Final = (
    "x-request-id",
    "x-litellm-response-cost",
    "x-litellm-call-id",
    "x-litellm-model-id",
    "x-portkey-trace-id",
    "x-portkey-cache-status",
)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS reply (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  status INTEGER NOT NULL,
  body BLOB NOT NULL,
  headers BLOB NOT NULL,
  latency_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  stored_at INTEGER NOT NULL DEFAULT (unixepoch())
)
"""


def key_of(endpoint: str, body: bytes) -> bytes:
    """The key of a request: 16 bytes of BLAKE2b over the endpoint's URL and the rendered body."""
    return blake2b(body, digest_size=16, key=blake2b(endpoint.encode(), digest_size=32).digest()).digest()


class Ledger:
    """An open ledger. All methods are called from one thread.

    Args:
        path: The file; it is made (0600) where it does not exist. `None` keeps the ledger in memory, for one run.
        waiting: Called once if another run has the file, before waiting for it; raises to refuse instead.

    Raises:
        StorageError: The file cannot be written, or it comes from a newer version.
    """

    def __init__(self, path: Path | None, *, waiting: Callable[[], None] = lambda: None) -> None:
        self.path = path
        try:
            self._db = self._opened(path, waiting)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"the ledger {path} cannot be opened: {error}", detail=repr(error)) from error

    def _opened(self, path: Path | None, waiting: Callable[[], None]) -> sqlite3.Connection:
        if path is None:
            db = sqlite3.connect(":memory:", isolation_level=None)
            db.execute(_SCHEMA)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            try:
                db = _owned(path, waiting)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                _set_aside(path)
                db = _owned(path, waiting)
        db.execute("BEGIN")
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The replies that are known already, by key."""
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _ROOM):
            some = keys[start : start + _ROOM]
            marks = ",".join("?" * len(some))
            rows = self._db.execute(
                f"SELECT key, status, body, headers, latency_ms, attempts FROM reply WHERE key IN ({marks})",  # noqa: S608 - question marks only
                some,
            )
            for key, status, body, headers, latency_ms, attempts in rows:
                found[key] = Reply(status, orjson.loads(body), orjson.loads(headers), latency_ms, attempts, cached=True)
        return found

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Stores replies and commits: when it returns, they survive the end of the process.

        Raises:
            StorageError: The disk is full or the file is gone, so nothing more may be paid for.
        """
        rows = [
            (key, reply.status, orjson.dumps(reply.body), _headers(reply), reply.latency_ms, reply.attempts)
            for key, reply in replies
        ]
        try:
            self._db.executemany(
                "INSERT OR REPLACE INTO reply (key, status, body, headers, latency_ms, attempts) VALUES (?,?,?,?,?,?)",
                rows,
            )
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        except sqlite3.Error as error:
            raise StorageError(
                f"the ledger {self.path} cannot be written ({error}): make room, then run the same command again",
                detail=repr(error),
            ) from error

    def close(self) -> None:
        """Closes the file and lets the next run have it."""
        with suppress(sqlite3.Error):
            self._db.execute("COMMIT")
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(reply: Reply) -> bytes:
    """The headers that are worth keeping: what to name to the endpoint's support, and what the reply cost."""
    return orjson.dumps({name: reply.headers[name] for name in _KEPT if name in reply.headers})


def _owned(path: Path, waiting: Callable[[], None]) -> sqlite3.Connection:
    """Opens the file for this run alone. SQLite's own lock is the lock, so it ends with the process that holds it."""
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        told = False
        while True:
            try:
                _prepare(db)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if not told:
                    waiting()
                    told = True
                db.execute("PRAGMA busy_timeout=500")
            else:
                return db
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("PRAGMA cache_size=-16000")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StorageError(f"the ledger was written by a newer version of this program (format {version})")
    db.execute("BEGIN IMMEDIATE")
    db.execute(_SCHEMA)
    db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _set_aside(path: Path) -> None:
    """Moves a file that is no database (any more) out of the way, with its journal, and keeps it."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{path}.corrupt{suffix}")
