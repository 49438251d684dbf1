"""Moves a finished file into its place: first its content is made durable, then its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connector.base.errors import StorageError
from connector.stores.staging.spool import is_full, no_room


def publish(output: Path, target: Path, mode: int = 0o600) -> None:
    """Replaces `target` with `output` atomically; by default readable by this user alone.

    Raises:
        OSError: The file cannot be replaced.
    """
    output.chmod(mode)
    _sync(output)
    output.replace(target)
    _sync(target.parent)


@contextmanager
def writing(place: Path, errors: type[Exception] = OSError) -> Iterator[None]:
    """Turns errors of writing the file `place` into a `StorageError`: `OSError`, and `errors`.

    Raises:
        StorageError: One of these is raised inside.
    """
    try:
        yield
    except (OSError, errors) as error:
        if is_full(error):
            raise no_room(error, place.parent) from error
        raise StorageError(
            f"{place}: it cannot be written: check that its folder is still there", detail=str(error)
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
