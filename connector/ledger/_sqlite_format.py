"""The format of a ledger in SQLite: its tables.

Replies are only appended, so storing one costs the same however many there are. The index from key to reply is written
for many replies at once: keys are random, so each one alone would touch a page of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

VERSION: Final = 4
"""`PRAGMA user_version` of the files that this version writes; it migrates those of versions 1 to 3."""

APPLICATION: Final = int.from_bytes(b"OACL")
"""`PRAGMA application_id` of a ledger, so that another program's database is not mistaken for one."""

COLUMNS: Final = "reply.key, status, body, headers, latency_ms, attempts"
"""The columns of `connector.ledger._reply_format`; in a row, `stored_at` follows."""

_JOB: Final = "CREATE TABLE job (name TEXT PRIMARY KEY, data BLOB NOT NULL)"
_SCHEMA: Final = (
    """
    CREATE TABLE reply (
      id INTEGER PRIMARY KEY,
      key BLOB NOT NULL,
      status INTEGER NOT NULL,
      body BLOB NOT NULL,
      headers BLOB NOT NULL,
      latency_ms INTEGER NOT NULL,
      attempts INTEGER NOT NULL,
      stored_at INTEGER NOT NULL
    )
    """,
    "CREATE TABLE place (mark INTEGER PRIMARY KEY, id INTEGER NOT NULL)",
    "CREATE TABLE placed (id INTEGER NOT NULL)",
    "INSERT INTO placed VALUES (0)",
    _JOB,
    f"PRAGMA application_id={APPLICATION}",
    f"PRAGMA user_version={VERSION}",
)
"""`place` is the index: from the first eight bytes of a key to a reply. `placed` is the last reply in the index."""


def mark_of(key: bytes) -> int:
    """Returns the number that a reply is indexed by: the first eight bytes of its key.

    Among a billion replies, two might share a mark. The later one is then kept, and the earlier request is made again,
    since the whole key is compared.
    """
    return int.from_bytes(key[:8], signed=True)


def migrate(db: sqlite3.Connection) -> None:
    """Migrates a file of an earlier version, all or nothing.

    In version 1 every reply updated a unique index; version 2 had no jobs, version 3 no vectors as bytes.
    """
    version = version_of(db)
    if version in (2, 3):
        with transaction(db):
            if version == 2:  # noqa: PLR2004 - see above
                db.execute(_JOB)
            db.execute(f"PRAGMA user_version={VERSION}")
    if version == 1:
        with transaction(db):
            db.execute("ALTER TABLE reply RENAME TO old")
            make_tables(db)
            columns = "id, key, status, body, headers, latency_ms, attempts, stored_at"
            db.execute(f"INSERT INTO reply SELECT {columns} FROM old ORDER BY id")  # noqa: S608 - names from above
            db.execute("DROP TABLE old")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Runs the changes inside as one transaction: all of them are made, or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled back already
            db.execute("ROLLBACK")
        raise


def make_tables(db: sqlite3.Connection) -> None:
    """Creates the tables, and marks the file as a ledger."""
    for statement in _SCHEMA:
        db.execute(statement)


def require_tables(db: sqlite3.Connection) -> None:
    """Checks that a ledger consists of tables, with one last reply in the index. Another program's file passes.

    A view could compute rows without end, and a trigger could change what is stored.

    Raises:
        sqlite3.DatabaseError: It does not.
    """
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        return
    odd = db.execute("SELECT 1 FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if odd or (version_of(db) == VERSION and db.execute("SELECT typeof(id) FROM placed").fetchall() != [("integer",)]):
        raise sqlite3.DatabaseError("it is damaged")


def tables_of(db: sqlite3.Connection) -> int:
    """Returns how many tables there are: 0 in a new file."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(tables)


def version_of(db: sqlite3.Connection) -> int:
    """Returns the version of the format."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)
