"""Run a table through the endpoint and write it with its new columns."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

from connector import stores
from connector.base.errors import ConfigError, FatalError, Interrupted
from connector.base.records import IDLE, Outcome, Schema, Status
from connector.commands import ExitCode
from connector.commands._shorthands import STANDARD, add, config_of, store_of
from connector.engines import Stop
from connector.run.on_error import FailedRows, Policy
from connector.run.pipeline import Result
from connector.run.plan import Plan
from connector.run.progress import Progress
from connector.run.provenance import SCHEMA, as_column
from connector.run.runtime import Runtime, ledger_path
from connector.signals import interruptible
from connector.stores import DEAD_LETTER, Sink, Source


def arguments(parser: argparse.ArgumentParser) -> None:
    """See `connector.commands.Command`."""
    add(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="output file, or - for JSONL on stdout")
    parser.add_argument("--ledger", metavar="PATH", help="where replies are kept (default: OUT.ledger)")
    parser.add_argument("--retry-failed", action="store_true", help="call again for rows whose reply was no success")
    parser.add_argument(
        "--dead-letter",
        metavar="PATH",
        help="a file for the failed rows as they were, with what went wrong; it can be the INPUT of another run",
    )
    parser.add_argument(
        "--csv-safe",
        action="store_true",
        help="in a CSV output, put ' before cells that a spreadsheet would take for formulas",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any row failed")
    parser.add_argument("-q", "--quiet", action="store_true", help="no live line and no summary")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = config_of(arguments)
    if arguments.ledger:
        config = config.model_copy(update={"cache": arguments.ledger})
    beside = None if arguments.output == STANDARD else Path(arguments.output)
    path = ledger_path(config, beside)
    _differ(arguments.output, arguments.dead_letter, path)
    given, stop = store_of(arguments.input), Stop()
    with ExitStack() as stack:
        source = stack.enter_context(stores.load(given.type).source(given, limit=arguments.limit))
        plan = Plan(config, source.columns or None)
        sink = stack.enter_context(_sink(arguments.output, plan.added, source, csv_safe=arguments.csv_safe))
        dead = stack.enter_context(_sink(arguments.dead_letter, _FAILED, source)) if arguments.dead_letter else None
        stack.enter_context(interruptible(stop))
        runtime = Runtime(plan, path, stop=stop)
        live = sys.stderr.isatty() and not arguments.quiet
        progress = Progress(runtime.control, runtime.budget, sys.stderr, rows=source.rows, live=live)
        failed = FailedRows()
        try:
            with runtime, closing(runtime.run(source.read(), retry_failed=arguments.retry_failed)) as results:
                _write(progress.watched(results), sink, dead, failed, config.on_error)
            if dead is not None:
                dead.commit()
            sink.commit()
        except (FatalError, Interrupted):
            _tell(progress.summary())
            if path is not None and path.exists():
                _tell(f"the answers so far are in {path}: run the same command again to go on from there")
            raise
        finally:
            progress.close()
    if not arguments.quiet:
        _tell(progress.summary())
        _tell(f"written to {arguments.output}" if beside else "written to standard output")
        if dead is not None:
            _tell(f"failed rows, written to {arguments.dead_letter}: {progress.failed:,}")
    is_failed = failed.fail_the_run or (arguments.strict and progress.failed > 0)
    return ExitCode.FAILED_ROWS if is_failed else ExitCode.DONE


_FAILED: Mapping[str, Schema] = {DEAD_LETTER: {"type": "object", "properties": dict(SCHEMA)}}


def _differ(*paths: str | Path | None) -> None:
    """Output, dead letter and ledger each have a file of their own: the last to be written would be all there is."""
    named = [os.path.realpath(path) for path in paths if path is not None]
    for path in {path for path in named if named.count(path) > 1}:
        raise ConfigError(f"{path}: output, dead letter and ledger must not be the same file. Name another one.")


def _sink(
    path: str, added: Mapping[str, Schema], source: Source, *, csv_safe: bool = False
) -> AbstractContextManager[Sink]:
    options: Any = store_of(path)
    if csv_safe and options.type == "files":
        options = options.model_copy(update={"csv_safe": True})
    return stores.load(options.type).sink(options, added, source=source)


def _write(results: Iterator[Result], sink: Sink, dead: Sink | None, failed: FailedRows, policy: Policy) -> None:
    for result in results:
        if isinstance(result, Outcome):
            is_kept = failed.keeps(result, policy)
            sink.write(result.record, {**result.columns, **result.group} if is_kept else None)
            if dead is not None:
                is_success = result.status is Status.SUCCESS
                dead.write(result.record, None if is_success else {DEAD_LETTER: as_column(result.provenance)})
        elif result is IDLE:
            sink.flush()


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
