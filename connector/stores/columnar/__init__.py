"""Rows in columns, in a private DuckDB: the snapshot of an input, and the writing of outputs that keep columns.

What one file format alone needs does not belong here but in its module in `formats`. `columns` and `scans` are light;
every other module loads DuckDB, which is half of a small run, so a format loads it with `load` when a file is opened.
"""

from __future__ import annotations

import importlib
from typing import Any


def load(name: str) -> Any:
    """Returns a module of this folder that needs DuckDB."""
    return importlib.import_module(f"{__name__}.{name}")
