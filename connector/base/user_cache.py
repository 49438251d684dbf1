"""Where files are that a user may delete at any time: the XDG Base Directory Specification's `XDG_CACHE_HOME`."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path


def cached(subject: str, suffix: str) -> Path:
    """The file that is kept about `subject`, which is only hashed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / "openai-compatible" / f"{blake2b(subject.encode(), digest_size=8).hexdigest()}.{suffix}"


def make_private_directory(directory: Path) -> None:
    """Makes a directory, and those above it that are missing, for this user alone (0700); one that exists stays as is.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)
