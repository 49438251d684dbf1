"""Make the report of a finished run from its output and its ledger: a page, or the figures as JSON.

Example:
    openai-compatible report labelled.csv --config config.json
"""

from __future__ import annotations

import argparse
import sys
from array import array
from bisect import bisect_left
from dataclasses import replace
from pathlib import Path
from typing import Final

from connector import stores
from connector.base.errors import ConfigError
from connector.base.masking import Masker
from connector.base.records import Outcome, Status
from connector.base.terminal import write_lines
from connector.commands import ExitCode
from connector.commands._ledger_file import open_ledger
from connector.commands._options import STANDARD, check_output, store_from
from connector.commands._types import file_path, ledger_place, new_file_path
from connector.config.config import Config
from connector.ledger import Url
from connector.parser import Parser
from connector.report.collector import Collector, run_of
from connector.report.output import outcomes
from connector.report.recorder import renderer, save
from connector.run.plan import Plan
from connector.run.summary import Summary

_WITHIN: Final = 0.99  # of a second
_SKIPPED: Final = "Failed rows are not counted: on_error is skip, so the output does not hold them."


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
        type=ledger_place,
        metavar="PATH",
        help="the run's ledger, which knows when replies came (default: OUTPUT.ledger, if it exists)",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=file_path,
        default=argparse.SUPPRESS,
        help="the run's config, which tells the new columns from those of the input",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    if arguments.output == STANDARD:
        raise ConfigError("the output of a finished run is a file: name it")
    path = arguments.report or f"{arguments.output}.html"
    check_output("--report", path)
    render = renderer(path)
    config = None if arguments.config is None else Config.load(arguments.config)
    plan = None if config is None else Plan(config)
    added = {} if plan is None else plan.columns
    mask = Masker([] if config is None else config.secrets)
    summary = Summary()
    may_share = plan is None or plan.requests.packing is not None
    collector = Collector(summary, added, mask, seconds=1, may_share=may_share)
    options = store_from(arguments.output)
    paid = _Paid()
    with stores.load(options.type).source(options) as source:
        for outcome in outcomes(source, None if config is None else added):
            summary.add(outcome)
            collector.add(outcome, None)
            paid.add(outcome)
    ledger = arguments.ledger or Path(f"{arguments.output}.ledger")
    began, ended = _timed(ledger, paid, collector) if arguments.ledger or ledger.is_file() else (None, None)
    made = run_of(
        config,
        mask,
        collector.models,
        source=None,
        output=arguments.output,
        started=began,
        ended=ended,
    )
    # A run may have had another URL, by --url or from the environment: only what it wrote itself can be told.
    made = replace(made, url=None, config={name: value for name, value in made.config.items() if name != "url"})
    notes = [_SKIPPED] if config is not None and config.on_error == "skip" else []
    save(path, render(collector.figures(made, timing=f"the replies in {ledger}", notes=notes)))
    write_lines(sys.stderr, [f"report written to {path}"])
    return ExitCode.DONE


class _Paid:
    """The replies that a run has paid for, by 64 bits of their keys: eight bytes of memory for each."""

    def __init__(self) -> None:
        self._keys = {False: array("Q"), True: array("Q")}

    def add(self, outcome: Outcome) -> None:
        """Notes the reply to a row."""
        known = outcome.provenance
        if known.prompt_hash and known.attempts and not known.cached:
            self._keys[outcome.status is not Status.SUCCESS].append(int(known.prompt_hash[:16], 16))

    def sort(self) -> None:
        """Makes them ready to be looked up."""
        self._keys = {is_failed: array("Q", sorted(keys)) for is_failed, keys in self._keys.items()}

    def is_failed(self, key: bytes) -> bool | None:
        """Returns whether the row of a reply failed; `None` if the run did not pay for it."""
        known = int.from_bytes(key[:8])
        for is_failed, keys in self._keys.items():
            place = bisect_left(keys, known)
            if place < len(keys) and keys[place] == known:
                return is_failed
        return None


def _timed(path: Path | Url, paid: _Paid, collector: Collector) -> tuple[float | None, float | None]:
    """Takes the times of a run's replies from a ledger; returns the first and the last, in seconds since 1970."""
    first = last = None
    paid.sort()
    with open_ledger(path) as ledger:
        for entry in ledger.entries():
            is_failed = paid.is_failed(entry.key)
            if is_failed is None:
                continue
            first = entry.stored_at if first is None else first
            last = entry.stored_at
            # They are whole seconds: a reply of second 5 came before second 6.
            collector.replied(last - first + _WITHIN, entry.reply.latency_ms, is_failed=is_failed)
    return first, last
