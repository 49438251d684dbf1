"""Private directories that are removed at the end of the run that made them, or, if it was killed, by the next run.

A run holds a lock (flock) on a file in its directory, and the lock ends with the process, however that ends. So a
directory whose lock can be taken belongs to no run any more.
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
"""The beginning of the names of these directories."""

_LOCK: Final = ".lock"


@contextmanager
def private_directory(beside: Path | None = None) -> Iterator[Path]:
    """Yields a directory for this user alone (0700), in the place for temporary files (`TMPDIR`) or in `beside`.

    Raises:
        ConfigError: Nothing can be written there.
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
        OSError: Nothing can be written in `where`.
    """
    _sweep(where)
    directory, lock = _made(where)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _made(where: Path) -> tuple[Path, int]:
    """Returns a new directory and its lock. Before it is locked, another run may remove it as abandoned."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        try:
            lock = _opened(directory, new=True)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks: a run that sweeps gets none either, and leaves it alone
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return directory, lock
        os.close(lock)


def _opened(directory: Path, *, new: bool = False) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if new else 0)
    return os.open(directory / _LOCK, flags, 0o600)


def _sweep(where: Path) -> None:
    """Removes this user's directories in `where` that no run holds any more."""
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
        except FileNotFoundError:  # killed before it had a lock; or not ours, and then not empty
            directory.rmdir()
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
