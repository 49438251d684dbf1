"""The options that several commands share: the endpoint, the input, and those that make a config without a file."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from connector import stores
from connector.base.errors import ConfigError
from connector.base.records import Schema
from connector.base.schemas import nullable
from connector.base.suggestions import nearest
from connector.commands import _databases
from connector.commands._types import count, file_path
from connector.config.config import Config
from connector.parser import Parser
from connector.stores.formats import formats

STANDARD: Final = "-"
"""The path that stands for standard input or output."""

_FLAGS: Final = {"format": "--input-format", "delimiter": "--csv-delimiter", "encoding": "--encoding"}
_NULL: Final = "null"
_TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")
_SAME_NAME: Final = (
    *("prompt", "system_prompt", "model", "where", "endpoint_id", "concurrency"),
    "max_template_error_percent",
)
"""The options that a config has under the same names."""

_ALIASES: Final = {
    "str": "string",
    "text": "string",
    "varchar": "string",
    "int": "integer",
    "bigint": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
"""The names that types have elsewhere."""


def add_input(parser: Parser) -> None:
    """Adds the input."""
    given = parser.group("input")
    given.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=file_path,
        help="CSV, TSV, JSONL or Parquet files, globs of files, - for rows on stdin, or the URL of a database; several "
        "files are one table",
    )
    given.add_argument(
        "--input-format",
        metavar="FORMAT",
        choices=tuple(formats()),
        help=f"the input's format, whatever its name says: {', '.join(formats())} (default: by the name; on stdin, "
        "jsonl)",
    )
    given.add_argument(
        "--encoding", metavar="NAME", help="the input's text encoding, such as latin-1 or cp1252 (default: utf-8)"
    )
    given.add_argument("--csv-delimiter", metavar="CHAR", help="the separator of a CSV input, such as ; or tab")
    _databases.add_input(parser)
    given.add_argument("--limit", type=count, metavar="N", help="process only the first N rows")


def add_arguments(parser: Parser) -> None:
    """Adds the input and the options that describe the request."""
    add_input(parser)
    request = parser.group("request")
    add_config(request)
    request.add_argument("--prompt", metavar="TEXT", help="the prompt for each row; {{ column }} is the row's value")
    request.add_argument("--system-prompt", metavar="TEXT", help="the system prompt")
    add_column(request)
    request.add_argument(
        "--where", metavar="TEXT", help="call only for rows for which this is true, such as '{{ rating < 3 }}'"
    )
    add_endpoint(parser)
    parser.group("request").add_argument(
        "--endpoint-id", metavar="NAME", help="the endpoint's name in the ledger, for endpoints whose URL changes"
    )
    parser.group("output")
    parser.group("run").add_argument(
        "--concurrency", type=count, metavar="N", help="make at most N calls at a time (default: 8)"
    )
    parser.group("run").add_argument(
        "--batch",
        action="store_true",
        help="send the requests through the Batch API: half the price, and an answer within a day",
    )


def add_config(group: Any, **other: Any) -> None:
    """Adds the config. One that stands before the command counts as well.

    Args:
        group: Where it is told.
        other: Settings of argparse's that differ, as for several configs.
    """
    settings = {"metavar": "FILE", "type": file_path, "help": "the config, as JSON or YAML"} | other
    action = group.add_argument("-c", "--config", default=argparse.SUPPRESS, **settings)
    action.holds = frozenset(Config.model_fields)  # see `Parser`


def add_column(group: Any) -> None:
    """Adds the option that tells an output column."""
    group.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help=f"an output column; TYPE is {', '.join(_TYPES)}, or the allowed values as a|b|c; TYPE|null allows null; "
        "can be repeated",
    )


def add_endpoint(parser: Parser, *, model: bool = True) -> None:
    """Adds the options that say where to call, with which key, and which `model`."""
    group = parser.group("endpoint")
    group.add_argument(
        "--url", metavar="URL", help="the URL of the endpoint, or its base URL (default: OPENAI_BASE_URL)"
    )
    if model:
        group.add_argument("--model", metavar="NAME", help="the model (default: the config's, then OPENAI_MODEL)")
    group.add_argument(
        "--api-key-command",
        metavar="COMMAND",
        help="a program, with its arguments, that prints the key; quoted as in a shell, but run without one",
    )


def endpoint_from(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns these options as options of a config. A command takes the place of the config's key."""
    given = {} if arguments.url is None else {"url": arguments.url}
    command = arguments.api_key_command
    return given if command is None else {**given, "api_key_command": command, "api_key": None}


def config_from(arguments: argparse.Namespace) -> Config:
    """Returns the config of the options, on top of the config file if there is one.

    Raises:
        ConfigError: Something is wrong with the options or the file.
    """
    given = endpoint_from(arguments) | {
        name: getattr(arguments, name) for name in _SAME_NAME if getattr(arguments, name, None) is not None
    }
    if arguments.column:
        given["output_schema"] = schema_from(arguments.column)
    if "prompt" in given or "system_prompt" in given:
        given["request_format"] = None
    try:
        config = Config.load(arguments.config, **given)
        if getattr(arguments, "batch", False) and config.batch is None:
            config = Config.load(arguments.config, **given, batch=True)
    except ConfigError as error:
        advice = import_module("connector.check").invalid_config(error)  # which a config that is right does not need
        raise ConfigError(advice.message) from None
    if "model" in given and config.request_format is not None:
        import_module("connector.run.requests").check_model(config, "--model")
    folder = config.image_root or getattr(input_from(arguments, config), "folder", None)
    return config.model_copy(update={"image_root": folder and str(folder)})


def check_output(option: str, path: str | None) -> None:
    """Refuses an option for a file to write whose value names none.

    Raises:
        ConfigError: It is empty, or a folder.
    """
    if path is None or path == STANDARD:
        return
    try:
        what = "it is empty" if not path else "this is a folder" if not Path(path).name or Path(path).is_dir() else ""
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        what = f"it cannot be written ({getattr(error, 'strerror', None) or error})"
    if what:
        raise ConfigError(f"{option} {json.dumps(path)}: {what}: name the file to write")


def input_from(arguments: argparse.Namespace, config: Config) -> Any:
    """Returns the store options of the inputs.

    Raises:
        ConfigError: Something is wrong with them.
    """
    path, *more = arguments.inputs
    if any(map(_databases.is_database, arguments.inputs)):
        return _databases.input_options(arguments, config)
    if arguments.table or arguments.query:
        raise ConfigError(
            f"--table and --query are for databases, and {path} is not one: write a URL, such as sqlite:///FILE"
        )
    if more and STANDARD in arguments.inputs:
        raise ConfigError("- is standard input, which stands alone: leave out the other inputs, or the -")
    given = {
        "format": arguments.input_format,
        "delimiter": arguments.csv_delimiter,
        "encoding": arguments.encoding,
        "more": tuple(more),
    }
    given |= {"on_bad_input": config.on_bad_input, "keep_llm_as": config.keep_llm_as}
    return store_from(path, **{name: value for name, value in given.items() if value})


def store_from(path: str, **given: Any) -> Any:
    """Returns the store options for a path on the command line, with further options.

    Raises:
        ConfigError: It is empty, or an option is wrong.
    """
    kind = "stdio" if path == STANDARD else "files"
    named = {} if kind == "stdio" else {"path": path}
    try:
        return stores.load(kind).Options(**named, **given)
    except ValidationError as error:
        (first, *_) = error.errors()
        name = str(first["loc"][0])
        if name in _FLAGS:
            raise ConfigError(f"{_FLAGS[name]} {json.dumps(given[name])}: {first['ctx']['error']}") from None
        what = str(first["ctx"]["error"]) if path else "it is empty"
        raise ConfigError(f"the path {json.dumps(path)}: {what}: name a file, or - for standard input") from None


def schema_from(columns: list[str]) -> Schema:
    """Returns the output schema of `NAME=TYPE` options."""
    properties = dict(_column(column) for column in columns)
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _column(column: str) -> tuple[str, Schema]:
    name, is_typed, kind = (part.strip() for part in column.partition("="))
    words = [word.strip() for word in (kind or _TYPES[0]).split("|")]
    values = [word for word in words if word != _NULL]
    schema = _schema(values) if len(words) > 1 or words[0].removesuffix("[]") in _TYPES else None
    slip = _meant_type(values[0]) if len(values) == 1 else ""
    if not name or schema is None or slip or not (is_typed or name.isidentifier() or set(name).isdisjoint("|:")):
        advice = f"write NAME=TYPE with a type of {', '.join(_TYPES)}, or NAME=a|b|c, or TYPE|null"
        raise ConfigError(f"--column {column}: {advice}{slip}")
    return name, schema if values == words else nullable(schema)


def _meant_type(word: str) -> str:
    """Returns `; did you mean "TYPE"?` for the one word of a column that is not a type but like one, or nothing."""
    plain = word.removesuffix("[]")
    meant = None if plain in _TYPES else _ALIASES.get(plain.lower()) or nearest(plain, _TYPES)
    return f'; did you mean "{meant}{word[len(plain) :]}"?' if meant else ""


def _schema(words: list[str]) -> Schema | None:
    """Returns the schema of types if all words are types, else of the words as the allowed values."""
    if not words or not all(words):
        return None
    if any(word.removesuffix("[]") not in _TYPES for word in words):
        return {"type": "string", "enum": words}
    items = [word.removesuffix("[]") for word in words if word.endswith("[]")]
    kinds = _one_or_all(["array" if word.endswith("[]") else word for word in words])
    return {"type": kinds, "items": {"type": _one_or_all(items)}} if items else {"type": kinds}


def _one_or_all(kinds: list[str]) -> str | list[str]:
    different = list(dict.fromkeys(kinds))
    return different[0] if len(different) == 1 else different
