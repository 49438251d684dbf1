"""Run a table through the endpoint and write it with its new columns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from connector import stores
from connector.commands import ExitCode
from connector.commands._shorthands import STANDARD, add, config_of, store_of
from connector.errors import FatalError
from connector.pipeline import Result
from connector.plan import Plan
from connector.records import IDLE, Outcome, Status
from connector.report import Report
from connector.runtime import Runtime, ledger_path
from connector.signals import Interrupted, interruptible
from connector.stores import Sink


def arguments(parser: argparse.ArgumentParser) -> None:
    """See `connector.commands.Command`."""
    add(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="output file, or - for JSONL on stdout")
    parser.add_argument("--ledger", metavar="PATH", help="where replies are kept (default: OUT.ledger)")
    parser.add_argument("--retry-failed", action="store_true", help="call again for rows whose reply was no success")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any row failed")
    parser.add_argument("-q", "--quiet", action="store_true", help="no live line and no summary")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = config_of(arguments)
    if arguments.ledger:
        config = config.model_copy(update={"cache": arguments.ledger})
    beside = None if arguments.output == STANDARD else Path(arguments.output)
    path = ledger_path(config, beside)
    given, target = store_of(arguments.input), store_of(arguments.output)
    with ExitStack() as stack:
        source = stack.enter_context(stores.load(given.type).source(given, limit=arguments.limit))
        plan = Plan(config, source.columns or None)
        sink = stack.enter_context(stores.load(target.type).sink(target, plan.added, source=source))
        runtime = stack.enter_context(Runtime(plan, path))
        stack.enter_context(interruptible(runtime.control.stop))
        live = sys.stderr.isatty() and not arguments.quiet
        report = Report(runtime.control, runtime.budget, sys.stderr, rows=source.rows, live=live)
        try:
            with closing(runtime.run(source.read(), retry_failed=arguments.retry_failed)) as results:
                _write(report.watched(results), sink, skips=config.on_error == "skip")
            sink.commit()
        except (FatalError, Interrupted):
            _tell(report.summary())
            if path is not None:
                _tell(f"the answers so far are in {path}: run the same command again to go on from there")
            raise
        finally:
            report.close()
    if not arguments.quiet:
        _tell(report.summary())
        _tell(f"written to {arguments.output}" if beside else "written to standard output")
    failed = report.failed and (arguments.strict or config.on_error == "fail")
    return ExitCode.FAILED_ROWS if failed else ExitCode.DONE


def _write(results: Iterator[Result], sink: Sink, *, skips: bool) -> None:
    for result in results:
        if isinstance(result, Outcome):
            left_out = skips and result.status is not Status.SUCCESS
            sink.write(result.record, None if left_out else {**result.columns, **result.group})
        elif result is IDLE:
            sink.flush()


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
