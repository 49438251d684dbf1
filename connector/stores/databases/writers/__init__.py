"""Databases that rows are written to. One module is one database: its types, lock, bulk loading and upserts.

A member has the class `Writer`, with the contract `loading.base.Writer`. A new one is a new file here, nothing else: it
is found by the name that SQLAlchemy has for the database. `generic` stands for all that have none. What they share does
not belong here but in `connector.stores.databases.loading`, and connections in `connector.stores.databases`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final, cast

from connector.stores.databases.loading.base import Writer

_GENERIC: Final = "generic"

MEMBERS: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != _GENERIC))
"""The databases with a way of their own."""


def load(kind: str, driver: str = "") -> type[Writer]:
    """Returns the class `Writer` for a kind of database; the generic one where the kind's own needs another driver.

    Args:
        driver: The driver that is used, as SQLAlchemy calls it.
    """
    found = _member(kind if kind in MEMBERS else _GENERIC)
    return _member(_GENERIC) if driver and found.DRIVERS and driver not in found.DRIVERS else found


def _member(name: str) -> type[Writer]:
    return cast("type[Writer]", importlib.import_module(f"{__name__}.{name}").Writer)
