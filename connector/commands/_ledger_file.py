"""Where the ledger of a run is, which others may have replies to its requests, and how one of them is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from connector import ledger as ledgers
from connector.base.errors import ConfigError, StorageError
from connector.base.suggestions import file_meant
from connector.config.config import Config
from connector.ledger import Ledger, Location, Url
from connector.ledger.sqlite import require_tables
from connector.run.ledger_memory import Earlier
from connector.run.runtime import IN_MEMORY, ledger_path, preview_ledger

_MOST: Final = 10  # ledgers of other outputs that are looked into
_IN_USE: Final = "{}: a run is using this ledger: wait until it ends, or stop it with Ctrl-C, which keeps its replies"
_OTHER: Final = "the ledger of another output of this name"


class RunLedger(NamedTuple):
    """A run's config with the ledger that its command line names, the ledger's path, and the earlier ledgers."""

    config: Config
    path: Location
    earlier: tuple[Earlier, ...]


def run_ledger(config: Config, named: str | None, output: Path | None) -> RunLedger:
    """Finds the ledger of a run.

    Args:
        config: The config, without the command line's ledger.
        named: The ledger that the command line names.
        output: The file that the run writes; `None` for standard output.
    """
    chosen = config.model_copy(update={"cache": named}) if named else config
    path = ledger_path(chosen, output)
    if chosen.cache == IN_MEMORY:
        return RunLedger(chosen, path, ())
    previews = preview_ledger(config)
    earlier = [Earlier(previews)] if isinstance(previews, Path) and previews != path and previews.is_file() else []
    if chosen.cache is None and output is not None and isinstance(path, Path):
        earlier += _beside(output, path)
    return RunLedger(chosen, path, tuple(earlier))


def _beside(output: Path, own: Path) -> list[Earlier]:
    """Returns the ledgers of other outputs in the same folder, those of the same name in another format first."""
    found: list[tuple[bool, float, Path]] = []
    with suppress(OSError):
        others = (path for path in output.parent.glob("*.ledger") if path.name != own.name and path.is_file())
        found = [(_stem(path) != _stem(output), -path.stat().st_mtime, path) for path in others]
    return [Earlier(path, "" if is_other else _OTHER) for is_other, _, path in sorted(found)[:_MOST]]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def is_there(place: Path | Url) -> bool:
    """Returns whether something is stored at a place; whether a server has anything is known once it is asked."""
    if isinstance(place, Path):
        return place.is_file() and place.stat().st_size > 0
    return place.scheme != "file" or any(Path(place.path).glob("*.parquet"))


@contextmanager
def open_ledger(path: Path | Url) -> Iterator[Ledger]:
    """Opens a ledger that exists, is undamaged, and not in use where it belongs to one run at a time.

    Raises:
        ConfigError: There is no such file, it is not a ledger, or a run uses it.
        StorageError: It is damaged, cannot be reached, or cannot be written.
    """
    if isinstance(path, Url):
        if not is_there(path):
            raise ConfigError(f"{path}: there is no ledger in this folder: name the one that a run wrote to")
        with ledgers.load(path).opened(path, lambda _: None) as ledger:
            yield ledger
        return
    if not path.is_file():
        advice = file_meant(str(path)) or "the ledger of a run is OUT.ledger beside its output OUT"
        raise ConfigError(f"{path}: there is no such file: {advice}")
    _require_ledger(path)

    def refuse(_: str) -> None:
        raise ConfigError(_IN_USE.format(path))

    with ledgers.load(path).opened(path, refuse) as ledger:
        if ledger.was_set_aside is not None:
            raise StorageError(f"{path}: the ledger was damaged: what is left of it is kept as {ledger.was_set_aside}")
        yield ledger


def _require_ledger(path: Path) -> None:
    """Reads a file before it is opened as a ledger: only a run may set a damaged one aside, not these commands."""
    try:
        if not path.stat().st_size:
            raise ConfigError(f"{path}: this is not a ledger: the file is empty")
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            require_tables(db)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ConfigError(_IN_USE.format(path)) from None
        if code == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path}: this is not a ledger, or its beginning is damaged") from None
        raise StorageError(
            f"{path}: this ledger cannot be read: {error}: if it is damaged, the next run sets it aside",
            detail=repr(error),
        ) from None
