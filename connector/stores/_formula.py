"""Keeps spreadsheets from taking the cells of a CSV file for formulas, as OWASP advises ("CSV Injection", ASVS 1.2.10).

A cell that begins like a formula gets a single quote in front, which makes it a text for spreadsheets; everyone else
reads the quote. Numbers stay as they are, with their sign: they are no formulas.
"""

from __future__ import annotations

import re
from typing import Final

from connector.stores._columns import literal

_FULL_WIDTH: Final = "\uff1d\uff0b\uff0d\uff20"  # = + - @, as East Asian spreadsheets take them, too
_START: Final = rf"[=+\-@\t\r\n\x00{_FULL_WIDTH}]"
_NUMBER: Final = r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)"


def safe_cell(sql: str) -> str:
    """The SQL of a cell that is no formula."""
    cell = f"CAST({sql} AS VARCHAR)"
    starts, number = literal(f"^{_START}"), literal(_NUMBER)
    is_formula = f"regexp_matches({cell}, {starts}) AND NOT regexp_full_match({cell}, {number})"
    return f"CASE WHEN {is_formula} THEN '''' || {cell} ELSE {cell} END"


def safe_name(name: str) -> str:
    """A column's name that is no formula: the header is a row of cells, too."""
    return f"'{name}" if re.match(_START, name) and not re.fullmatch(_NUMBER, name) else name
