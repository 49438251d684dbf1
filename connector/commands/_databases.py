"""Databases on the command line: in the place of files, as the input, as the output, and both in one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from pydantic import ValidationError

from connector import stores
from connector.base.errors import ConfigError
from connector.base.masking import bare_url
from connector.base.records import Schema
from connector.base.regex import regex
from connector.base.streams import Mode, Target
from connector.config.config import Config
from connector.config.shorthands import names_of
from connector.parser import Parser
from connector.run.runtime import job_of
from connector.stores import Sink, Source

_DATABASE_URL: Final = regex(r"(?!(?:file|https?|s3|gs|gcs|abfss?|az):)[a-z][\w+.-]*://|\$\{\w+\}$", re.IGNORECASE)
_MODES: Final[Mapping[str, Mode]] = {"append": "append", "overwrite": "overwrite", "upsert": "append_dedup"}


def add_input(parser: Parser) -> None:
    """Adds the options of an input that is a database."""
    group = parser.group("input")
    group.add_argument("--table", metavar="NAME", help="the table to read, if INPUT is a database: NAME or SCHEMA.NAME")
    group.add_argument("--query", metavar="SELECT", help="the query to read, instead of --table")


def add_output(parser: Parser, output: argparse.Action) -> None:
    """Adds the options of an output that is a database. `--into` takes the place of the option `output`."""

    class Into(argparse.Action):
        def __call__(self, _: object, namespace: argparse.Namespace, values: Any, *__: object) -> None:
            namespace.into, output.required = values, False

    group = parser.group("output")
    group.add_argument(
        "--into",
        metavar="TABLE",
        action=Into,
        help="enrich this table of INPUT in place, instead of writing to OUT: adds the columns, and calls only for "
        "rows that lack them or whose request has changed",
    )
    group.add_argument(
        "--table-out", metavar="NAME", help="the table to write, if OUT is a database; created if it does not exist"
    )
    group.add_argument(
        "--mode",
        choices=tuple(_MODES),
        help="append: add to the rows of --table-out; overwrite: replace all of them; upsert: replace those with the "
        "same primary key, and add the others (default: append)",
    )
    group.add_argument(
        "--primary-key",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column of the key for --mode upsert; can be repeated (default: the config's, then the input table's)",
    )


def is_database(path: str | None) -> bool:
    """Returns whether an argument names a database: by a URL, or by `${NAME}` alone."""
    return path is not None and _DATABASE_URL.match(path) is not None


def without_login(path: str) -> str:
    """Returns an argument as it may be printed: without the user and the password of a database."""
    return bare_url(path) if is_database(path) else path


def settle(arguments: argparse.Namespace) -> None:
    """Makes the table of `--into` the input and the output.

    Raises:
        ConfigError: Another one is named beside it, or an option is about a database where none is named.
    """
    if arguments.into is None:
        if not is_database(arguments.output) and (given := _given(arguments, "table_out", "mode", "primary_key")):
            raise ConfigError(f"{given}: only for an --output that is a database: leave it out, or name the URL of one")
        return
    if given := _given(arguments, "output", "table", "query", "table_out", "mode", "primary_key"):
        raise ConfigError(f"--into: its rows are filled where they are, by their primary key: leave out {given}")
    if not is_database(arguments.inputs[0]):
        raise ConfigError(
            f"--into: {arguments.inputs[0]} is not a database: name the URL of one, such as sqlite:///FILE"
        )
    arguments.table = arguments.table_out = arguments.into
    arguments.output = arguments.inputs[0]


def _given(arguments: argparse.Namespace, *names: str) -> str:
    """Returns the options among these that were given, as they are written."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name))


def input_options(arguments: argparse.Namespace, config: Config) -> Any:
    """Returns the options of an input that is a database.

    Raises:
        ConfigError: It is one of several inputs, or has not either a table or a query.
    """
    url, *more = arguments.inputs
    if more:
        raise ConfigError("a database stands alone: leave out the other inputs")
    return _options(url, "--table or --query", arguments.table, arguments.query, keep_llm_as=config.keep_llm_as)


def sink(
    arguments: argparse.Namespace, config: Config, added: Mapping[str, Schema], source: Source
) -> AbstractContextManager[Sink]:
    """Opens the output, a database.

    Raises:
        ConfigError: There is no table to write to, no key for an upsert, or the database refuses it.
    """
    options = _options(arguments.output, "--table-out", arguments.table_out)
    if arguments.into is not None:
        sql: Any = stores.load("sql")
        updating: AbstractContextManager[Sink] = sql.updating(options, added, source)
        return updating
    key = tuple(arguments.primary_key) or names_of(config.primary_key) or source.primary_key
    mode = _MODES[arguments.mode or "append"]
    if mode == "append_dedup" and not key:
        raise ConfigError("--mode upsert: the input has no primary key to tell rows by: name it with --primary-key")
    target = Target(options.table, mode, primary_key=key if mode == "append_dedup" else (), job=job_of(config))
    return stores.load("sql").sink(options, added, source=source, target=target)


def _options(url: str, needed: str, table: str | None, query: str | None = None, **more: Any) -> Any:
    if bool(table) == bool(query):
        raise ConfigError(f"{without_login(url)} is a database: give {needed}")
    try:
        return stores.load("sql").Options(url=url, table=table or "", query=query or "", **more)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ConfigError(f"--query: {first['ctx']['error']}") from None
