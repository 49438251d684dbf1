"""Try a prompt in a page on this machine: see requests, call a few rows, compare variants, then run the table.

Example:
    openai-compatible studio reviews.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from connector.base.errors import ConfigError
from connector.base.suggestions import there_are
from connector.base.terminal import write
from connector.commands import ExitCode, _databases
from connector.commands._options import STANDARD, add_config, add_input, input_from
from connector.commands._types import count, file_path
from connector.config.config import Config
from connector.config.config_file import read
from connector.parser import Parser

_EXTRA: Final = 'run pip install "openai-compatible-connector[studio]"'
_LIBRARIES: Final = ("fastapi", "nicegui", "numpy", "rapidfuzz", "scipy", "uvicorn")
_MOST: Final = 4
_PORTS: Final = 65_535


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s [INPUT...] [options]"
    add_input(parser)
    for action in parser.actions():
        if action.dest == "inputs":
            action.nargs, action.required = "*", False
            action.help = (
                "CSV, TSV, JSONL or Parquet files, globs of files, or the URL of a database (default: the config's)"
            )
    begun, page = parser.group("start with"), parser.group("page")
    add_config(begun, action="append", help="a config, as JSON or YAML; repeated, each is a variant: A, B, C, D")
    begun.add_argument("--truth", metavar="COLUMN", help="the column of the input with the right answers")
    begun.add_argument(
        "--labels", metavar="PATH", type=file_path, help="the file that keeps labels (default: INPUT.labels.jsonl)"
    )
    page.add_argument("--port", type=count, default=0, metavar="N", help="the port (default: any free one)")
    page.add_argument("--no-browser", action="store_true", help="print the address, but do not open a browser")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    paths = [arguments.config] if isinstance(arguments.config, str) else list(arguments.config or ())
    if len(paths) > _MOST:
        raise ConfigError(f"the studio compares up to {_MOST} configs: leave out the others")
    if arguments.port > _PORTS:
        raise ConfigError(f"--port {arguments.port}: choose one of 0 to {_PORTS}")
    if STANDARD in arguments.inputs:
        raise ConfigError("- is standard input, which can be read only once: name a file")
    server, session = (_loaded(name) for name in ("server", "session"))
    drafts = [(Path(path).stem, read(Path(path))) for path in paths]
    config = _first(drafts)
    given, names = _input(arguments, config)
    labels = arguments.labels or _labels(names[0])
    opened = session.Session(given, names, drafts, limit=arguments.limit, labels=Path(labels))
    if arguments.truth:
        if arguments.truth not in opened.table.names:
            there = there_are(arguments.truth, opened.table.names)
            raise ConfigError(f"--truth {arguments.truth}: there is no column of this name in the input; {there}")
        opened.truth = arguments.truth

    def announce(address: str) -> None:
        write(sys.stderr, f"the studio is open, for you only, at {address}\nCtrl-C ends it\n")
        sys.stderr.flush()

    server.serve(opened, port=arguments.port, announce=announce, opens=not arguments.no_browser)
    return ExitCode.DONE


def _first(drafts: Sequence[tuple[str, Mapping[str, Any]]]) -> Config:
    """Returns the first config as far as it says how the input is read; the page tells what else is wrong with it."""
    try:
        return Config.load(drafts[0][1]) if drafts else Config()
    except ConfigError:
        return Config()


def _input(arguments: argparse.Namespace, config: Config) -> tuple[Any, list[str]]:
    """Returns the options of the input, and what people call it: that of the command line, or else of the config."""
    if arguments.inputs:
        return input_from(arguments, config), [_databases.without_login(each) for each in arguments.inputs]
    if config.input is None:
        raise ConfigError("name the table: openai-compatible studio INPUT, or a config with an input")
    named = getattr(config.input, "path", None) or getattr(config.input, "url", None) or config.input.type
    return config.input, [_databases.without_login(str(named))]


def _labels(name: str) -> str:
    """Returns where labels are kept: beside a file, else in the current folder."""
    is_file = not _databases.is_database(name) and "*" not in name and Path(name).parent.is_dir()
    return f"{name}.labels.jsonl" if is_file else "labels.jsonl"


def _loaded(name: str) -> Any:
    """Returns a module of the studio, which needs the extra."""
    try:
        return import_module(f"connector.studio.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise ConfigError(f"the studio needs {error.name}: {_EXTRA}", detail=str(error)) from error
