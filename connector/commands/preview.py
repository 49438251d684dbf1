"""Show the requests for the first rows without sending them; with --call, also the replies and columns.

Example:
    openai-compatible preview reviews.csv --prompt "Classify: {{ review }}"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import orjson

from connector import stores
from connector.base import numbers
from connector.base.errors import TemplateError
from connector.base.masking import Masker
from connector.base.price_list import EXTRA
from connector.base.records import Outcome, Record
from connector.base.terminal import write
from connector.commands import ExitCode
from connector.commands._options import add_arguments, config_from, input_from
from connector.commands._types import count
from connector.parser import Parser
from connector.run.plan import Plan
from connector.run.runtime import Runtime, ledger_path

_ROWS: Final = 5
_HOUR: Final = 3600


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s INPUT... [options]"
    add_arguments(parser)
    ways = parser.group("run")
    ways.add_argument("--rows", type=count, default=_ROWS, metavar="N", help=f"how many rows to show (default {_ROWS})")
    ways.add_argument("--call", action="store_true", help="call the endpoint for these rows, which costs money")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = config_from(arguments)
    options = input_from(arguments, on_bad_input=config.on_bad_input)
    with stores.load(options.type).source(options, limit=arguments.limit) as source:
        plan = Plan(config, source.columns or None)
        records = list(islice((item for item in source.read() if isinstance(item, Record)), arguments.rows))
        for record in records:
            _show(f"row {record.index + 1}: request to {Masker(plan.config.secrets)(plan.url)}", _request(plan, record))
        if arguments.call:
            _call(plan, records, source.rows)
    return ExitCode.DONE


def _request(plan: Plan, record: Record) -> Any:
    try:
        return numbers.loads(plan.requests.body(record.data))
    except TemplateError as error:
        return f"cannot be rendered: {error.message}"


def _call(plan: Plan, records: list[Record], rows: int | None) -> None:
    """Calls for the rows, shows the replies and columns, and projects tokens, cost and time for the whole table."""
    with Runtime(plan, ledger_path(plan.config)) as runtime:
        outcomes = sorted(
            (item for item in runtime.run(records) if isinstance(item, Outcome)), key=lambda each: each.record.index
        )
        for outcome in outcomes:
            row = f"row {outcome.record.index + 1}"
            for reply in runtime.ledger.get([bytes.fromhex(outcome.provenance.prompt_hash or "")]).values():
                _show(f"{row}: reply", reply.body)
            _show(f"{row}: {outcome.status}", {**outcome.columns, **outcome.group})
    for line in _projection(outcomes, plan, rows):
        write(sys.stdout, line + "\n")


def _projection(outcomes: list[Outcome], plan: Plan, rows: int | None) -> Iterator[str]:
    """Yields lines on what the whole table would take if its rows are like these."""
    known = [outcome.provenance for outcome in outcomes if outcome.provenance.latency_ms is not None]
    if not known or rows is None:
        return
    yield f"for all {rows:,} rows, if they are like these {len(known)}:"
    for label, counts in (
        ("input tokens", [each.input_tokens for each in known]),
        ("output tokens", [each.output_tokens for each in known]),
    ):
        mean = _mean(counts)
        yield f"  {label}: " + ("unknown" if mean is None else f"{mean * rows:,.0f}")
    cost = _mean([each.cost_usd for each in known])
    yield "  cost: " + (f"unknown (set prices, or {EXTRA})" if cost is None else f"${cost * rows:,.4f}")
    seconds = (_mean([each.latency_ms for each in known]) or 0) / 1000 * rows / plan.config.concurrency
    if plan.config.max_requests_per_minute:
        seconds = max(seconds, rows / plan.config.max_requests_per_minute * 60)
    yield f"  time at {plan.config.concurrency} calls in flight: " + _time(seconds)


def _mean(numbers: Iterable[float | None]) -> float | None:
    values = [number for number in numbers if number is not None]
    return sum(values) / len(values) if values else None


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < _HOUR else f"{seconds / _HOUR:,.1f} h"


def _show(title: str, value: Any) -> None:
    write(sys.stdout, f"── {title}\n{numbers.dumps(value, option=orjson.OPT_INDENT_2).decode()}\n")
