"""Convert the config of another tool: `config import FILE` prints it as ours, in JSON.

Example:
    openai-compatible config import .env > config.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from connector.base.terminal import write, write_lines
from connector.commands import ExitCode
from connector.commands._types import file_path
from connector.config.importing import imported
from connector.parser import Parser


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "convert FILE (JSON or TOML of a coding tool, or .env) and print the config"
    action = actions.add_parser("import", help=about, description=f"{about[0].upper()}{about[1:]}.")
    action.add_argument("file", metavar="FILE", type=file_path, help="a JSON, TOML or .env file")
    action.add_argument("--provider", metavar="NAME", help="the provider to convert, if FILE has several")
    action.add_argument(
        "--literal-key", action="store_true", help="print the key itself if FILE has it, rather than ${NAME}"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config, notes = imported(Path(arguments.file), arguments.provider, literal=arguments.literal_key)
    write(sys.stdout, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_lines(sys.stderr, notes)
    return ExitCode.DONE
