"""What runs that share a database share besides replies: timelines, texts, and spending."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import psycopg

from connector.ledger import JOB_GAP
from connector.ledger._postgres_database import SCHEMA

_LATE: Final = 0.25  # seconds of a timeline that have passed unused and can still be taken

_TAKE: Final = f"""
    INSERT INTO {SCHEMA}.pace AS shared (name, next, known)
    VALUES (%(name)s, extract(epoch FROM clock_timestamp()) + %(seconds)s, %(known)s)
    ON CONFLICT (name) DO UPDATE SET
      next = greatest(shared.next, extract(epoch FROM clock_timestamp()) - {_LATE}) + %(seconds)s,
      known = coalesce(excluded.known, shared.known)
    RETURNING next - extract(epoch FROM clock_timestamp()), known
"""  # noqa: S608 - names from above
"""Uses the database's clock alone: the machines' clocks need not agree."""

_STUCK: Final = 2.0  # seconds after which other runs no longer wait for one that is changing a text

_ALONE: Final = """
    SELECT set_config('idle_in_transaction_session_timeout', %s, true),
           pg_advisory_xact_lock(hashtextextended(%s, 0))
"""
"""A run that is suspended here, or whose machine is lost, loses its connection; else all would wait for hours."""

_READ: Final = f"""
    SELECT (SELECT text FROM {SCHEMA}.shared WHERE name = %s), extract(epoch FROM clock_timestamp())
"""  # noqa: S608 - a name from above
_WRITE: Final = f"""
    INSERT INTO {SCHEMA}.shared (name, text) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET text = excluded.text
"""  # noqa: S608 - a name from above

_COUNT: Final = f"""
    WITH given AS (
      SELECT * FROM unnest(%(keys)b::bytea[], %(costs)b::float8[], %(tokens)b::bigint[]) AS given (key, cost, tokens)
    ), fresh AS (
      INSERT INTO {SCHEMA}.counted (job, key) SELECT %(job)s, key FROM given ORDER BY key
      ON CONFLICT DO NOTHING RETURNING key
    )
    INSERT INTO {SCHEMA}.spent AS sum (job, cost, tokens, alive_at)
    SELECT %(job)s, coalesce(sum(cost), 0), coalesce(sum(tokens), 0), clock_timestamp()
    FROM given JOIN fresh USING (key)
    ON CONFLICT (job) DO UPDATE SET
      cost = sum.cost + excluded.cost, tokens = sum.tokens + excluded.tokens, alive_at = excluded.alive_at
    RETURNING cost, tokens
"""  # noqa: S608 - names from above
_ALIVE: Final = f"UPDATE {SCHEMA}.spent SET alive_at = clock_timestamp() WHERE job = %s"  # noqa: S608 - a name from above
_FORGET: Final = f"""
    WITH over AS (
      DELETE FROM {SCHEMA}.spent WHERE alive_at < clock_timestamp() - interval '{JOB_GAP} seconds' RETURNING job
    )
    DELETE FROM {SCHEMA}.counted USING over WHERE counted.job = over.job
"""  # noqa: S608 - names from above


class DatabaseTime:
    """See `connector.ledger.SharedTime`. A thread of the ledger takes what is asked for; the run never waits for it.

    Args:
        name: Identifies the timeline.
        wake: Wakes the thread.
        now: Monotonic seconds.
    """

    def __init__(self, name: str, wake: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        self.known: float | None = None
        self._name = name
        self._wake = wake
        self._now = now
        self._asked: float | None = None
        self._given: deque[tuple[float, float]] = deque()

    @property
    def is_asked(self) -> bool:
        """See `connector.ledger.SharedTime`."""
        return self._asked is not None

    def ask(self, seconds: float) -> None:
        """See `connector.ledger.SharedTime.ask`."""
        self._asked = seconds
        self._wake()

    def given(self) -> list[tuple[float, float]]:
        """See `connector.ledger.SharedTime.given`."""
        return [self._given.popleft() for _ in range(len(self._given))]

    def take(self, db: psycopg.Connection[Any]) -> None:
        """Takes what was asked for. Called from the thread; after an error of psycopg, it can be called again."""
        seconds = self._asked
        if seconds is None:
            return
        asked = {"name": self._name, "seconds": seconds, "known": self.known}
        row = db.execute(_TAKE, asked).fetchone()
        if row is not None:
            ends = self._now() + float(row[0])
            self.known = row[1] if self.known is None else self.known
            self._given.append((ends - seconds, ends))
            self._asked = None


class DatabaseText:
    """See `connector.ledger.SharedText`. A thread of the ledger changes it; the run only asks.

    Args:
        name: Identifies the text.
        change: See `connector.ledger.Shared.text`.
        wake: Wakes the thread.
    """

    def __init__(self, name: str, change: Callable[[str, float, bool], str], wake: Callable[[], None]) -> None:
        self._name = name
        self._change = change
        self._wake = wake
        self._is_asked = False

    def ask(self) -> None:
        """See `connector.ledger.SharedText.ask`."""
        self._is_asked = True
        self._wake()

    def asked(self, db: psycopg.Connection[Any]) -> None:
        """Changes it if that was asked for. Called from the thread, like `change`."""
        if self._is_asked:
            self.change(db)

    def change(self, db: psycopg.Connection[Any], *, is_leaving: bool = False) -> None:
        """Changes it, in two round trips, under a lock that keeps other runs from doing so in between."""
        self._is_asked = False
        with db.pipeline() as pipeline, db.transaction():
            db.execute(_ALONE, [f"{1_000 * _STUCK:.0f}ms", self._name])
            read = db.execute(_READ, [self._name])
            pipeline.sync()  # only now does the server count the connection as idle
            row = read.fetchone() or ("", 0.0)
            db.execute(_WRITE, [self._name, self._change(row[0] or "", float(row[1]), is_leaving)])


class DatabaseSpending:
    """See `connector.ledger.Spending`. What is counted is sent with the ledger's next statement."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._received = 0.0, 0
        self._waiting: dict[bytes, tuple[float, int]] = {}

    @property
    def cost_usd(self) -> float:
        """See `connector.ledger.Spending`."""
        return self._received[0] + sum(cost for cost, _ in self._waiting.values())

    @property
    def tokens(self) -> int:
        """See `connector.ledger.Spending`."""
        return self._received[1] + sum(tokens for _, tokens in self._waiting.values())

    @property
    def has_more(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    def add(self, key: bytes, cost_usd: float, tokens: int) -> None:
        """See `connector.ledger.Spending.add`."""
        self._waiting[key] = cost_usd, tokens

    def begin(self, db: psycopg.Connection[Any]) -> None:
        """Deletes the spending of jobs that have no run left, and reads that of this job."""
        db.execute(_FORGET)
        self.receive(self.send(db))

    def send(self, db: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
        """Sends what waits; returns the cursor of the sum, for `receive` once it has arrived."""
        keys = sorted(self._waiting)
        return db.execute(
            _COUNT,
            {
                "job": self._job,
                "keys": keys,
                "costs": [float(self._waiting[key][0]) for key in keys],
                "tokens": [self._waiting[key][1] for key in keys],
            },
        )

    def receive(self, cursor: psycopg.Cursor[Any]) -> None:
        """Stores the sum, which now includes everything that waited."""
        row = cursor.fetchone()
        if row is not None:
            self._received = float(row[0]), int(row[1])
            self._waiting.clear()

    def stay_alive(self, db: psycopg.Connection[Any]) -> None:
        """Records that a run of the job is alive. Called from the thread."""
        db.execute(_ALIVE, [self._job])
