"""The affinity that SQLite derives from a declared type ("Datatypes In SQLite", section 3.1)."""

from __future__ import annotations

from typing import Literal, TypeAlias

Affinity: TypeAlias = Literal["integer", "text", "blob", "real", "numeric", ""]
"""SQLite's names for them; empty for a column without a type, which keeps every value as it is."""


def affinity(declared: str) -> Affinity:
    """Returns the affinity of a column with this declared type."""
    name = declared.upper()
    if not name:
        return ""
    if "INT" in name:
        return "integer"
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in name:
        return "blob"
    return "real" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "numeric"
