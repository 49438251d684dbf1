"""The ledger: every final reply, stored before it is emitted, so that no call is ever paid for twice.

A SQLite file in WAL mode, keyed by a hash of endpoint and request body. It is the cache, the deduplication across runs
and the resume at once. One run owns it at a time: a second one on the same file waits for the first.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, Self

import orjson

from connector.errors import StorageError
from connector.records import Reply
from connector.values import loads

VERSION: Final = 1
"""`PRAGMA user_version` of the files that this version writes."""

APPLICATION: Final = int.from_bytes(b"OACL")
"""`PRAGMA application_id` of a ledger, so that no other program's database is taken for one."""

_ROOM: Final = 900  # SQLite's default limit on parameters was 999 for a long time
_KEPT: Final = (
    "x-request-id",
    "x-litellm-response-cost",
    "x-litellm-call-id",
    "x-litellm-model-id",
    "x-portkey-trace-id",
    "x-portkey-cache-status",
)
_CACHE: Final = 32_000  # KiB; keys are random, so the index over a million of them should fit
_CHECKPOINT: Final = 8_000  # pages of journal after which it is written back: a page that changes often, only once
_BUSY: Final = 0.5  # seconds between two looks at a file that another run has
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS reply (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  status INTEGER NOT NULL,
  body BLOB NOT NULL,
  headers BLOB NOT NULL,
  latency_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  stored_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
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

    Attributes:
        set_aside: Where a damaged file was moved to, if there was one; the ledger then begins anew.

    Raises:
        StorageError: The file cannot be written, comes from a newer version, or is another program's.
    """

    def __init__(self, path: Path | None, *, waiting: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.set_aside: Path | None = None
        try:
            self._db = self._opened(path, waiting)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"the ledger {path} cannot be opened: {error}", detail=repr(error)) from error

    def _opened(self, path: Path | None, waiting: Callable[[], None]) -> sqlite3.Connection:
        if path is None:
            db = sqlite3.connect(":memory:", isolation_level=None)
            db.execute(_SCHEMA)
            return db
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
        try:
            return _owned(path, waiting)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self.set_aside = _set_aside(path)
            _make(path)
            return _owned(path, waiting)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The replies that are known already, by key.

        Raises:
            StorageError: The file is damaged, or gone.
        """
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), _ROOM):
            some = keys[start : start + _ROOM]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, status, body, headers, latency_ms, attempts FROM reply WHERE key IN ({marks})"  # noqa: S608 - question marks only
            try:
                for key, status, body, headers, latency_ms, attempts in self._db.execute(query, some):
                    found[key] = Reply(status, loads(body), loads(headers), latency_ms, attempts, cached=True)
            except (sqlite3.Error, ValueError) as error:
                raise StorageError(
                    f"the ledger {self.path} cannot be read ({error}): move it away, then run the same command again",
                    detail=repr(error),
                ) from error
        return found

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Stores replies and commits: when it returns, they survive the end of the process.

        Raises:
            StorageError: The disk is full or the file is gone, so nothing more may be paid for.
        """
        rows = [
            (key, reply.status, _dumped(reply.body), _headers(reply), reply.latency_ms, reply.attempts)
            for key, reply in replies
        ]
        try:
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT OR REPLACE INTO reply (key, status, body, headers, latency_ms, attempts) VALUES (?,?,?,?,?,?)",
                rows,
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise StorageError(
                f"the ledger {self.path} cannot be written ({error}): make room, then run the same command again",
                detail=repr(error),
            ) from error

    def close(self) -> None:
        """Closes the file and lets the next run have it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(reply: Reply) -> bytes:
    """The headers that are worth keeping: what to name to the endpoint's support, and what the reply cost."""
    return orjson.dumps({name: reply.headers[name] for name in _KEPT if name in reply.headers})


def _dumped(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits, or half of a surrogate pair
        return json.dumps(body).encode()


def _make(path: Path) -> None:
    """Makes the file, for its owner alone. One that exists is not even opened: closing it would end SQLite's locks."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _owned(path: Path, waiting: Callable[[], None]) -> sqlite3.Connection:
    """Opens the file for this run alone. SQLite's own lock is the lock, so it ends with the process that holds it."""
    told = False
    while True:
        # A new connection for each try: one that has got half of the lock would keep the others from the whole.
        db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY)
        try:
            _prepare(db)
        except sqlite3.OperationalError as error:
            db.close()
            if not _is_busy(error):
                raise
        except BaseException:
            db.close()
            raise
        else:
            return db
        if not told:
            waiting()
        told = True


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION:
        raise StorageError("the ledger's file is the database of another program: name another file")
    if version > VERSION:
        raise StorageError(f"the ledger was written by a newer version of this program (format {version})")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(f"PRAGMA cache_size=-{_CACHE}")
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
    db.execute("BEGIN IMMEDIATE")
    db.execute(_SCHEMA)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _set_aside(path: Path) -> Path:
    """Moves a file that is no database (any more) out of the way, with its journal, and keeps it."""
    names = (path.with_name(f"{path.name}.corrupt{number}") for number in chain([""], count(2)))
    aside = next(name for name in names if not name.exists())
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside
