"""The parser of command lines: help that fits a terminal, and suggestions for unknown words.

What the commands take belongs in `commands`; this module knows none of them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from connector.base.masking import Masker, passwords_in
from connector.base.regex import regex
from connector.base.suggestions import did_you_mean, nearest
from connector.base.terminal import hanging, printable

_WIDEST: Final = 100  # longer lines are hard to read
_NARROWEST: Final = 40
_INDENT: Final = 26  # where the words about an option begin

_COMMAND_INDENT: Final = 14

_ELSEWHERE: Final = {
    "--api-base": "--url",
    "--base-url": "--url",
    "--batch-size": "--concurrency",
    "--delimiter": "--csv-delimiter",
    "--dest": "--output",
    "--head": "--limit",
    "--max-rows": "--limit",
    "--parallel": "--concurrency",
    "--processes": "--concurrency",
    "--resume": "--ledger",
    "--sep": "--csv-delimiter",
    "--system": "--system-prompt",
    "--threads": "--concurrency",
    "--workers": "--concurrency",
    "-V": "--version",
    "-v": "--version",
}
"""The names that other tools have for our options."""

_KEYS: Final = ("--api-key", "--apikey", "--key", "--token")
_KEY_ADVICE: Final = (
    "there is no option for a key, since all users of a machine can see its command lines: set OPENAI_API_KEY, or give "
    "--api-key-command"
)
_NEGATIVE: Final = regex(r"-\d|-\.\d")


class Parser(argparse.ArgumentParser):
    """A parser whose errors say what was meant, and whose help ends with an example.

    It takes only whole names of options, so that `--api-key KEY` never runs the key as a command, and masks keys in
    its errors, which quote the arguments.

    An argument that names a file of options may list their names in its attribute `holds`: if one of them is
    given on the command line, the error says where it belongs.
    """

    def __init__(self, prog: str | None = None, *, example: str = "", **settings: Any) -> None:
        epilog = f"example:\n{example}" if example else None
        super().__init__(prog, epilog=epilog, **settings, allow_abbrev=False, formatter_class=_Help)
        self._mask = Masker()
        self._positionals.title = "arguments"
        self._optionals.title = "other options"

    def group(self, title: str) -> Any:
        """Returns the group of options with a title: the one that there is, or a new one."""
        there = (each for each in self._action_groups if each.title == title)
        return next(there, None) or self.add_argument_group(title)

    def actions(self) -> Iterator[argparse.Action]:
        """Yields all options and arguments, those of commands too."""
        for action in self._actions:
            yield action
            if _is_commands(action):
                for parser in dict(action.choices or {}).values():
                    yield from parser.actions()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but reports an unknown option before a missing one, which it may have been meant for."""
        words = list(sys.argv[1:] if args is None else args)
        self._mask = Masker(passwords_in(words))
        for word in self._own(words):
            if word.startswith("-") and word not in ("-", "--") and not _NEGATIVE.match(word) and " " not in word:
                name = word.partition("=")[0]
                if name not in self._option_string_actions and (
                    name.startswith("--") or name[:2] not in self._option_string_actions
                ):
                    self.error(self._no_option(name))
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, but files may stand anywhere, also behind options: `a.csv -o out.csv b.csv`."""
        parsed, left = self.parse_known_args(args, namespace)
        several = getattr(parsed, "inputs", None)
        if left and several is not None:
            several += left
        elif left:
            self.error(f'unexpected argument "{left[0]}": leave it out, or put quotes around a text with spaces')
        return parsed

    def format_help(self) -> str:
        """Returns the help, what is common to all commands last."""
        self._action_groups.sort(key=lambda group: group is self._optionals)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2: what is wrong, how it is used, and where to read on."""
        for action in self._actions:
            if _is_commands(action) and message.endswith(f" required: {action.metavar}"):
                message = f"name what to do: {', '.join(action.choices or ())}"
        told = printable(hanging(self._mask(message)))
        self.exit(2, f"{self.prog}: {told}\n{self.format_usage()}To see all options: {self.prog} --help\n")

    def before_command(self, words: Sequence[str]) -> Sequence[str]:
        """Returns the words before the first one that is neither an option nor the value of one: the command."""
        is_value = False
        for place, word in enumerate(words):
            action = None if is_value else self._option_string_actions.get(word)
            if not is_value and (word in ("-", "--") or not word.startswith("-")):
                return words[:place]
            is_value = action is not None and action.nargs is None
        return words

    def _own(self, words: Sequence[str]) -> Sequence[str]:
        """Returns the words that are this parser's to judge: those before a command, and before `--`."""
        if any(map(_is_commands, self._actions)):
            return self.before_command(words)
        return words[: words.index("--")] if "--" in words else words

    def _no_option(self, name: str) -> str:
        if name in _KEYS:
            return _KEY_ADVICE
        near = _ELSEWHERE.get(name)
        if near not in self._option_string_actions:
            held = name.lstrip("-").replace("-", "_")
            for action in self._actions:
                if held in getattr(action, "holds", ()):
                    return f"there is no option {name}: write {held} into the file of {action.option_strings[-1]}"
            near = nearest(name, self._option_string_actions)
        meant = f": did you mean {near}?" if near else ""
        return f"there is no option {name}{meant}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuses what is not among the choices of an argument, with the nearest one."""
        if action.choices is None or value in action.choices:
            return
        if not _is_commands(action):
            choices = ", ".join(map(str, action.choices))
            meant = did_you_mean(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f'"{value}" is not one of {choices}{meant and f": {meant}"}')
        meant = did_you_mean(str(value), action.choices) or f"choose one of {', '.join(action.choices)}"
        if re.search(r"[./*\\]", str(value)):
            meant = "the command comes first, such as enrich, and files follow it"
        self.error(f'there is no command "{value}": {meant}')


def _is_commands(action: argparse.Action) -> bool:
    return action.nargs == argparse.PARSER


class _Help(argparse.HelpFormatter):
    """Keeps the lines of an example as they are, wraps the rest to the terminal, and lists commands without a title."""

    def __init__(self, prog: str) -> None:
        width = max(min(shutil.get_terminal_size().columns, _WIDEST) - 2, _NARROWEST)
        super().__init__(prog, max_help_position=_INDENT, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _format_action(self, action: argparse.Action) -> str:
        if not _is_commands(action):
            return super()._format_action(action)
        self._max_help_position = _COMMAND_INDENT
        commands = super()._format_action(action).partition("\n")[2]
        self._max_help_position = _INDENT
        return commands
