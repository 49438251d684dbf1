"""The commands for people. One module is one command, complete: its arguments, what it does, how it ends.

A verb that only platforms use belongs in `protocols`; what several commands share is in `_shorthands`.
"""

from __future__ import annotations

import argparse
from enum import IntEnum
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

COMMANDS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all commands."""


class ExitCode(IntEnum):
    """How the program ends. A run that a signal stopped ends by that signal instead."""

    DONE = 0
    """Done; rows that failed are in the output with their status."""
    FAILED_ROWS = 1
    """Done, with failed rows, under `--strict` or `on_error: fail`."""
    USAGE = 2
    """The command, the config or the input cannot work as it stands."""
    ENDPOINT = 3
    """Stopped by the endpoint (key, quota, everything failing) or because nothing can be stored."""
    BUDGET = 4
    """Stopped by the budget."""
    UNFORESEEN = 70
    """An error that nobody foresaw, which is a fault of this program (EX_SOFTWARE of sysexits.h)."""


class Command(Protocol):
    """What a command module consists of; the first line of its docstring is its help."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds what it takes."""

    def run(self, arguments: argparse.Namespace) -> ExitCode:
        """Does it. Raises `ConnectorError`, which the program says on stderr."""


def load(name: str) -> Command:
    """Opens a command by its name, so that what only it needs is imported only then."""
    return cast("Command", import_module(f"{__name__}.{name}"))
