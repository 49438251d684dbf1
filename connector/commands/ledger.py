"""Look into a ledger: count its replies (stats), delete some (prune), or print them as JSON lines (export).

Example:
    openai-compatible ledger stats labelled.csv.ledger
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from connector.base.amounts import counted, dollars, size
from connector.base.clock import moment
from connector.base.cost import cost_of
from connector.base.errors import ConfigError
from connector.base.records import Record, Status, is_ok
from connector.base.terminal import data_writer, write, write_lines
from connector.base.vectors import opened
from connector.commands import ExitCode
from connector.commands._ledger_file import open_ledger
from connector.commands._options import add_column, add_config, schema_from
from connector.commands._types import days, ledger_place
from connector.config.config import Config
from connector.endpoints import usage_of
from connector.ledger import Entry, Ledger
from connector.parser import Parser
from connector.run.plan import Plan

_ACTIONS: Final = {
    "stats": "show how many replies there are, how old they are, and what they cost",
    "prune": "delete replies and free their space; their rows are paid for again",
    "export": "print all replies as JSON lines on stdout, oldest first",
}
_PROMPT: Final = "ping"  # no request is made
_NO_ROW: Final = Record(0, {})  # what a reply is worth does not depend on its row
_DAY: Final = 86_400


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    stats, prune, export = (
        actions.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        for name, about in _ACTIONS.items()
    )
    prune.add_argument(
        "--older-than", type=days, metavar="DAYS", help="delete replies that are older than this many days"
    )
    prune.add_argument(
        "--failed",
        action="store_true",
        help="delete what --retry-failed would call again: with the config of the run, exactly that; without it, only "
        "what the endpoint refused",
    )
    add_column(prune)
    for action in (stats, prune):
        add_config(action)
    export.add_argument("--no-body", action="store_true", help="leave out the bodies of the replies")
    for action in (stats, prune, export):
        action.add_argument(
            "path",
            metavar="PATH",
            type=ledger_place,
            help="the ledger, such as OUT.ledger beside an output, or the URL of a shared one",
        )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    actions: dict[str, Callable[[Ledger, argparse.Namespace, Plan | None], None]] = {
        "stats": _stats,
        "prune": _prune,
        "export": _export,
    }
    if arguments.action == "prune" and arguments.older_than is None and not arguments.failed:
        raise ConfigError("nothing to prune: give --older-than DAYS, --failed, or both")
    plan = _plan(arguments)
    with open_ledger(arguments.path) as ledger:
        actions[arguments.action](ledger, arguments, plan)
    return ExitCode.DONE


def _plan(arguments: argparse.Namespace) -> Plan | None:
    """Returns what says what the replies are worth and cost, if the config of the run is given, or its columns."""
    columns = getattr(arguments, "column", None)
    if arguments.config is None and not columns:
        return None
    config = Config.load(arguments.config, **({"output_schema": schema_from(columns)} if columns else {}))
    if config.request_format is None and config.prompt is None:  # the run had it from the command line
        config = config.model_copy(update={"prompt": _PROMPT})
    return Plan(config.model_copy(update={"image_dir": None}))  # no image is written to judge its reply


def _stats(ledger: Ledger, arguments: argparse.Namespace, plan: Plan | None) -> None:
    stats, pricing = ledger.stats(), None if plan is None else plan.pricing
    told, tokens_in, tokens_out, priced, cost = 0, 0, 0, 0, 0.0
    for entry in ledger.entries():
        usage = usage_of(entry.reply.body)
        if usage.input_tokens is not None or usage.output_tokens is not None:
            told += 1
            tokens_in += usage.input_tokens or 0
            tokens_out += usage.output_tokens or 0
        paid = cost_of(entry.reply, usage, pricing)
        if paid is not None:
            priced += 1
            cost += paid
    _print("ledger", str(arguments.path))
    _print("entries", f"{stats.entries:,}")
    _print("size", size(stats.bytes))
    for status, count in sorted(stats.statuses.items()):
        _print(f"status {status}", f"{count:,}")
    replies = counted(told, "reply", "replies")
    _print("tokens", f"{tokens_in:,} in, {tokens_out:,} out (from {replies})" if told else "unknown")
    how = "" if plan else ": give the --config of the run, whose prices or endpoint tell it"
    source = pricing.source if pricing else ""
    paid_for = f"{dollars(cost)} (from {counted(priced, 'reply', 'replies')}{source and f', {source}'})"
    _print("cost", paid_for if priced else f"unknown{how if stats.entries else ''}")
    _print("oldest", moment(stats.oldest) or "none")
    _print("newest", moment(stats.newest) or "none")


def _prune(ledger: Ledger, arguments: argparse.Namespace, plan: Plan | None) -> None:
    before = None if arguments.older_than is None else int(time.time() - arguments.older_than * _DAY)
    before_it = ledger.stats().bytes
    keys = [entry.key for entry in ledger.entries() if _is_failed(entry, plan)] if arguments.failed else []
    gone = ledger.prune(before, keys)
    left = ledger.stats()
    _print("deleted", f"{counted(gone, 'entry', 'entries')} ({size(max(0, before_it - left.bytes))} freed)")
    _print("left", f"{counted(left.entries, 'entry', 'entries')} ({size(left.bytes)})")
    if arguments.failed and plan is None:
        write(
            sys.stderr, "answers that only the config of the run finds wrong are kept: give its --config or --column\n"
        )


def _is_failed(entry: Entry, plan: Plan | None) -> bool:
    """Returns whether `enrich --retry-failed` would call again for a reply."""
    if plan is None:
        return not is_ok(entry.reply.status)
    return plan.outcomes.of(_NO_ROW, entry.reply, entry.key).status is not Status.SUCCESS


def _export(ledger: Ledger, arguments: argparse.Namespace, plan: Plan | None) -> None:  # noqa: ARG001 - as the others
    put = data_writer(sys.stdout.buffer)
    for entry in ledger.entries():
        line = _line(entry)
        if arguments.no_body:
            del line["body"]
        put(_encoded(line))
    sys.stdout.buffer.flush()


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key.hex(),
        "status": entry.reply.status,
        "stored_at": moment(entry.stored_at),
        "usage": usage_of(entry.reply.body)._asdict(),
        "body": opened(entry.reply.body),
    }


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _print(name: str, value: str) -> None:
    write_lines(sys.stdout, [f"{name:<12}{value}"])
