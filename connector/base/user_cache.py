"""Where files are that a user may delete at any time: the XDG Base Directory Specification's `XDG_CACHE_HOME`."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path


def cached(subject: str, suffix: str) -> Path:
    """The file that is kept about `subject`, which is only hashed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / "openai-compatible" / f"{blake2b(subject.encode(), digest_size=8).hexdigest()}.{suffix}"
