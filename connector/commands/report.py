"""Make the report of a finished run from its output and its ledger: a page, or the figures as JSON.

Example:
    openai-compatible report labelled.csv --config config.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from connector import stores
from connector.base.errors import ConfigError
from connector.base.masking import Masker
from connector.base.records import is_ok
from connector.base.terminal import write
from connector.commands import ExitCode
from connector.commands._options import STANDARD, check_output, store_from
from connector.commands._types import file_path, new_file_path
from connector.commands.ledger import open_ledger
from connector.config.config import Config
from connector.parser import Parser
from connector.report.collector import Collector, run_of
from connector.report.output import outcomes
from connector.report.recorder import renderer, save
from connector.run.plan import Plan
from connector.run.summary import Summary

_WITHIN: Final = 0.99  # of a second


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.add_argument("output", metavar="OUTPUT", type=file_path, help="an output of enrich, in any format")
    parser.add_argument(
        "-r",
        "--report",
        type=new_file_path,
        metavar="PATH",
        help="the report: a page (.html) or the figures alone (.json); default: OUTPUT.html",
    )
    parser.add_argument(
        "--ledger",
        type=file_path,
        metavar="PATH",
        help="the ledger of the run, which knows when replies came (default: OUTPUT.ledger, if it is there)",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=file_path,
        default=argparse.SUPPRESS,
        help="the config of the run, which tells its columns from those of the input",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    if arguments.output == STANDARD:
        raise ConfigError("the output of a finished run is a file: name it")
    path = arguments.report or f"{arguments.output}.html"
    check_output("--report", path)
    render = renderer(path)
    config = None if arguments.config is None else Config.load(arguments.config)
    added = {} if config is None else Plan(config).columns
    mask = Masker([] if config is None else config.secrets)
    summary = Summary()
    collector = Collector(summary, added, mask, seconds=1)
    options = store_from(arguments.output)
    with stores.load(options.type).source(options) as source:
        for outcome in outcomes(source, None if config is None else added):
            summary.add(outcome)
            collector.add(outcome, None)
    ledger = Path(arguments.ledger or f"{arguments.output}.ledger")
    began, ended = _timed(ledger, collector) if arguments.ledger or ledger.is_file() else (None, None)
    made = run_of(
        config,
        mask,
        collector.models,
        source=None,
        output=arguments.output,
        started=began,
        ended=ended,
    )
    save(path, render(collector.figures(made, timing=f"the replies in {ledger}")))
    write(sys.stderr, f"report written to {path}\n")
    return ExitCode.DONE


def _timed(path: Path, collector: Collector) -> tuple[float | None, float | None]:
    """Takes the times of a ledger's replies; returns the first and the last, in seconds since 1970."""
    first = last = None
    with open_ledger(path) as ledger:
        for entry in ledger.entries():
            first = entry.stored_at if first is None else first
            last = entry.stored_at
            is_failed = not is_ok(entry.reply.status)
            # They are whole seconds: a reply of second 5 came before second 6.
            collector.replied(last - first + _WITHIN, entry.reply.latency_ms, is_failed=is_failed)
    return first, last
