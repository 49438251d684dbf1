"""How a finished file takes its place: on the disk first, then under its name, and the name on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connector.base.errors import StorageError
from connector.stores.staging.spool import is_full, no_room


def publish(output: Path, target: Path) -> None:
    """Puts `output` in the place of `target`, for this user alone. Raises `OSError`."""
    output.chmod(0o600)
    _sync(output)
    output.replace(target)
    _sync(target.parent)


@contextmanager
def writing(place: Path, errors: type[Exception] = OSError) -> Iterator[None]:
    """Tells what keeps a file from being written in `place`: an `OSError`, or what `errors` names.

    Raises:
        StorageError: For any of these that is raised inside.
    """
    try:
        yield
    except (OSError, errors) as error:
        if is_full(error):
            raise no_room(error, place.parent) from error
        raise StorageError(
            f"{place}: it cannot be written. Check that its folder is still there.", detail=str(error)
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
