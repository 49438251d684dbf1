"""The lease of a run that shares a ledger: while it is renewed, no other run makes the calls that the run has claimed.

A thread renews it over its own connection, so that it holds however long the run's consumer takes for a row. The same
thread runs errands, so that no call waits for what runs agree on through the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from connector.ledger._postgres_database import SCHEMA, Database

SECONDS: Final = 8
"""How many seconds a lease holds without being renewed."""

_BEAT: Final = 1.5  # seconds between two renewals
_PAUSE: Final = 0.5  # seconds after an error
_LOG: Final = logging.getLogger(__name__)

_HOLD: Final = f"""
    INSERT INTO {SCHEMA}.holder AS held VALUES (%s, clock_timestamp() + interval '{SECONDS} seconds')
    ON CONFLICT (id) DO UPDATE SET expires = excluded.expires
    RETURNING xmax = 0
"""  # noqa: S608 - names from above
_REAP: Final = f"""
    WITH gone AS (
      DELETE FROM {SCHEMA}.holder WHERE id IN (
        SELECT id FROM {SCHEMA}.holder WHERE expires < clock_timestamp() FOR UPDATE SKIP LOCKED
      ) RETURNING id
    )
    DELETE FROM {SCHEMA}.claim USING gone WHERE claim.holder = gone.id
"""  # noqa: S608 - a name from above
"""Frees the claims of runs that are gone; the first run to notice does it."""

Errand = Callable[[psycopg.Connection[Any]], None]


class Lease:
    """The lease of one run.

    Attributes:
        has_lapsed: Whether it had expired when it was renewed, so that other runs may have made this run's calls.
        is_failing: Whether the last attempt to reach the database failed.
        at_beats: Errands for every renewal.
        when_woken: Errands for every renewal, and for every call of `wake`.
    """

    def __init__(self, database: Database, holder: int) -> None:
        self.has_lapsed = self.is_failing = False
        self.at_beats: list[Errand] = []
        self.when_woken: list[Errand] = []
        self._database = database
        self._holder = holder
        self._has_ended = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger lease", daemon=True)

    def begin(self, db: psycopg.Connection[Any]) -> None:
        """Takes the lease, and starts to renew it."""
        self.renew(db)
        self._thread.start()

    def wake(self) -> None:
        """Has the errands of `when_woken` run now."""
        self._woken.set()

    def end(self) -> None:
        """Stops renewing it."""
        self._has_ended = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def give_up(self, db: psycopg.Connection[Any]) -> None:
        """Frees the claims of its run at once."""
        with db.transaction():
            db.execute(f"DELETE FROM {SCHEMA}.claim WHERE holder = %s", [self._holder])  # noqa: S608 - a name
            db.execute(f"DELETE FROM {SCHEMA}.holder WHERE id = %s", [self._holder])  # noqa: S608 - a name

    def renew(self, db: psycopg.Connection[Any]) -> bool:
        """Renews it over a connection; returns whether there was none, so that a new one was taken."""
        with db.pipeline():
            held = db.execute(_HOLD, [self._holder])
            db.execute(_REAP)
        return held.fetchone() == (True,)

    def _run(self) -> None:
        db: psycopg.Connection[Any] | None = None
        due = time.monotonic() + _BEAT
        while not self._has_ended:
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()
            try:
                if db is None or db.closed:
                    db = self._database.connect()
                for errand in self.when_woken:
                    errand(db)
                if time.monotonic() >= due:
                    due = time.monotonic() + _BEAT
                    self.has_lapsed |= self.renew(db)
                    for errand in self.at_beats:
                        errand(db)
                self.is_failing = False
            except psycopg.Error as error:  # the run itself waits for the database, and says so
                _LOG.debug("the lease could not be renewed: %s", self._database.said(error))
                due = time.monotonic() + _PAUSE
                self.is_failing = True
                if db is not None:
                    db.close()
        if db is not None:
            with suppress(psycopg.Error):
                db.close()
