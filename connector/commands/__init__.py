"""The commands for people. One module is one command: its arguments, what it does, and its exit code.

Options that several commands share are in `_options`. Verbs that only platforms use belong in
`protocols`, not here.
"""

from __future__ import annotations

import argparse
from enum import IntEnum
from importlib import import_module
from pkgutil import iter_modules
from typing import Final, Protocol, cast

from connector.parser import Parser

_ORDER: Final = (
    *("enrich", "preview", "studio", "evaluate", "check", "models", "report", "ledger", "batch", "config"),
    *("sandbox", "serve", "completion"),
)

COMMANDS = tuple(
    sorted(
        (module.name for module in iter_modules(__path__) if not module.name.startswith("_")),
        key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name),
    )
)
"""The names of all commands, in the order in which people need them."""


class ExitCode(IntEnum):
    """The exit codes. A run that a signal stopped ends by that signal instead."""

    DONE = 0
    """Done; failed rows are in the output with their status."""
    FAILED_ROWS = 1
    """Done, but no row was answered; rows failed, under `--strict` or `on_error: fail`; or a config does not meet
    what `evaluate` was told to demand."""
    USAGE = 2
    """The command line, the config or the input has to be changed."""
    ENDPOINT = 3
    """Stopped by the endpoint (key, quota, every call fails), or because nothing can be stored."""
    BUDGET = 4
    """Stopped by the budget."""
    UNFORESEEN = 70
    """An unexpected error, which is a fault of this program (EX_SOFTWARE of sysexits.h)."""


class Command(Protocol):
    """What each command offers; its docstring is its help, see `help_of`."""

    def arguments(self, parser: Parser) -> None:
        """Adds its arguments."""

    def run(self, arguments: argparse.Namespace) -> ExitCode:
        """Runs it. Raises `ConnectorError`, which the program prints on stderr."""


def load(name: str) -> Command:
    """Imports a command by its name, and with it what only this command needs."""
    return cast("Command", import_module(f"{__name__}.{name}"))


def help_of(command: Command) -> tuple[str, str]:
    """Returns a command's help, the first line of its docstring, and its example, the lines there that are indented."""
    about, *lines = (command.__doc__ or "").splitlines()
    return about, "\n".join(line.removeprefix("  ") for line in lines if line.startswith("    "))
