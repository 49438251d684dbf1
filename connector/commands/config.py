"""Turn the config of another tool into ours: `config import FILE` prints it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from connector.commands import ExitCode
from connector.config.importing import imported


def arguments(parser: argparse.ArgumentParser) -> None:
    """See `connector.commands.Command`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "print the config that FILE (JSON or TOML of a coding tool, or .env) amounts to"
    action = actions.add_parser("import", help=about, description=about)
    action.add_argument("file", metavar="FILE", type=Path, help="JSON, TOML or .env")
    action.add_argument("--provider", metavar="NAME", help="the provider to take, where FILE holds several")
    action.add_argument("--literal-key", action="store_true", help="print the key itself, if it stands in FILE")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config, notes = imported(arguments.file, arguments.provider, literal=arguments.literal_key)
    sys.stdout.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.writelines(f"{note}\n" for note in notes)
    return ExitCode.DONE
