"""The ledger's file: readable by its owner alone, opened by one run at a time, set aside if it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from stat import S_ISREG
from typing import Final

from connector.base.errors import StorageError
from connector.base.user_cache import make_private_directory
from connector.ledger import DamageError, require_format
from connector.ledger._sqlite_format import (
    APPLICATION,
    VERSION,
    make_tables,
    require_tables,
    tables_of,
    transaction,
    version_of,
)

_CACHE: Final = 2_000  # KiB: a larger one finds no reply sooner, since the system caches the file, too
_PAGE: Final = 1 << 15  # bytes of a page in a new file: a vector takes half the CPU that it takes with pages of 4 KiB
_CHECKPOINT: Final = 1 << 23  # bytes of WAL before a checkpoint, which waits for the disk
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OTHERS: Final = 0o077  # the bits of a mode that are not its owner's
_LOG = logging.getLogger(__name__)
_BUSY: Final = 0.5  # seconds between two attempts at a file that another run has open


def open_in_memory() -> sqlite3.Connection:
    """Opens an empty ledger that leaves no file."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    make_tables(db)
    return db


def open_file(path: Path, waiting: Callable[[str], None]) -> tuple[sqlite3.Connection, Path | None]:
    """Opens a ledger's file for this process alone, and creates it (0600) if need be.

    Returns the connection; and where the file was moved to if it was not a (valid) database, else `None`.

    Raises:
        StorageError: It was written by a newer version, or is another program's.
        OSError, sqlite3.Error: It cannot be written.
    """
    make_private_directory(path.parent)
    _make(path)
    _require_files(path)
    try:
        return _owned(path, waiting), None
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        aside = set_aside(path)
        _make(path)
        return _owned(path, waiting), aside


def identity(path: Path | None) -> tuple[int, int] | None:
    """Returns device and inode of the file at a path; `None` if there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)


def must_be(file: tuple[int, int] | None, path: Path | None) -> None:
    """Raises `StorageError` if the file is no longer at its path: SQLite would write on to one that nobody can open."""
    if identity(path) != file:
        raise StorageError(
            f"the ledger {path} is gone: it was moved or deleted during the run. Put it back if you can, then run the "
            "same command again"
        )


@contextmanager
def explained(path: Path | None, what: str) -> Iterator[None]:
    """Turns SQLite's errors into ours: the ledger cannot be `what`, "read" or "written", and what to do about it.

    Raises:
        DamageError: SQLite reports a damaged file, a reply cannot be decoded (`ValueError`), or a value has a type that
            its column does not have, which SQLite does not enforce (`TypeError`, `OverflowError`).
        StorageError: SQLite raises anything else.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        problem = f"the ledger {path} cannot be {what} ({error})"
        if not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            advice = "it is damaged. The run sets it aside when it ends; the same command then begins a new one"
            raise DamageError(f"{problem}: {advice}", detail=repr(error)) from error
        advice = "move it away" if what == "read" else "make room"
        raise StorageError(f"{problem}: {advice}, then run the same command again", detail=repr(error)) from error


def _files(path: Path) -> list[Path]:
    """Returns a ledger's file and its journal, which SQLite puts beside the file that a link leads to."""
    real = os.path.realpath(path)
    return [Path(f"{real}{suffix}") for suffix in ("", "-wal", "-shm")]


def _require_files(path: Path) -> None:
    """Raises `StorageError` if the ledger is a broken link, or no file: others may put those into a shared folder."""
    if path.is_symlink() and not path.exists():
        raise StorageError(f"the ledger {path} is a broken symbolic link: remove it, or name another file")
    for file in _files(path):
        with suppress(FileNotFoundError):
            if not S_ISREG(file.lstat().st_mode):
                raise StorageError(f"the ledger {file} cannot be opened: it is not a file: remove it, or name another")


def _make_private(path: Path) -> None:
    """Gives a ledger that others can read or write the mode 0600. SQLite gives its journal the same mode.

    Raises:
        StorageError: Its mode cannot be changed.
    """
    for file in _files(path):
        if file.exists() and file.stat().st_mode & _OTHERS:
            try:
                file.chmod(0o600)
            except OSError as error:
                raise StorageError(
                    f"the ledger {file} can be read by others, and its mode cannot be changed ({error.strerror}): "
                    "run chmod 600 on it as its owner, or name another file"
                ) from error
            _LOG.warning("the ledger %s could be read by others: its mode is 0600 now", file)


def _make(path: Path) -> None:
    """Creates the file (0600). Does not open an existing one, since closing it would release SQLite's locks."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _owned(path: Path, waiting: Callable[[str], None]) -> sqlite3.Connection:
    """Opens the file for this run alone. The lock is SQLite's own, so it ends with the process that holds it."""
    while True:
        # A new connection for each attempt: one with a part of the lock would keep other runs from getting all of it.
        # A run may be consumed from different threads, though only from one at a time.
        name = path.absolute()  # or ":memory:" would be no file, and lose the replies
        db = sqlite3.connect(name, isolation_level=None, timeout=_BUSY, check_same_thread=False)
        try:
            _prepare(db, path)
        except sqlite3.OperationalError as error:
            db.close()
            if not _is_busy(error):
                raise
        except BaseException:
            db.close()
            raise
        else:
            return db
        waiting(f"another run is using the ledger {path}: waiting for it to end")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    is_new = not tables_of(db)
    if not is_new and application != APPLICATION:
        raise StorageError("the ledger's file is the database of another program: name another file")
    require_format(path, version_of(db), VERSION)
    _make_private(path)  # not before: it may be another program's, which stays as it is
    db.execute(f"PRAGMA page_size={_PAGE}")
    if is_new:  # nothing to roll back to, and nothing that a power cut could cost: no need to wait for the disk yet
        db.execute("PRAGMA journal_mode=MEMORY")
        db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA cache_size=-{_CACHE}")
    (page,) = db.execute("PRAGMA page_size").fetchone()  # an existing file keeps its own
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT // page}")
    with transaction(db):  # takes the lock, so that nobody else can create the tables now
        if not tables_of(db):
            make_tables(db)
        require_tables(db)
    db.execute("PRAGMA synchronous=NORMAL")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def set_aside(path: Path) -> Path:
    """Moves a file that is not a (valid) database out of the way, with its journal; returns its new path."""
    names = (path.with_name(f"{path.name}.corrupt{number}") for number in chain([""], count(2)))
    aside = next(name for name in names if not name.exists())
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            moved = Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
            if not moved.is_symlink():
                moved.chmod(0o600)
    return aside
