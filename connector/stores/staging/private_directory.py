"""Private directories that the run removes at its end or, if it was killed, the next run.

A run holds a lock (flock) on a file in its directory, and the lock ends with the process, however that ends. So a
directory whose lock is free belongs to a run that is gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from connector.base.errors import ConfigError

PREFIX: Final = ".openai-compatible-"
"""The prefix of the names of these directories."""

_LOCK: Final = ".lock"


@contextmanager
def private_directory(beside: Path | None = None) -> Iterator[Path]:
    """Yields a directory for this user alone (0700), in the directory for temporary files (`TMPDIR`) or in `beside`.

    Raises:
        ConfigError: It cannot be created there.
    """
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(owned_directory(beside or Path(tempfile.gettempdir())))
        except OSError as error:
            where = beside or "TMPDIR"
            raise ConfigError(
                f"{where}: nothing can be written there ({error.strerror}): name another directory", detail=str(error)
            ) from error
        yield directory


@contextmanager
def owned_directory(where: Path) -> Iterator[Path]:
    """Yields a directory in `where` for this user alone (0700); first removes those that killed runs left there.

    Raises:
        OSError: It cannot be created there.
    """
    _sweep(where)
    directory, lock = _made(where)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _made(where: Path) -> tuple[Path, int]:
    """Returns a new directory and its lock. Tries again if another run took it for abandoned before it was locked."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        try:
            lock = _opened(directory, new=True)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # no locks in this file system: a run that sweeps gets none either, and removes nothing
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return directory, lock
        os.close(lock)


def _opened(directory: Path, *, new: bool = False) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if new else 0)
    return os.open(directory / _LOCK, flags, 0o600)


def _sweep(where: Path) -> None:
    """Removes this user's directories in `where` whose run is gone."""
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))


def _remove(directory: Path) -> None:
    with suppress(OSError):
        if directory.lstat().st_uid != os.geteuid():
            return
        try:
            lock = _opened(directory)
        except FileNotFoundError:  # killed before the lock; if not ours, it is not empty, and stays
            directory.rmdir()
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
