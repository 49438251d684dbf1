"""How SQL is written for a database: the names in it, and the places of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

PARAMETER: Final = "\0"
"""The place of a parameter in a statement; no name of a column can hold it."""

_MARKS: Final[Mapping[str, str]] = {"qmark": "?", "numeric_dollar": "?", "format": "%s", "pyformat": "%s"}
"""What stands for a parameter, by the style that a driver tells (PEP 249); DuckDB's takes question marks, too."""


def quoted(name: str, dialect: sa.Dialect) -> str:
    """Returns the name of a column, a table or a schema as SQL, whatever is in it.

    SQLAlchemy's own way writes `%` twice, also where the driver, for lack of parameters, takes it as it is.
    """
    marks = dialect.identifier_preparer
    return f"{marks.initial_quote}{name.replace(marks.final_quote, marks.final_quote * 2)}{marks.final_quote}"


def with_parameters(statement: str, dialect: sa.Dialect) -> str:
    """Returns SQL as a driver takes it together with parameters, whose places are `PARAMETER` in the statement."""
    mark = "?" if dialect.name == "databricks" else _MARKS.get(dialect.paramstyle, ":1")  # whose style is of names
    return (statement.replace("%", "%%") if mark == "%s" else statement).replace(PARAMETER, mark)
