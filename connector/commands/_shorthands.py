"""The options that make up a config for whoever has none, shared by the commands that work on a table."""

from __future__ import annotations

import argparse
from typing import Any, Final

from connector import stores
from connector.base.errors import ConfigError
from connector.base.records import Schema
from connector.config.config import Config

STANDARD: Final = "-"
"""The path that means standard input or output."""

_TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options that describe the request."""
    parser.add_argument(
        "input", metavar="INPUT", help="CSV, TSV, JSONL or Parquet file, a glob, or - for JSONL on stdin"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="config, JSON or YAML")
    parser.add_argument("--prompt", metavar="TEXT", help="what to ask for each row; {{ column }} is the row's value")
    parser.add_argument("--system-prompt", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--model", metavar="NAME", help="the model; or set OPENAI_MODEL")
    add_endpoint(parser)
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help=f"an output column: one of {', '.join(_TYPES)}, or its values as a|b|c; may be given several times",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    parser.add_argument("--concurrency", type=int, metavar="N", help="calls in flight at the most")


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where to call, and as whom."""
    parser.add_argument("--url", metavar="URL", help="the endpoint or its base URL; or set OPENAI_BASE_URL")
    parser.add_argument(
        "--api-key-command",
        metavar="COMMAND",
        help="a program whose output is the key, with its arguments, quoted as for a shell (none is started)",
    )


def endpoint_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of a config that those describe. A command takes the place of the config's key."""
    given = {} if arguments.url is None else {"url": arguments.url}
    command = arguments.api_key_command
    return given if command is None else {**given, "api_key_command": command, "api_key": None}


def config_of(arguments: argparse.Namespace) -> Config:
    """The config that the options describe, on top of the file where one is given.

    Raises:
        ConfigError: Something is wrong with either.
    """
    given = endpoint_of(arguments) | {
        name: getattr(arguments, name)
        for name in ("prompt", "system_prompt", "model", "concurrency")
        if getattr(arguments, name) is not None
    }
    if arguments.column:
        given["output_schema"] = schema_of(arguments.column)
    if "prompt" in given or "system_prompt" in given:
        given["request_format"] = None
    return Config.load(arguments.config, **given)


def store_of(path: str) -> Any:
    """The store options that a path on the command line means."""
    kind = "stdio" if path == STANDARD else "files"
    options = stores.load(kind).Options
    return options() if kind == "stdio" else options(path=path)


def schema_of(columns: list[str]) -> Schema:
    """The output schema that `NAME=TYPE` options describe."""
    properties = dict(_column(column) for column in columns)
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _column(column: str) -> tuple[str, Schema]:
    name, _, kind = (part.strip() for part in column.partition("="))
    kind = kind or "string"
    if name and "|" in kind:
        return name, {"type": "string", "enum": [value.strip() for value in kind.split("|")]}
    if name and kind.endswith("[]") and kind[:-2] in _TYPES:
        return name, {"type": "array", "items": {"type": kind[:-2]}}
    if name and kind in _TYPES:
        return name, {"type": kind}
    raise ConfigError(f"--column {column}: expected NAME=TYPE with a type out of {', '.join(_TYPES)}, or NAME=a|b|c")
