"""Prevents a deadlock: two generators in one thread that want the same ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connector.base.errors import ConfigError
from connector.ledger import Location

_IN_USE: Final[set[tuple[int, Path]]] = set()


@contextmanager
def used(ledger: Location) -> Iterator[None]:
    """While entered, this thread uses a ledger. One in memory nobody else can use, and one with a URL is shared.

    Raises:
        ConfigError: Another generator of this thread uses it. It cannot end while this one waits for it.
    """
    if not isinstance(ledger, Path):
        yield
        return
    mine = (threading.get_ident(), ledger.expanduser().resolve())
    if mine in _IN_USE:
        raise ConfigError(
            f"{ledger}: another enrich() in this thread is using this ledger: take all of its rows first, "
            "with list() for example, or close() it"
        )
    _IN_USE.add(mine)
    try:
        yield
    finally:
        _IN_USE.discard(mine)
