"""Columnar data in a private DuckDB: the snapshot of an input, and the writing of columnar outputs.

What only one file format needs belongs in its module in `formats`. `columns` and `scans` are light; every other module
imports DuckDB, which takes half of a small run, so a format imports it with `load` when a file is opened.
"""

from __future__ import annotations

import importlib
from typing import Any


def load(name: str) -> Any:
    """Returns a module of this folder that needs DuckDB."""
    return importlib.import_module(f"{__name__}.{name}")
