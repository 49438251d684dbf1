"""Who waits for whom: two generators of one thread, taking turns, must not wait for each other's ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connector.base.errors import ConfigError

_HELD: Final[set[tuple[int, Path]]] = set()


@contextmanager
def held(ledger: Path | None) -> Iterator[None]:
    """Notes that this thread uses a ledger; `None`, in memory, is nobody else's.

    Raises:
        ConfigError: A generator of the same thread uses it and has not ended. It never would, if this one waited.
    """
    if ledger is None:
        yield
        return
    mine = (threading.get_ident(), ledger.expanduser().resolve())
    if mine in _HELD:
        raise ConfigError(
            f"{ledger}: another enrich() of this thread uses this ledger and has not ended. Take all of its rows "
            "first, with list() for example, or close() it."
        )
    _HELD.add(mine)
    try:
        yield
    finally:
        _HELD.discard(mine)
