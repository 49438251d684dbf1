"""Print the shell's completion script, for commands, options, files and choices.

Example:
    eval "$(openai-compatible completion bash)"
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any, Final

from connector.base.terminal import write
from connector.commands import ExitCode
from connector.commands._types import file_path, new_file_path
from connector.parser import Parser

_SHELLS: Final = ("bash", "zsh", "fish")
_FILES: Final = ("FILE", "PATH")


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=f"the shell: {', '.join(_SHELLS)}")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    shtab: Any = import_module("shtab")  # takes longer than all of the rest, and is needed nowhere else
    parser: Parser = arguments.whole()
    for action in parser.actions():
        if action.type in (file_path, new_file_path) or action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    script = shtab.complete(parser, arguments.shell)
    if arguments.shell == "zsh":
        script = script.replace('"(*):', '"*:')  # else only the first of several files is completed
    write(sys.stdout, f"{script}\n")
    return ExitCode.DONE
