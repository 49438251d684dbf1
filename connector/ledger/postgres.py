"""The ledger in a PostgreSQL database that any number of runs share: no two of them make the same call.

Calls in flight are recorded as claims: each names a request and its holder. A holder is a run, and lives as long as it
renews its lease (`connector.ledger._postgres_lease`).
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import psycopg

from connector.base.errors import ConfigError, StorageError
from connector.base.records import Reply
from connector.ledger import AT_ONCE, COMMIT_SECONDS, Entry, Found, Location, Shared, Stats, Url
from connector.ledger._patience import Patience
from connector.ledger._postgres_database import SCHEMA, Database, is_lost
from connector.ledger._postgres_lease import Lease
from connector.ledger._postgres_shared import DatabaseSpending, DatabaseText, DatabaseTime
from connector.ledger._reply_format import decoded, encoded

T = TypeVar("T")

_THREADS: Final[dict[int, int]] = {}
"""The threads of the runs in this process, by holder."""

_OWN: Final = (
    "{}: another enrich() in this thread has a call in flight that this one needs: take all of its rows "
    "first, with list() for example, or close() it"
)

_PUT_AT_ONCE: Final = 2**24  # bytes of replies in one statement
_CHUNK: Final = 1_000  # entries per fetch

_CLAIM: Final = f"""
    WITH alive AS (SELECT id FROM {SCHEMA}.holder WHERE id = %(holder)s FOR KEY SHARE)
    INSERT INTO {SCHEMA}.claim (key, holder)
    SELECT key, id FROM alive CROSS JOIN unnest(%(keys)s) AS asked (key)
    WHERE %(renew)s OR NOT EXISTS (SELECT FROM {SCHEMA}.reply WHERE reply.key = asked.key)
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - a name from above
"""Claims only with a lease whose end other runs can see: else nobody would ever free the claims."""
_SOME: Final = f"""
    SELECT key, status, CASE WHEN total - size < {AT_ONCE} THEN body END AS body, headers, latency_ms, attempts
    FROM (
        SELECT *, octet_length(body) AS size, sum(octet_length(body)) OVER (ORDER BY key) AS total
        FROM {SCHEMA}.reply WHERE key = ANY(%(keys)s)
    ) AS sized
"""  # noqa: S608 - a name and a number from above
"""Replies, without the bodies of those that are left. Their size is known without reading them."""
_FIND: Final = f"""
    SELECT asked.key, status, body, headers, latency_ms, attempts, holder
    FROM unnest(%(keys)s) AS asked (key)
    LEFT JOIN ({_SOME}) AS known ON known.key = asked.key
    LEFT JOIN {SCHEMA}.claim ON claim.key = asked.key
"""  # noqa: S608 - a name from above
"""A separate statement after `_CLAIM`: it sees what others have committed until now, so that a reply that came while
the claim was made is found, and not paid for again."""
_RENEW: Final = f"""
    INSERT INTO {SCHEMA}.claim (key, holder) SELECT key, %(holder)s FROM unnest(%(keys)s) AS asked (key)
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - a name from above
_PUT: Final = f"""
    INSERT INTO {SCHEMA}.reply (key, status, body, headers, latency_ms, attempts, stored_at)
    SELECT *, extract(epoch FROM clock_timestamp())
    FROM unnest(%b::bytea[], %b::int[], %b::bytea[], %b::bytea[], %b::int[], %b::int[])
    ON CONFLICT (key) DO UPDATE SET (id, status, body, headers, latency_ms, attempts, stored_at) =
      (excluded.id, excluded.status, excluded.body, excluded.headers, excluded.latency_ms, excluded.attempts,
       excluded.stored_at)
"""  # noqa: S608 - a name from above
_RELEASE: Final = f"DELETE FROM {SCHEMA}.claim WHERE key = ANY(%s) AND holder = %s"  # noqa: S608 - a name from above


class PostgresLedger:
    """See `connector.ledger.Ledger`.

    A lost connection is replaced and its statements are repeated, all of which are idempotent.

    Args:
        url: The database.
        waiting: Called before each retry while the database does not answer; may raise to give up.
        now: Monotonic seconds.
        sleep: Sleeps for a number of seconds.

    Attributes:
        holder: The number by which claims name this run.
        lease: Its lease, from its first claim on.

    Raises:
        StorageError: The database does not answer, or a newer version wrote the ledger in it.
    """

    def __init__(
        self,
        url: Url,
        *,
        waiting: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path: Location = url
        self.was_set_aside: Path | None = None
        self.commit_seconds = COMMIT_SECONDS
        self._database = Database(url)
        self._db: psycopg.Connection[Any] | None = None
        self.holder = random.SystemRandom().getrandbits(63)
        self.lease: Lease | None = None
        self._spending: DatabaseSpending | None = None
        self._texts: list[DatabaseText] = []
        self._claimed: set[bytes] = set()
        self._released: list[bytes] = []
        self._patience = Patience(url, waiting, now, sleep)
        try:
            self._act("opened", self._database.prepare)
        except BaseException:
            self.close()
            raise

    @property
    def shared(self) -> Shared:
        """See `connector.ledger.Ledger.shared`."""
        return self

    def time(self, name: str) -> DatabaseTime:
        """See `connector.ledger.Shared.time`."""
        lease = self._act("read", self._keep_lease)
        shared = DatabaseTime(name, lease.wake)
        lease.when_woken.append(shared.take)
        return shared

    def text(self, name: str, change: Callable[[str, float, bool], str]) -> DatabaseText:
        """See `connector.ledger.Shared.text`."""
        lease = self._act("read", self._keep_lease)
        shared = DatabaseText(name, change, lease.wake)
        self._act("written", shared.change)
        self._texts.append(shared)
        lease.when_woken.append(shared.asked)
        lease.at_beats.append(shared.change)
        return shared

    def spending(self, job: str) -> DatabaseSpending:
        """See `connector.ledger.Shared.spending`."""
        lease = self._act("read", self._keep_lease)
        spending = self._spending = DatabaseSpending(job)
        self._act("written", spending.begin)
        lease.at_beats.append(spending.stay_alive)
        return spending

    def get(self, keys: Sequence[bytes]) -> Found:
        """See `connector.ledger.Ledger.get`."""
        if not keys:
            return Found({})

        def got(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
            with self._database.sending(db):
                return db.execute(_SOME, {"keys": list(keys)}, binary=True).fetchall()

        return self._found(self._act("read", got))

    def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
        """See `connector.ledger.Ledger.claim`: two statements, one round trip."""
        if not keys:
            return Found({})
        again = set(keys)
        wanted = sorted(again)  # sorted, else two runs could deadlock
        asked = {"keys": wanted, "holder": self.holder, "renew": renew}
        self._released = [key for key in self._released if key not in again]  # not sent yet, and must not be

        def claimed(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
            self._keep_lease(db)
            with self._sending(db):
                db.execute(_CLAIM, asked)
                rows = db.execute(_FIND, asked, binary=True)
            return rows.fetchall()

        rows = self._act("read", claimed)
        known, _, left = self._found(rows)
        mine = {row[0] for row in rows if row[6] == self.holder}
        waited_for = {row[6] for row in rows if row[6] != self.holder and (renew or row[1] is None)}
        if any(_THREADS.get(holder) == threading.get_ident() for holder in waited_for):
            raise ConfigError(_OWN.format(self.path))
        answered = left.union(known)
        done = frozenset() if renew else mine & answered - self._claimed  # a reply came while the claim was made
        self._released += done
        self._claimed |= mine - done
        held = {row[0] for row in rows if row[6] not in (None, self.holder)}
        return Found(known, frozenset(held | (again - mine - answered)) - left, left)

    def release(self, keys: Iterable[bytes]) -> None:
        """See `connector.ledger.Ledger.release`. Sent along with the next statement."""
        gone = self._claimed.intersection(keys)
        self._claimed -= gone
        self._released += gone

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """See `connector.ledger.Ledger.put`: one round trip, and one commit that waits for the database's disk."""
        rows = {key: encoded(key, reply) for key, reply in replies}
        self.release(rows)

        def stored(db: psycopg.Connection[Any]) -> None:
            with self._sending(db):
                for some in _chunks(sorted(rows.values())):
                    db.execute(_PUT, list(map(list, zip(*some, strict=True))))

        self._act("written", stored)

    def prove(self) -> None:
        """See `connector.ledger.Ledger.prove`: stores a reply and rolls that back."""
        row = encoded(secrets.token_bytes(16), Reply(0, {}, {}, 0, 0))

        def proved(db: psycopg.Connection[Any]) -> None:
            with db.transaction(force_rollback=True):
                db.execute(_PUT, [[value] for value in row])

        self._act("written", proved)

    def has_replies(self) -> bool:
        """See `connector.ledger.Ledger.has_replies`."""
        statement = f"SELECT 1 FROM {SCHEMA}.reply WHERE status BETWEEN 200 AND 299 LIMIT 1"  # noqa: S608 - a name
        return self._act("read", lambda db: db.execute(statement).fetchone()) is not None

    def entries(self) -> Iterator[Entry]:
        """See `connector.ledger.Ledger.entries`; over a separate connection, so that the caller may stop midway."""
        with (
            self._database.errors("read"),
            self._database.connect() as db,
            db.transaction(),
            db.cursor("entries", binary=True) as rows,
        ):
            rows.itersize = _CHUNK
            columns = "key, status, body, headers, latency_ms, attempts, stored_at"
            rows.execute(f"SELECT {columns} FROM {SCHEMA}.reply ORDER BY id")  # noqa: S608 - names from above
            for row in rows:
                yield Entry(row[0], self._decoded(row), row[6])

    def stats(self) -> Stats:
        """See `connector.ledger.Ledger.stats`."""

        def counted(db: psycopg.Connection[Any]) -> Stats:
            groups = db.execute(
                f"SELECT status, count(*), min(stored_at), max(stored_at) FROM {SCHEMA}.reply GROUP BY status"  # noqa: S608 - a name
            ).fetchall()
            size = db.execute("SELECT pg_total_relation_size(%s::regclass)", [f"{SCHEMA}.reply"]).fetchone()
            return Stats(
                sum(group[1] for group in groups),
                size[0] if size else 0,
                {group[0]: group[1] for group in groups},
                min((group[2] for group in groups), default=None),
                max((group[3] for group in groups), default=None),
            )

        return self._act("read", counted)

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """See `connector.ledger.Ledger.prune`. The space is reused for other replies; no run has to wait."""
        gone = list(keys)

        def pruned(db: psycopg.Connection[Any]) -> int:
            deletion = f"DELETE FROM {SCHEMA}.reply WHERE stored_at < %s OR key = ANY(%s)"  # noqa: S608 - a name
            deleted = db.execute(deletion, [before, gone]).rowcount
            if deleted:
                db.execute(f"VACUUM {SCHEMA}.reply")
            return deleted

        return self._act("written", pruned)

    def jobs(self) -> list[str]:
        """See `connector.ledger.Ledger.jobs`."""
        statement = f"SELECT name FROM {SCHEMA}.job ORDER BY id"  # noqa: S608 - a name from above
        return [name for (name,) in self._act("read", lambda db: db.execute(statement).fetchall())]

    def job(self, name: str) -> bytes | None:
        """See `connector.ledger.Ledger.job`."""
        statement = f"SELECT data FROM {SCHEMA}.job WHERE name = %s"  # noqa: S608 - a name from above
        found = self._act("read", lambda db: db.execute(statement, [name], binary=True).fetchone())
        return None if found is None else found[0]

    def keep_job(self, name: str, data: bytes) -> None:
        """See `connector.ledger.Ledger.keep_job`."""
        statement = f"""
            INSERT INTO {SCHEMA}.job (name, data) VALUES (%s, %s)
            ON CONFLICT (name) DO UPDATE SET data = excluded.data
        """  # noqa: S608 - a name from above

        def kept(db: psycopg.Connection[Any]) -> None:
            with self._database.sending(db):
                db.execute(statement, [name, data])

        self._act("written", kept)

    def forget_job(self, name: str) -> None:
        """See `connector.ledger.Ledger.forget_job`."""
        statement = f"DELETE FROM {SCHEMA}.job WHERE name = %s"  # noqa: S608 - a name from above
        self._act("written", lambda db: db.execute(statement, [name]))

    def rest(self) -> None:
        """See `connector.ledger.Ledger.rest`: sends what was released and spent.

        A run that only waits for the shared pace learns here that the database is gone, which only the lease notices.
        """

        def told(db: psycopg.Connection[Any]) -> None:
            with self._sending(db):
                db.execute("SELECT")

        is_gone = self.lease is not None and self.lease.is_failing
        if is_gone or self._released or (self._spending is not None and self._spending.has_more):
            self._act("written", told)

    def close(self) -> None:
        """See `connector.ledger.Ledger.close`. Frees the unanswered claims of this run for others."""
        _THREADS.pop(self.holder, None)
        if self.lease is not None:
            self.lease.end()
        if self._db is not None:
            with suppress(psycopg.Error):  # the lease expires anyway
                if self.lease is not None and not self._db.closed:
                    self.lease.give_up(self._db)
                    for text in self._texts:
                        text.change(self._db, is_leaving=True)
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep_lease(self, db: psycopg.Connection[Any]) -> Lease:
        """Makes this run a holder at its first claim; and again, with its claims, if its lease has expired."""
        if self.lease is None:
            lease = Lease(self._database, self.holder)
            lease.begin(db)
            self.lease = lease
            _THREADS[self.holder] = threading.get_ident()
        elif self.lease.has_lapsed:
            self._claim_again(db)
        return self.lease

    def _claim_again(self, db: psycopg.Connection[Any]) -> None:
        """Claims again what this run has in flight: its lease expired, or the server restarted without its claims."""
        if self.lease is not None:
            self.lease.renew(db)
            self.lease.has_lapsed = False
            if self._claimed:
                db.execute(_RENEW, {"keys": sorted(self._claimed), "holder": self.holder})

    @contextmanager
    def _sending(self, db: psycopg.Connection[Any]) -> Iterator[None]:
        """Sends the statements inside in one round trip, with what was released and spent since the last one."""
        counted = None
        with self._database.sending(db):
            yield
            if self._released:
                db.execute(_RELEASE, [sorted(self._released), self.holder])
            if self._spending is not None and self._spending.has_more:
                counted = self._spending.send(db)
        if counted is not None and self._spending is not None:
            self._spending.receive(counted)
        self._released.clear()

    def _act(self, what: str, act: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Returns what `act` returns for the connection. If that is lost, opens a new one and repeats `act`."""
        while True:
            try:
                if self._db is None or self._db.closed:
                    self._db = self._database.connect()
                    self._claim_again(self._db)
                done = act(self._db)
            except psycopg.Error as error:
                late = self._patience.is_over()
                if late or not is_lost(error):
                    problem = self._database.problem(what, error, self._patience.seconds if late else None)
                    self._patience.give_up()
                    raise problem from None
                if self._db is not None:
                    self._db.close()
                self._patience.wait(self._database.said(error))
            except (TypeError, ValueError) as error:
                raise self._database.foreign(error) from error
            else:
                self._patience.answered()
                return done

    def _found(self, rows: Sequence[Sequence[Any]]) -> Found:
        """Returns what rows that start as those of `_SOME` tell."""
        left = frozenset(row[0] for row in rows if row[1] is not None and row[2] is None)
        return Found({row[0]: self._decoded(row) for row in rows if row[2] is not None}, left=left)

    def _decoded(self, row: Sequence[Any]) -> Reply:
        try:
            return decoded(row)
        except ValueError as error:
            raise StorageError(
                f"the ledger {self.path} holds a reply that cannot be decoded: delete the row of {SCHEMA}.reply whose "
                f"key is \\x{row[0].hex()}",
                detail=repr(error),
            ) from error


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yields the rows in parts that are small enough for one statement."""
    some: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[2])
        if size >= _PUT_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def opened(location: Location, waiting: Callable[[str], None]) -> PostgresLedger:
    """See `connector.ledger.Member`."""
    assert isinstance(location, Url)  # noqa: S101 - `connector.ledger.load` chooses
    return PostgresLedger(location, waiting=waiting)
