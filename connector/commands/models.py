"""List the models that the endpoint offers, with owner and date of creation. This is free.

Example:
    openai-compatible models --url http://localhost:8000/v1
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.terminal import aligned, write, write_lines
from connector.commands import ExitCode
from connector.commands._options import add_config, add_endpoint, endpoint_from
from connector.config.config import Config
from connector.parser import Parser
from connector.run.model_list import Model, models
from connector.run.runtime import transport_of

_UNKNOWN: Final = "-"


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s [options]"
    add_config(parser.group("endpoint"))
    add_endpoint(parser, model=False)
    parser.add_argument(
        "--format",
        dest="form",
        choices=["table", "json"],
        default="table",
        help="the format of the list (default: table)",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = Config.load(arguments.config, **endpoint_from(arguments))
    mask = Masker(config.secrets)
    with closing(transport_of(config, mask)) as transport:
        found = models(transport, config.models_url, mask, Clock())
    if arguments.form == "json":
        write(sys.stdout, json.dumps([each._asdict() for each in found], indent=2, ensure_ascii=False) + "\n")
    else:
        rows = ((each.id, each.owned_by or _UNKNOWN, _date(each)) for each in found)
        write_lines(sys.stdout, aligned([("id", "owner", "created"), *rows]))
    return ExitCode.DONE


def _date(model: Model) -> str:
    try:
        return f"{datetime.fromtimestamp(model.created, UTC):%Y-%m-%d}" if model.created else _UNKNOWN
    except (ValueError, OverflowError, OSError):
        return _UNKNOWN
