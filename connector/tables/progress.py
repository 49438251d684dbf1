"""A progress bar in a terminal or a notebook. Its library is imported only when a bar is drawn."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Self

from connector.base.amounts import dollars
from connector.base.errors import ConfigError
from connector.base.records import Outcome


class Bar:
    """A progress bar of tqdm; a context manager.

    Args:
        rows: Rows in all; `None` if unknown.

    Raises:
        ConfigError: tqdm is not installed.
    """

    def __init__(self, rows: int | None) -> None:
        try:
            draw: Any = import_module("tqdm.auto")
        except ModuleNotFoundError as error:
            raise ConfigError("progress: the bar needs tqdm: run pip install tqdm", detail=str(error)) from error
        self._open = draw.tqdm
        self._rows = rows
        self._failed = 0
        self._cost = 0.0

    def __enter__(self) -> Self:
        self._bar = self._open(total=self._rows, unit=" rows")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, outcome: Outcome) -> None:
        """Shows that a row is done, and what has failed and been spent so far."""
        provenance = outcome.provenance
        if not provenance.cached and provenance.cost_usd:
            self._cost += provenance.cost_usd
            self._show()
        if outcome.status.is_failure:
            self._failed += 1
            self._show()
        self._bar.update()

    def _show(self) -> None:
        told = {"failed": self._failed} if self._failed else {}
        self._bar.set_postfix({**told, "cost": dollars(self._cost)} if self._cost else told, refresh=False)
