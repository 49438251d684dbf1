"""Serve a small endpoint on loopback to try things out without a key. It replies by fixed rules, not by a model.

Example:
    openai-compatible sandbox --port 8000
"""

from __future__ import annotations

import argparse

from connector import sandbox
from connector.commands import ExitCode
from connector.parser import Parser
from connector.sandbox.batches import FAULTS


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="the port (default: 8000; 0: any free port)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="the address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="S", help="the seconds that each reply takes (default: 0)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:N]",
        help=f"what goes wrong with files and batches, every time or N times; can be repeated: {', '.join(FAULTS)}",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    sandbox.serve(arguments.host, arguments.port, latency=arguments.latency, faults=arguments.fault)
    return ExitCode.DONE
