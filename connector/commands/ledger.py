"""Look into a ledger: what it holds (stats), what may go (prune), and all replies as JSON lines (export)."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from connector import ledger as ledgers
from connector.base.cost import cost_of
from connector.base.errors import ConfigError, StorageError
from connector.commands import ExitCode
from connector.endpoints import usage_of
from connector.ledger import Entry, Ledger

_DAY: Final = 86_400
_UNIT: Final = 1000
_UNITS: Final = ("bytes", "kB", "MB", "GB")


def arguments(parser: argparse.ArgumentParser) -> None:
    """See `connector.commands.Command`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = actions.add_parser("stats", help="how many replies there are, of when, and what they cost")
    prune = actions.add_parser("prune", help="delete replies and give their space back; their rows are paid for again")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="those that were stored so long ago")
    prune.add_argument("--failed", action="store_true", help="those that are refusals (an HTTP status other than 2xx)")
    export = actions.add_parser("export", help="all replies as JSON lines on stdout, in the order of their storing")
    export.add_argument("--no-body", action="store_true", help="leave the replies' bodies out")
    for action in (stats, prune, export):
        action.add_argument("path", metavar="PATH", type=Path, help="the ledger, as OUT.ledger beside an output")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    actions: dict[str, Callable[[Ledger, argparse.Namespace], None]] = {
        "stats": _stats,
        "prune": _prune,
        "export": _export,
    }
    if arguments.action == "prune" and arguments.older_than is None and not arguments.failed:
        raise ConfigError("say what to prune: --older-than DAYS, --failed, or both")
    with _opened(arguments.path) as ledger:
        actions[arguments.action](ledger, arguments)
    return ExitCode.DONE


@contextmanager
def _opened(path: Path) -> Iterator[Ledger]:
    """Opens a ledger that is there, whole, and in nobody's use.

    Raises:
        ConfigError: There is no such file, it is no ledger, or a run has it.
        StorageError: It is damaged, or cannot be written.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file. A run's ledger is OUT.ledger beside its output OUT.")
    _look(path)

    def refuse() -> None:
        raise ConfigError(_IN_USE.format(path))

    with ledgers.load(path).opened(path, refuse) as ledger:
        if ledger.was_set_aside is not None:
            raise StorageError(f"{path}: the ledger was damaged: what is left of it is kept as {ledger.was_set_aside}")
        yield ledger


_IN_USE: Final = "{}: a run uses this ledger. Wait for its end, or stop it (Ctrl-C keeps what it has), and try again."


def _look(path: Path) -> None:
    """Looks at a file before it is opened as a ledger: a run may set a damaged one aside, whoever looks may not."""
    try:
        if not path.stat().st_size:
            raise ConfigError(f"{path}: this is not a ledger: it is empty.")
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        code = error.sqlite_errorcode & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ConfigError(_IN_USE.format(path)) from None
        if code == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path}: this is not a ledger, or its beginning is damaged.") from None
        raise StorageError(
            f"{path}: this ledger cannot be read ({error}). It is left as it is; the next run that uses it sets it "
            "aside if it is damaged.",
            detail=repr(error),
        ) from None


def _stats(ledger: Ledger, arguments: argparse.Namespace) -> None:
    stats = ledger.stats()
    counted, tokens_in, tokens_out, priced, cost = 0, 0, 0, 0, 0.0
    for entry in ledger.entries():
        usage = usage_of(entry.reply.body)
        if usage.input_tokens is not None or usage.output_tokens is not None:
            counted += 1
            tokens_in += usage.input_tokens or 0
            tokens_out += usage.output_tokens or 0
        paid = cost_of(entry.reply, usage, None)
        if paid is not None:
            priced += 1
            cost += paid
    _say("ledger", str(arguments.path))
    _say("entries", f"{stats.entries:,}")
    _say("size", _size(stats.bytes))
    for status, count in sorted(stats.statuses.items()):
        _say(f"status {status}", f"{count:,}")
    _say("tokens", f"{tokens_in:,} in, {tokens_out:,} out (told by {counted:,} replies)" if counted else "not told")
    _say("cost", f"${cost:,.6f} (told by {priced:,} replies)" if priced else "not told")
    _say("oldest", _moment(stats.oldest) or "none")
    _say("newest", _moment(stats.newest) or "none")


def _prune(ledger: Ledger, arguments: argparse.Namespace) -> None:
    before = None if arguments.older_than is None else int(time.time() - arguments.older_than * _DAY)
    size = ledger.stats().bytes
    gone = ledger.prune(before=before, failed=arguments.failed)
    left = ledger.stats()
    _say("deleted", f"{gone:,} entries ({_size(size - left.bytes)} given back)")
    _say("left", f"{left.entries:,} entries ({_size(left.bytes)})")


def _export(ledger: Ledger, arguments: argparse.Namespace) -> None:
    for entry in ledger.entries():
        line = _line(entry)
        if arguments.no_body:
            del line["body"]
        sys.stdout.buffer.write(_encoded(line))
    sys.stdout.buffer.flush()


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key.hex(),
        "status": entry.reply.status,
        "stored_at": _moment(entry.stored_at),
        "usage": usage_of(entry.reply.body)._asdict(),
        "body": entry.reply.body,
    }


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _say(name: str, value: str) -> None:
    sys.stdout.write(f"{name:<12}{value}\n")


def _size(size: float) -> str:
    """Bytes as people read them."""
    for unit in _UNITS[:-1]:
        if size < _UNIT:
            return f"{size:,.0f} {unit}" if unit == _UNITS[0] else f"{size:,.1f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} {_UNITS[-1]}"


def _moment(seconds: int | None) -> str | None:
    """An epoch second as ISO 8601 text, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
