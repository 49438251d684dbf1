"""Where files are that a user may delete at any time: the XDG Base Directory Specification's `XDG_CACHE_HOME`."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from connector.base.errors import ConfigError


def cached(subject: str, suffix: str) -> Path:
    """Returns the file that is kept about `subject`, which is only hashed.

    Raises:
        ConfigError: This user has no home directory.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path raises without one
    if home.startswith("~"):
        raise ConfigError("this user has no home directory: set HOME or XDG_CACHE_HOME to a folder of yours")
    return Path(home) / "openai-compatible" / f"{blake2b(subject.encode(), digest_size=8).hexdigest()}.{suffix}"


def make_private_directory(directory: Path) -> None:
    """Makes a directory, and those above it that are missing, for this user alone (0700); one that exists stays as is.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)
