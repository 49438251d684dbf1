"""Private directories that go with the run that made them: at its end, or, where it was killed, as the next one begins.

A run holds a lock (flock) on a file in its directory, and the lock ends with the process, however that ends. So a
directory whose lock can be had is nobody's any more.
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
"""How the names of these directories begin."""

_LOCK: Final = ".lock"


@contextmanager
def private_directory(beside: Path | None = None) -> Iterator[Path]:
    """A directory for this user alone (0700), in the system's place for temporary files (`TMPDIR`) or in `beside`.

    Raises:
        ConfigError: nothing can be written there.
    """
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(owned_directory(beside or Path(tempfile.gettempdir())))
        except OSError as error:
            where = beside or "The place for temporary files (TMPDIR)"
            raise ConfigError(
                f"{where}: nothing can be written there ({error.strerror}).", detail=str(error)
            ) from error
        yield directory


@contextmanager
def owned_directory(where: Path) -> Iterator[Path]:
    """A directory in `where` for this user alone (0700), gone at the end. Those that killed runs left there go first.

    Raises:
        OSError: nothing can be written in `where`.
    """
    _sweep(where)
    directory, lock = _made(where)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _made(where: Path) -> tuple[Path, int]:
    """A new directory and its lock. Until the lock is had, a run that sweeps may take the directory for a lost one."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        try:
            lock = _opened(directory, new=True)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks: whoever sweeps gets none either, and leaves it alone
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
        except FileNotFoundError:  # killed before it had a lock; or no directory of ours, and then not empty
            directory.rmdir()
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
