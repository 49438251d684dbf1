r"""Enrich a table: call the endpoint for each row, and write the rows with their new columns.

Example:
    openai-compatible enrich reviews.csv --output labelled.csv \
      --prompt "Classify: {{ review }}" --column "label=good|bad"
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from connector import stores
from connector.base.amounts import counted
from connector.base.errors import ConfigError, ConnectorError, FatalError, Interrupted
from connector.base.records import IDLE, Outcome, Result, Schema
from connector.base.stop import Stop
from connector.base.terminal import is_terminal, write_lines
from connector.commands import ExitCode, _databases
from connector.commands._beforehand import check_rows, dry_run, remembering
from connector.commands._ledger_file import run_ledger
from connector.commands._options import STANDARD, add_arguments, check_output, config_from, input_from, store_from
from connector.commands._types import new_file_path, new_ledger, percent
from connector.ledger import Location, Url, location_of
from connector.parser import Parser
from connector.run.in_place import Due
from connector.run.on_error import FailedRows, Policy
from connector.run.plan import Plan
from connector.run.progress import Progress
from connector.run.provenance import SCHEMA, as_column
from connector.run.runtime import Runtime
from connector.run.summary import Summary
from connector.signals import interruptible
from connector.stores import DEAD_LETTER, Sink, Source
from connector.stores.formats import parts_of


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s INPUT... -o OUT [options]"
    add_arguments(parser)
    output, ways = parser.group("output"), parser.group("run")
    out = output.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        type=new_file_path,
        help="the output file, - for JSONL on stdout, or the URL of a database",
    )
    _databases.add_output(parser, out)
    ways.add_argument(
        "--ledger",
        type=new_ledger,
        metavar="PATH",
        help="the file that keeps every reply, so that none is paid for twice, or the URL of a shared ledger (default: "
        "OUT.ledger)",
    )
    ways.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the run would call and cost, without calling or writing anything",
    )
    ways.add_argument(
        "--max-template-error-percent",
        type=percent,
        metavar="P",
        help="stop before the first call if a template fails on more than P %% of the rows (default: 1)",
    )
    ways.add_argument("--retry-failed", action="store_true", help="call again for rows that failed in an earlier run")
    output.add_argument(
        "--dead-letter",
        type=new_file_path,
        metavar="PATH",
        help="write the failed rows, unchanged, with their errors to this file; it can be the INPUT of another run",
    )
    output.add_argument(
        "--csv-safe",
        action="store_true",
        help="in a CSV output, put ' before cells that a spreadsheet would run as formulas",
    )
    output.add_argument(
        "--report",
        type=new_file_path,
        metavar="PATH",
        help="write a report of the run to this file: a page (.html) or the figures alone (.json)",
    )
    ways.add_argument("--strict", action="store_true", help="exit with code 1 if any row failed")
    output.add_argument("-q", "--quiet", action="store_true", help="print no progress and no summary, only errors")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    _databases.settle(arguments)
    config = config_from(arguments)
    _check_outputs(arguments)
    is_database = _databases.is_database(arguments.output)
    named = arguments.table_out if is_database else arguments.output
    beside = None if named in (None, STANDARD) else Path(named)
    config, path, earlier = run_ledger(config, arguments.ledger, beside)
    _differ(
        getattr(arguments, "config", None),
        arguments.output,
        arguments.dead_letter,
        path if isinstance(path, Path) else None,
        arguments.report,
    )
    recorder: Any = import_module("connector.report.recorder") if arguments.report else None  # most runs have none
    render = recorder.renderer(arguments.report) if recorder else None
    given, stop = (
        input_from(arguments, config),
        Stop(),
    )
    with ExitStack() as stack:
        source = stack.enter_context(stores.load(given.type).source(given, limit=arguments.limit))
        if arguments.into is not None:
            source = Due(source, Plan(config))
        plan = Plan(config, source.columns or None)
        stack.enter_context(interruptible(stop))
        if arguments.dry_run:
            if arguments.report:
                _print_stderr("no report is written: a dry run makes no call")
            return dry_run(source, plan, path, earlier, stop, retry_failed=arguments.retry_failed)
        sink = stack.enter_context(
            _databases.sink(arguments, config, plan.added, source)
            if is_database
            else _sink(arguments.output, plan.added, source, csv_safe=arguments.csv_safe)
        )
        dead = stack.enter_context(_sink(arguments.dead_letter, _FAILED, source)) if arguments.dead_letter else None
        rows = check_rows(source, plan, stop, quiet=arguments.quiet)
        progress = stack.enter_context(Progress(live=is_terminal(sys.stderr), quiet=arguments.quiet))
        runtime = Runtime(
            plan,
            path,
            stop=stop,
            summary=Summary(parts=parts_of(source)),
            waiting=progress.ledger_is_busy(),
            remembering=remembering(earlier, quiet=arguments.quiet),
        )
        report: Any = None
        if recorder is not None:
            recorder.require_apart(arguments.report, source)
            report = stack.enter_context(
                recorder.Recorder(
                    arguments.report,
                    render,
                    plan,
                    runtime,
                    source=", ".join(map(_databases.without_login, arguments.inputs)),
                    output=_place(arguments),
                )
            )
        failed = FailedRows()
        try:
            with (
                runtime,
                _explained(runtime),
                closing(runtime.run(source.read(), retry_failed=arguments.retry_failed)) as results,
            ):
                passing = progress.watched(results, runtime, rows)
                _write(report.watched(passing) if report else passing, sink, dead, failed, config.on_error)
            progress.says("writing the output")
            if dead is not None:
                dead.commit()
            sink.commit()
        except (ConfigError, FatalError, Interrupted) as error:  # also an input that proves wrong amid the run
            if runtime.summary:
                _print_stderr(*runtime.summary.lines())
            if path is not None and runtime.has_kept and _is_there(path):
                _print_stderr(f"the replies so far are in {path}: {_going_on(error)}")
            raise
    is_failed = (
        failed.fail_the_run or runtime.summary.nothing_answered or (arguments.strict and runtime.summary.failed > 0)
    )
    if not arguments.quiet:
        _tell_end(arguments, runtime.summary)
    elif is_failed:  # no exit code without its reason
        _print_stderr(*runtime.summary.failures())
    return ExitCode.FAILED_ROWS if is_failed else ExitCode.DONE


@contextmanager
def _explained(runtime: Runtime) -> Iterator[None]:
    """Adds a diagnosis to the error that ends a run; what makes one is loaded only then."""
    try:
        yield
    except ConnectorError:
        with import_module("connector.check").explaining(runtime):
            raise


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raises `ConfigError` if an option for a file to write names none."""
    for option in ("output", "dead_letter", "report"):
        check_output(f"--{option.replace('_', '-')}", getattr(arguments, option))
    if not (arguments.ledger and isinstance(location_of(arguments.ledger), Url)):
        check_output("--ledger", arguments.ledger)


def _place(arguments: argparse.Namespace) -> str:
    """Returns where the rows go: a file, or a table and its database."""
    place = _databases.without_login(arguments.output)
    return f"{arguments.table_out} in {place}" if arguments.table_out else place


def _tell_end(arguments: argparse.Namespace, summary: Summary) -> None:
    """Says what a run came to, and where its rows are."""
    _print_stderr(*summary.lines())
    if summary.nothing_answered:
        _print_stderr("`openai-compatible check`, with the same options, says what is wrong and what to change")
    _print_stderr(f"written to {'standard output' if arguments.output == STANDARD else _place(arguments)}")
    if arguments.dead_letter:
        _print_stderr(f"{counted(summary.failed, 'failed row')} written to {arguments.dead_letter}")
    if arguments.report:
        _print_stderr(f"report written to {arguments.report}")


def _is_there(ledger: Location) -> bool:
    return not isinstance(ledger, Path) or ledger.exists()


def _going_on(error: BaseException) -> str:
    """Returns what becomes of the replies of a stopped run. What stopped it says itself what to change, if anything."""
    if isinstance(error, Interrupted):
        return "run the same command again to continue from there"
    return "none of them is paid for again"


_FAILED: Mapping[str, Schema] = {DEAD_LETTER: {"type": "object", "properties": dict(SCHEMA)}}


def _differ(*paths: str | Path | None) -> None:
    """Raises `ConfigError` if files of a run are the same one, as its config and its output: one would be lost."""
    named = [os.path.realpath(path) for path in paths if path is not None]
    for path in {path for path in named if named.count(path) > 1}:
        raise ConfigError(
            f"{path}: config, output, dead letter, ledger and report cannot be the same file: name another one"
        )


def _sink(
    path: str, added: Mapping[str, Schema], source: Source, *, csv_safe: bool = False
) -> AbstractContextManager[Sink]:
    options: Any = store_from(path)
    if csv_safe and options.type == "files":
        options = options.model_copy(update={"csv_safe": True})
    return stores.load(options.type).sink(options, added, source=source)


def _write(results: Iterator[Result], sink: Sink, dead: Sink | None, failed: FailedRows, policy: Policy) -> None:
    for result in results:
        if isinstance(result, Outcome):
            is_kept = failed.keeps(result, policy)
            sink.write(result.record, {**result.columns, **result.group} if is_kept else None)
            if dead is not None:
                reason = {DEAD_LETTER: as_column(result.provenance)} if result.status.is_failure else None
                dead.write(result.record, reason)
        elif result is IDLE:
            sink.flush()


def _print_stderr(*lines: str) -> None:
    write_lines(sys.stderr, lines)
