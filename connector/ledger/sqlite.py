"""The ledger in a SQLite file in WAL mode, or in memory. One run owns the file at a time: a second one waits for it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from connector.base.errors import StorageError
from connector.base.records import Reply
from connector.ledger import AT_ONCE, COMMIT_SECONDS, Entry, Found, Location, Stats, Url
from connector.ledger._reply_format import decoded, encoded
from connector.ledger._sqlite_file import explained, identity, must_be, open_file, open_in_memory, set_aside
from connector.ledger._sqlite_format import COLUMNS, mark_of, migrate, require_tables, transaction

_PARAMETERS: Final = 900  # of a statement; SQLite's default limit was 999 for a long time
_PLACED_AT_ONCE: Final = 32_768  # replies; more would touch fewer pages per reply, but they wait in memory
_MANY: Final = 1_000  # pending replies before `rest` adds them to the index


__all__ = ["SqliteLedger", "opened", "require_tables", "set_aside"]


class SqliteLedger:
    """See `connector.ledger.Ledger`.

    Args:
        path: The file; it is created (0600) if need be. `None` keeps the ledger in memory, for one run.
        waiting: Called before each retry while another run has the file; may raise to give up.
        now: The time, in epoch seconds.

    Raises:
        StorageError: The file cannot be written, was written by a newer version, or is another program's.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        waiting: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path and path.absolute()  # the process may change its working directory
        self.was_set_aside: Path | None = None
        self.shared = None
        self.commit_seconds = COMMIT_SECONDS
        self._now = now
        self._pending: dict[int, int] = {}  # replies not in `place` yet: mark to id
        self._last = 0
        self._has_places = False
        try:
            self._db, self.was_set_aside = (open_in_memory(), None) if path is None else open_file(path, waiting)
            self._file = identity(path)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"the ledger {path} cannot be opened: {error}", detail=repr(error)) from error
        try:
            self._catch_up()
        except BaseException:
            self._db.close()
            raise

    def get(self, keys: Sequence[bytes]) -> Found:
        """See `connector.ledger.Ledger.get`."""
        pending = self._pending
        marks = [mark_of(key) for key in keys]
        ids = [pending[mark] for mark in marks if mark in pending]
        placed = [mark for mark in marks if mark not in pending] if self._has_places else []
        wanted = frozenset(keys)
        known: dict[bytes, Reply] = {}
        size = 0
        with (
            explained(self.path, "read"),
            closing(self._rows("reply", "id", ids)) as pending_rows,
            closing(self._rows("place JOIN reply USING (id)", "mark", placed)) as placed_rows,
        ):
            for row in chain(pending_rows, placed_rows):
                if row[0] in wanted:
                    known[row[0]] = decoded(row)
                    size += len(row[2])
                    if size >= AT_ONCE:
                        return Found(known, left=wanted.difference(known))
        return Found(known)

    def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
        """See `connector.ledger.Ledger.claim`. The file belongs to one run, so no other has a call in flight."""
        del renew
        return self.get(keys)

    def release(self, keys: Iterable[bytes]) -> None:
        """See `connector.ledger.Ledger.release`."""

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """See `connector.ledger.Ledger.put`. A full disk or a file that is gone is an error."""
        pending, now = self._pending, int(self._now())
        fresh: dict[int, int] = {}
        rows: list[tuple[Any, ...]] = []
        replaced: list[tuple[int]] = []
        for number, (key, reply) in enumerate(replies, self._last + 1):
            mark = mark_of(key)
            if mark in fresh or mark in pending:
                replaced.append((fresh.get(mark) or pending[mark],))
            fresh[mark] = number
            rows.append((number, *encoded(key, reply), now))
        must_be(self._file, self.path)
        with explained(self.path, "written"), transaction(self._db):
            self._db.executemany("INSERT INTO reply VALUES (?,?,?,?,?,?,?,?)", rows)
            if replaced:
                self._db.executemany("DELETE FROM reply WHERE id = ?", replaced)
        self._last += len(rows)
        pending |= fresh
        if len(pending) >= _PLACED_AT_ONCE:
            self._place()

    def prove(self) -> None:
        """See `connector.ledger.Ledger.prove`. Opening the file has written to it, but it may be gone since."""
        must_be(self._file, self.path)

    def has_replies(self) -> bool:
        """See `connector.ledger.Ledger.has_replies`."""
        with explained(self.path, "read"):
            return self._db.execute("SELECT 1 FROM reply WHERE status BETWEEN 200 AND 299").fetchone() is not None

    def entries(self) -> Iterator[Entry]:
        """See `connector.ledger.Ledger.entries`."""
        self._place()
        with explained(self.path, "read"):
            for row in self._db.execute(f"SELECT {COLUMNS}, stored_at FROM reply ORDER BY id"):  # noqa: S608 - names only
                yield Entry(row[0], decoded(row), int(row[6]))

    def stats(self) -> Stats:
        """See `connector.ledger.Ledger.stats`."""
        self._place()
        with explained(self.path, "read"):
            groups = self._db.execute(
                "SELECT status, count(*), min(stored_at), max(stored_at) FROM reply GROUP BY status"
            ).fetchall()
            (size,) = self._db.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()
            return Stats(
                sum(group[1] for group in groups),
                size,
                {int(status): entries for status, entries, _, _ in groups},
                min((int(group[2]) for group in groups), default=None),
                max((int(group[3]) for group in groups), default=None),
            )

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """See `connector.ledger.Ledger.prune`. Frees space by rewriting the rest (VACUUM), which needs disk space."""
        self._place()
        with explained(self.path, "written"):
            self._db.execute("CREATE TEMP TABLE IF NOT EXISTS pruned (key BLOB PRIMARY KEY) WITHOUT ROWID")
            with transaction(self._db):
                self._db.execute("DELETE FROM pruned")
                self._db.executemany("INSERT OR IGNORE INTO pruned VALUES (?)", ((key,) for key in keys))
                deletion = "DELETE FROM reply WHERE stored_at < ? OR key IN (SELECT key FROM pruned)"
                deleted = self._db.execute(deletion, [before]).rowcount  # nothing is less than NULL
                self._db.execute("DELETE FROM place WHERE id NOT IN (SELECT id FROM reply)")
            if deleted:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def jobs(self) -> list[str]:
        """See `connector.ledger.Ledger.jobs`."""
        with explained(self.path, "read"):
            return [name for (name,) in self._db.execute("SELECT name FROM job ORDER BY rowid").fetchall()]

    def job(self, name: str) -> bytes | None:
        """See `connector.ledger.Ledger.job`."""
        with explained(self.path, "read"):
            found = self._db.execute("SELECT data FROM job WHERE name = ?", (name,)).fetchone()
        return None if found is None else found[0]

    def keep_job(self, name: str, data: bytes) -> None:
        """See `connector.ledger.Ledger.keep_job`. Synchronised to disk, as it may be the only trace of what was paid.

        Any commit to the WAL survives the process, but a power cut only once it is synchronised, and only beside a file
        that is on disk, too: it goes into that file, which in a new ledger may not be there yet.
        """
        must_be(self._file, self.path)
        with explained(self.path, "written"):
            self._db.execute("PRAGMA synchronous=FULL")
            try:
                with transaction(self._db):
                    self._db.execute(
                        "INSERT INTO job VALUES (?,?) ON CONFLICT (name) DO UPDATE SET data = excluded.data",
                        (name, data),
                    )
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                self._db.execute("PRAGMA synchronous=NORMAL")

    def forget_job(self, name: str) -> None:
        """See `connector.ledger.Ledger.forget_job`."""
        must_be(self._file, self.path)
        with explained(self.path, "written"), transaction(self._db):
            self._db.execute("DELETE FROM job WHERE name = ?", (name,))

    def rest(self) -> None:
        """See `connector.ledger.Ledger.rest`: does now what closing would have to do, if that is a lot."""
        if len(self._pending) >= _MANY:
            self._place()
            with explained(self.path, "written"):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """See `connector.ledger.Ledger.close`."""
        with suppress(StorageError):  # the replies are stored; the next run indexes them
            self._place()
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, table: str, column: str, values: Sequence[int]) -> Generator[tuple[Any, ...], None, None]:
        for start in range(0, len(values), _PARAMETERS):
            some = values[start : start + _PARAMETERS]
            among = f"{column} IN ({','.join('?' * len(some))})"
            rows = self._db.execute(f"SELECT {COLUMNS} FROM {table} WHERE {among}", some)  # noqa: S608 - names and question marks
            with closing(rows):
                yield from rows

    def _place(self) -> None:
        """Adds the pending replies to the index, sorted by mark, so that each page is touched once.

        A reply that has the mark already is an earlier one to the same request: it is replaced.
        """
        if not self._pending:
            return
        places = sorted(self._pending.items())
        with explained(self.path, "written"), transaction(self._db):
            placed = self._db.executemany("INSERT OR IGNORE INTO place VALUES (?,?)", places).rowcount
            if placed < len(places):
                earlier = "SELECT id FROM place WHERE mark = ? AND id <> ?"
                self._db.executemany(f"DELETE FROM reply WHERE id = ({earlier})", places)  # noqa: S608 - the line above
                self._db.executemany("INSERT OR REPLACE INTO place VALUES (?,?)", places)
            self._db.execute("UPDATE placed SET id = ?", (self._last,))
        self._pending.clear()
        self._has_places = True

    def _catch_up(self) -> None:
        """Finds the replies missing in the index: the last ones of a run that was killed, or all of version 1."""
        with explained(self.path, "written"):
            migrate(self._db)
        with explained(self.path, "read"):
            (self._last,) = self._db.execute("SELECT id FROM placed").fetchone()
            self._has_places = self._last > 0
            unplaced = "SELECT id, key FROM reply WHERE id > ? ORDER BY id LIMIT ?"
            while rows := self._db.execute(unplaced, (self._last, _PLACED_AT_ONCE)).fetchall():
                self._pending |= {mark_of(key): number for number, key in rows}
                self._last = rows[-1][0]
                if len(self._pending) >= _PLACED_AT_ONCE:
                    self._place()


def opened(location: Location, waiting: Callable[[str], None]) -> SqliteLedger:
    """See `connector.ledger.Member`."""
    assert not isinstance(location, Url)  # noqa: S101 - `connector.ledger.load` chooses
    return SqliteLedger(location, waiting=waiting)
