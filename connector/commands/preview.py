"""Show the requests for a few rows without sending them; with --call, also the replies and columns.

Example:
    openai-compatible preview reviews.csv --prompt "Classify: {{ review }}"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from connector import stores
from connector.base import numbers
from connector.base.amounts import counted, dollars, duration
from connector.base.cost import BATCH_TIER
from connector.base.errors import TemplateError
from connector.base.masking import Masker
from connector.base.price_list import EXTRA
from connector.base.records import Outcome, Part, Provenance, Record, Usage
from connector.base.terminal import one_line, write, write_lines
from connector.base.vectors import opened
from connector.commands import ExitCode
from connector.commands._options import add_arguments, config_from, input_from
from connector.commands._screen import common, screen
from connector.commands._types import count
from connector.parser import Parser
from connector.run.causes import place_of
from connector.run.forecast import mean
from connector.run.plan import Plan
from connector.run.runtime import Runtime, preview_ledger
from connector.run.sampling import candidates, sample
from connector.stores.formats import parts_of

_ROWS: Final = 5
_REPLY: Final = 0.6  # of the screen that a row may take, beside its columns


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s INPUT... [options]"
    add_arguments(parser)
    ways = parser.group("run")
    ways.add_argument(
        "--rows", type=count, default=_ROWS, metavar="N", help=f"how many rows to show (default: {_ROWS})"
    )
    ways.add_argument(
        "--sample",
        choices=("random", "head"),
        help="which rows: random ones, or the first (default: random; for a stream, which may not end, head)",
    )
    ways.add_argument("--seed", type=count, default=0, metavar="N", help="the seed of the random rows (default: 0)")
    ways.add_argument("--full", action="store_true", help="show all of each request and reply, however long it is")
    ways.add_argument("--call", action="store_true", help="call the endpoint for these rows, which costs money")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = config_from(arguments)
    options = input_from(arguments, config)
    with stores.load(options.type).source(options, limit=arguments.limit) as source:
        plan = Plan(config, source.columns or None)
        found, rows = candidates(source.read(), plan), source.rows
        if (arguments.sample or ("random" if source.columns else "head")) == "random":
            records, rows = sample(found, arguments.rows, arguments.seed)
        else:
            records = list(islice(found, arguments.rows))
        _show_requests(plan, records, parts_of(source), whole=arguments.full)
        if arguments.call and records:
            _call(plan, records, rows, parts_of(source), whole=arguments.full)
    return ExitCode.DONE


def _show_requests(plan: Plan, records: list[Record], parts: Sequence[Part], *, whole: bool) -> None:
    """Shows what all requests share once (a schema may be long), then what is each row's own."""
    requests = [(record, _request(plan, record)) for record in records]
    shared = common([request for _, request in requests if isinstance(request, dict)])
    url = Masker(plan.config.secrets)(plan.url)
    if shared:
        _show(f"every request to {url}", shared, whole=whole)
    for record, request in requests:
        own = request
        if isinstance(request, dict):
            own = {name: value for name, value in request.items() if name not in shared} or request
        _show(f"{_named(record, parts)}: request" + ("" if shared else f" to {url}"), own, whole=whole)
    if not requests:
        write(sys.stdout, "there is no row to call for: the input is empty, or where is true for none of its rows\n")


def _named(record: Record, parts: Sequence[Part]) -> str:
    """Returns what a row is called: its number, in its file where the input is several."""
    place = place_of(record.index + 1, parts)
    return place if parts else f"row {place}"


def _request(plan: Plan, record: Record) -> Any:
    try:
        return numbers.loads(plan.requests.call(record).body)
    except TemplateError as error:
        return f"cannot be rendered: {error.message}"


def _call(plan: Plan, records: list[Record], rows: int | None, parts: Sequence[Part], *, whole: bool) -> None:
    """Calls for the rows, shows the replies and columns, and projects tokens, cost and time for the whole table."""
    with Runtime(plan, preview_ledger(plan.config), is_live=True) as runtime:
        outcomes = sorted(
            (item for item in runtime.run(records) if isinstance(item, Outcome)), key=lambda each: each.record.index
        )
        for outcome in outcomes:
            row = _named(outcome.record, parts)
            for reply in runtime.ledger.get([bytes.fromhex(outcome.provenance.prompt_hash or "")]).known.values():
                _show(f"{row}: reply", opened(reply.body), whole=whole, share=_REPLY)
            _show(f"{row}: {outcome.status}", {**outcome.columns, **outcome.group}, whole=whole, share=1 - _REPLY)
    write_lines(sys.stdout, _projection(outcomes, plan, rows))


def _projection(outcomes: list[Outcome], plan: Plan, rows: int | None) -> Iterator[str]:
    """Yields lines on what the whole table would take if its rows are like these."""
    known = [outcome.provenance for outcome in outcomes if outcome.provenance.latency_ms is not None]
    if not known or rows is None:
        return
    yield f"for all {counted(rows, 'row')}, if they are like these {len(known)}:"
    for label, counts in (
        ("input tokens", [each.input_tokens for each in known]),
        ("output tokens", [each.output_tokens for each in known]),
    ):
        each = mean(counts)
        yield f"  {label}: " + ("unknown" if each is None else f"{each * rows:,.0f}")
    cost = mean([each.cost_usd for each in known])
    batched = mean(plan.pricing.cost(_usage(each), each.model, BATCH_TIER) for each in known)
    in_batches = f"; with --batch: {dollars(batched * rows)}" if batched and plan.endpoint.IN_BATCHES else ""
    yield "  cost: " + (f"unknown (set prices, or {EXTRA})" if cost is None else dollars(cost * rows) + in_batches)
    seconds = (mean([each.latency_ms for each in known]) or 0) / 1000 * rows / plan.config.concurrency
    if plan.config.max_requests_per_minute:
        seconds = max(seconds, rows / plan.config.max_requests_per_minute * 60)
    yield f"  time at {plan.config.concurrency} calls in flight: " + duration(seconds)


def _usage(known: Provenance) -> Usage:
    return Usage(known.input_tokens, known.output_tokens, known.cached_tokens, known.reasoning_tokens)


def _show(title: str, value: Any, *, whole: bool, share: float = 1) -> None:
    write(sys.stdout, f"── {one_line(title)}\n{screen(value, whole=whole, share=share)}\n")
