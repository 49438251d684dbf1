"""The program: from arguments to exit code. A platform's verb goes to its dialect, a person's command to its module."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from connector import commands, protocols
from connector.base.cores import one_core
from connector.base.errors import BudgetError, ConfigError, ConnectorError, Interrupted, RecordError
from connector.base.masking import Masker, passwords_in
from connector.base.terminal import data_writer, hanging, show_logs, write, write_lines
from connector.base.version import __version__
from connector.commands import ExitCode
from connector.parser import Parser
from connector.protocols import Arguments, MessageWriter
from connector.signals import end_by, interruptible

PROGRAM: Final = "openai-compatible"
ROLES: Final = ("source", "destination", "map", "tap", "target")
"""What stands before the program's name where it plays a part of a platform's."""

_BUFFER: Final = 2**16
_PLATFORMS: Final = "for platforms"
_VERBS: Final = {
    "spec": ("print the options of a config, as one JSON message", "spec --protocol multiwoven"),
    "discover": ("print the streams of the config's input, as one JSON message", "discover --config c.json"),
    "read": (
        "enrich the rows of the config's input, and print them as JSON messages, one per line",
        "read --config c.json --catalog catalog.json",
    ),
    "write": (
        "enrich the rows of the JSON messages on stdin, and write them to the config's output",
        "write --config c.json --catalog catalog.json < messages",
    ),
}
"""What the verbs of platforms do, and an example of each."""

_EXAMPLE: Final = '''  openai-compatible enrich reviews.csv --output labelled.csv \\
    --prompt "Classify: {{ review }}" --column "label=good|bad"'''
_MAPPER: Final = "singer"  # the dialect without verbs
_SWITCH_SECONDS: Final = 0.05  # threads wait for sockets, not for each other: fewer forced switches take less CPU


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program and ends the process: with its exit code, or by the signal that stopped it."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for some in every installed package
    try:
        raise SystemExit(run(sys.argv[1:] if argv is None else argv))
    except Interrupted as interrupted:
        sys.stdout.flush()
        end_by(interrupted.number)
    except KeyboardInterrupt:
        end_by(signal.SIGINT)
    finally:
        gc.freeze()  # the process is about to end: a last collection would only take 40 ms


def run(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code; prints errors on stderr.

    Raises:
        Interrupted: A signal stopped the run, and it ended in good order.
    """
    show_logs()
    if argv and argv[0] in ("help", "version"):  # as other programs have them
        argv = [*argv[1:], f"--{argv[0]}"]
    parser = _parser(argv)
    for place, word in enumerate(argv, 1):
        if "\0" in word or not _is_utf8(word):
            parser.error(f"argument {place} is not text in UTF-8: write it in UTF-8, or rename the file")
    parsed = parser.parse_args(argv)
    mask = Masker(passwords_in(argv))
    if not (parsed.verb or parsed.flag or parsed.config):
        parser.error("name a command, or give --config FILE for a Singer mapper")
    try:
        if parsed.is_platform and not _is_person(parsed):
            return _serve(parsed)
        _bound_memory()
        with one_core():  # once all is loaded: the hook that lets programs go hears of each import, too
            return commands.load(parsed.verb).run(parsed)
    except ConnectorError as error:
        write(sys.stderr, f"{PROGRAM}: {hanging(mask(error.message))}\n")
        return _code(error)
    except BrokenPipeError:
        _leave_stdout()
        reads = parsed.verb not in (None, "write")
        return ExitCode.DONE if reads else ExitCode.ENDPOINT  # a destination's reader needs every message
    except OSError as error:
        if error.filename is not None:  # a path of the command line or the config that the system refuses
            write_lines(sys.stderr, [f"{PROGRAM}: {mask(str(error.filename))}: {error.strerror}: name another file"])
            return ExitCode.USAGE
        _leave_stdout()
        write(sys.stderr, f"{PROGRAM}: standard output cannot be written: {error.strerror or error}\n")
        return ExitCode.ENDPOINT
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - its text may hold a secret, so Python must not print it
        write(sys.stderr, _unforeseen(error))
        return ExitCode.UNFORESEEN


def _bound_memory() -> None:
    """Has memory that is freed given back. What it takes is loaded only where rows may come: `spec` needs none."""
    with suppress(ImportError):  # a Python without ctypes
        import_module("connector.base.memory").give_back()


def _is_utf8(word: str) -> bool:
    """Returns whether Python could decode an argument: it keeps bytes that it cannot as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_person(parsed: argparse.Namespace) -> bool:
    """Returns whether a person runs a verb that platforms have, too: `check`, which then prints a table."""
    given = (parsed.form, parsed.url, parsed.api_key_command)
    asks = parsed.capabilities or any(value is not None for value in given)
    on_terminal = parsed.protocol == "airbyte" and sys.stdout.isatty()
    return parsed.verb in commands.COMMANDS and (asks or on_terminal)


def _unforeseen(error: BaseException | None) -> str:
    """Returns the class and traceback of an error and its causes, without their texts or the values of variables."""
    text = f"{PROGRAM}: this is a bug; please report it with these lines\n"
    while error is not None:
        text += f"{type(error).__qualname__} (its text is left out, since it may hold a secret), from\n"
        text += "".join(traceback.format_tb(error.__traceback__))
        error = error.__cause__ or error.__context__
    return text


def _leave_stdout() -> None:
    """Redirects stdout to nowhere: its reader has gone, and the interpreter would fail to flush it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code(error: ConnectorError) -> ExitCode:
    if isinstance(error, ConfigError):
        return ExitCode.USAGE
    if isinstance(error, RecordError):
        return ExitCode.FAILED_ROWS
    return ExitCode.BUDGET if isinstance(error, BudgetError) else ExitCode.ENDPOINT


def _role() -> str | None:
    """Returns the part of a platform's that this program plays, by the name that it was started by."""
    role, dash, rest = Path(sys.argv[0]).stem.partition("-")
    return role if dash and rest == PROGRAM and role in ROLES else None


def _serve(parsed: argparse.Namespace) -> int:
    """Speaks a platform's protocol on stdout. `spec` does without loading the connector."""
    dialect = protocols.load(parsed.protocol if parsed.verb else _MAPPER)
    if parsed.verb and parsed.verb not in dialect.VERBS:
        others = ", ".join(dialect.VERBS or [f"--{flag}" for flag in protocols.FLAGS])
        change = f"use one of {others}" if dialect.VERBS else f"leave it out, or give one of {others} in its place"
        raise ConfigError(f'the protocol {parsed.protocol} has no verb "{parsed.verb}": {change}')
    verb = parsed.verb or parsed.flag or "map"
    arguments = Arguments(verb, parsed.config, parsed.catalog, parsed.state, parsed.sync_config, _role())
    # Buffered here, since platforms' images set PYTHONUNBUFFERED, which would cost a system call for each record.
    with open(sys.stdout.fileno(), "wb", _BUFFER, closefd=False) as stdout:
        output = MessageWriter(data_writer(stdout), stdout.flush)
        if verb in ("spec", "about"):
            return dialect.serve(arguments, import_module("connector.config.spec"), output)
        _bound_memory()
        connector = import_module("connector.connector").Connector(is_shared=True)
        with one_core(), interruptible(connector.stop):
            return dialect.serve(arguments, connector, output)


def _parser(argv: Sequence[str]) -> Parser:
    """Returns the parser for these arguments: of the command that they name, or with the names of all of them.

    Only for the help of all commands are all loaded.
    """
    parser = Parser(
        PROGRAM,
        usage=f"{PROGRAM} COMMAND [options]",
        description="Turns any OpenAI-compatible endpoint into columns of any data pipeline.",
        example=_EXAMPLE,
    )
    verbs = parser.add_subparsers(title="commands", dest="verb", metavar="COMMAND", prog=PROGRAM)
    platform = protocols.VERBS
    group = parser.add_argument_group(
        _PLATFORMS,
        f"{', '.join(platform)} speak a platform's protocol: one JSON message per line. Without a command, the "
        "program is a Singer mapper: messages on stdin and stdout.",
    )
    _add_protocol(group, "airbyte")
    group.add_argument("--config", metavar="FILE", help="the config of the mapper, as JSON or YAML")
    group.add_argument("--catalog", metavar="FILE", help="of a tap: the streams to read")
    group.add_argument("--state", metavar="FILE", help="of a tap: the state that the last sync ended with")
    for name, about in protocols.FLAGS.items():
        group.add_argument(f"--{name}", dest="flag", action="store_const", const=name, help=about)
    group.add_argument("--format", choices=["json"], default="json", help="the format of --about")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}", help="print the version")
    parser.set_defaults(is_platform=True, sync_config=None)
    parser.set_defaults(form=None, capabilities=False, fresh=False)
    parser.set_defaults(url=None, model=None, api_key_command=None, whole=partial(_parser, ()))
    known = (*platform, *commands.COMMANDS)
    own = parser.before_command(argv)
    chosen = next(iter(argv[len(own) :]), None)
    is_listed = not argv or not {"-h", "--help"}.isdisjoint(own)
    named = known if is_listed or chosen not in known else (chosen,)
    for name in filter(named.__contains__, commands.COMMANDS):
        if is_listed or name == chosen:
            module = commands.load(name)
            about, example = commands.help_of(module)
            module.arguments(verb := verbs.add_parser(name, help=about, description=about, example=example))
        else:
            verb = verbs.add_parser(name)
        verb.set_defaults(is_platform=name in platform)
        if name in platform:
            _add_files(verb.group(_PLATFORMS))
    for name in filter(named.__contains__, platform):
        if name not in verbs.choices:
            about, example = _VERBS[name]
            verb = verbs.add_parser(
                name,
                usage="%(prog)s [options]",
                description=f"For platforms: {about}.",
                example=f"  {PROGRAM} {example}",
            )
            verb.set_defaults(is_platform=True)
            verb.add_argument("-c", "--config", metavar="FILE", default=argparse.SUPPRESS, help="the config, as JSON")
            _add_files(verb)
    return parser


def _add_protocol(group: Any, default: str) -> None:
    group.add_argument(
        "--protocol", choices=protocols.DIALECTS, default=default, help="the platform's protocol (default: airbyte)"
    )


def _add_files(group: Any) -> None:
    """Adds the protocol, which may stand before the verb as well, and the files beside the config."""
    _add_protocol(group, argparse.SUPPRESS)
    group.add_argument("--catalog", metavar="FILE", help="the streams to read, as the platform has chosen them")
    group.add_argument("--state", metavar="FILE", help="the state that the last sync ended with")
    group.add_argument("--sync-config", metavar="FILE", help="the streams to read, as AI Squared has them")
