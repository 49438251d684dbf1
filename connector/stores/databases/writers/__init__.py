"""Databases that rows are written to. One module per database: its types, lock, bulk loading and upserts.

A module has the class `Writer`, with the contract `loading.base.Writer`. A new one is a new file here, nothing else: it
is found by SQLAlchemy's name for the database. `generic` serves all others. What they share belongs in
`connector.stores.databases.loading`, connections in `connector.stores.databases.connection`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final, cast

from connector.stores.databases.loading.base import Writer

_GENERIC: Final = "generic"

MEMBERS: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != _GENERIC))
"""The databases with a module of their own."""


def load(kind: str, driver: str = "") -> type[Writer]:
    """Returns the class `Writer` for a kind of database; the generic one where the kind's own needs another driver.

    Args:
        driver: The driver in use, as SQLAlchemy calls it.
    """
    found = _member(kind if kind in MEMBERS else _GENERIC)
    return _member(_GENERIC) if driver and found.DRIVERS and driver not in found.DRIVERS else found


def _member(name: str) -> type[Writer]:
    return cast("type[Writer]", importlib.import_module(f"{__name__}.{name}").Writer)
