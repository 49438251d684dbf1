"""How SQL is written for a database: quoted names, and placeholders for parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

PARAMETER: Final = "\0"
"""Stands for a parameter in a statement; no column name can contain it."""

_MARKS: Final[Mapping[str, str]] = {"qmark": "?", "numeric_dollar": "?", "format": "%s", "pyformat": "%s"}
"""The placeholder for each `paramstyle` of a driver (PEP 249); DuckDB's driver takes question marks, too."""


def quoted(name: str, dialect: sa.Dialect) -> str:
    """Returns the name of a column, a table or a schema as a quoted identifier, whatever characters it has.

    SQLAlchemy's own quoting doubles `%`, even where the driver gets no parameters and takes `%` as it is.
    """
    marks = dialect.identifier_preparer
    return f"{marks.initial_quote}{name.replace(marks.final_quote, marks.final_quote * 2)}{marks.final_quote}"


def with_parameters(statement: str, dialect: sa.Dialect) -> str:
    """Returns a statement as the driver takes it along with parameters: each `PARAMETER` becomes a placeholder."""
    mark = "?" if dialect.name == "databricks" else _MARKS.get(dialect.paramstyle, ":1")  # declared as named
    return (statement.replace("%", "%%") if mark == "%s" else statement).replace(PARAMETER, mark)
