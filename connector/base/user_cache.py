"""Files that a user may delete at any time, in `XDG_CACHE_HOME` of the XDG Base Directory Specification.

If the user has no writable home, as in most containers, they are in a private folder among the temporary files, which
may be gone when the container is.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from hashlib import blake2b
from pathlib import Path
from stat import S_ISDIR
from tempfile import NamedTemporaryFile, gettempdir
from typing import Final

from connector.base.errors import ConfigError

_LOG: Final = logging.getLogger(__name__)
_FOLDER: Final = "openai-compatible"
_OTHERS: Final = 0o077
_TEMPORARY: Final = (
    "the home directory of this user cannot be written to, so replies are kept in %s, which may not last: "
    "set cache, or XDG_CACHE_HOME to a folder that does"
)


def cached(subject: str, suffix: str) -> Path:
    """Returns the path of the file about `subject`, of which only a hash is in the name.

    Raises:
        ConfigError: This user has no folder to write to.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path raises without one
    usual = Path(home) / _FOLDER
    folder = _temporary() if home.startswith("~") or not _is_writable(usual) else usual
    return folder / f"{blake2b(subject.encode(), digest_size=8).hexdigest()}.{suffix}"


def _is_writable(directory: Path) -> bool:
    """Returns whether files can be created in a directory, or the directory itself can be."""
    there = next((each for each in (directory, *directory.parents) if each.exists()), directory)
    return os.access(there, os.W_OK | os.X_OK)


@cache
def _temporary() -> Path:
    """Creates this user's folder among the temporary files, and warns about it once."""
    try:
        folder = Path(gettempdir()) / f"{_FOLDER}-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(
            f"there is no folder to keep replies in ({error}): set XDG_CACHE_HOME or TMPDIR to a folder of yours"
        ) from error
    if not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
        raise ConfigError(f"{folder} is not this user's alone: remove it, or set XDG_CACHE_HOME to a folder of yours")
    _LOG.warning(_TEMPORARY, folder)
    return folder


def make_private_directory(directory: Path) -> None:
    """Creates a directory and its missing parents with mode 0700; one that exists is left as it is.

    Raises:
        OSError: It cannot be created.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)


def write_private_file(path: Path, data: bytes) -> None:
    """Writes all of a file or nothing, by way of a temporary file beside it, which is 0600 as `tempfile` makes it.

    Raises:
        OSError: It cannot be written. Nothing is left of it.
    """
    with NamedTemporaryFile("wb", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
