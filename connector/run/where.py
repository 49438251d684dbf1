"""The option `where`: which rows are worth a call. The others are skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connector.base.records import JSON
from connector.templates.template import Template

NAME: Final = "where"
"""The option's name, which messages call its template by."""

_FALSE: Final = frozenset({"", "0", "0.0", "false", "no", "null", "none"})
"""Texts that mean false, in lower case: a cell of CSV is text, and Jinja writes `False` and `None`."""


class Where:
    """A condition on rows. Thread-safe: nothing in it changes.

    Args:
        source: A template, checked with the config.
        constants: What the config's templates read besides the row.
    """

    def __init__(self, source: str, constants: Mapping[str, Any]) -> None:
        self._template = Template([source], NAME, constants=constants, options={source: NAME})

    def required(self) -> dict[str, str]:
        """Returns the columns that it needs, each with the option's name."""
        return self._template.required()

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is worth a call.

        False are false, null, 0, empty lists and objects, and the texts that say so: empty ones, `false`, `no`, `0`,
        `null` and `none`, whatever their case and the blanks around them.

        Raises:
            TemplateError: The row cannot be judged.
        """
        (value,) = self._template.render(row)
        return _is_true(value)


def _is_true(value: JSON) -> bool:
    return value.strip().lower() not in _FALSE if isinstance(value, str) else bool(value)
