"""Manage batches at the endpoint: list them, show, cancel or forget one, or fetch its answers.

Example:
    openai-compatible batch list --config c.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, cast

from connector import endpoints
from connector import ledger as ledgers
from connector.base.amounts import counted
from connector.base.clock import Clock, moment
from connector.base.errors import ConfigError, ConnectorError, NotFoundError
from connector.base.masking import Masker
from connector.base.spool import explained
from connector.base.terminal import aligned, data_writer, write, write_lines
from connector.calls.batch_api import Batch, HttpBatchAPI
from connector.calls.batch_lines import Reader, store
from connector.commands import ExitCode
from connector.commands._ledger_file import is_there, open_ledger
from connector.commands._options import add_config, add_endpoint, endpoint_from
from connector.commands._types import count, ledger_place, new_file_path
from connector.config.config import Config
from connector.engines.batch import forget
from connector.parser import Parser
from connector.run.batches import api_of
from connector.run.runtime import settings_of

_ACTIONS: Final = {
    "list": "list the batches of the account, the newest first",
    "show": "show one batch: its state, how far it is, and what is wrong",
    "cancel": "cancel batches; what is finished by then is kept, and paid for",
    "forget": "give up batches that the endpoint has lost: the next run asks for their rows again",
    "fetch": "fetch the answers of a batch, as JSON lines or into the ledger of a run",
}
_LISTED: Final = 20
_PIECE: Final = 1 << 20


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, about in _ACTIONS.items():
        action = actions.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_config(action.group("endpoint"))
        add_endpoint(action, model=False)
        if name == "list":
            action.add_argument(
                "--limit", type=count, default=_LISTED, metavar="N", help=f"how many, at most (default {_LISTED})"
            )
        else:
            action.add_argument(
                "ids", metavar="ID", nargs="+" if name in ("cancel", "forget") else 1, help="the ID of a batch"
            )
        if name in ("list", "show"):
            action.add_argument(
                "--format", dest="form", choices=["table", "json"], default="table", help="how to print it"
            )
        if name == "forget":
            action.add_argument(
                "--ledger", type=ledger_place, metavar="PATH", help="the ledger of the run that submitted them"
            )
        if name == "fetch":
            action.add_argument(
                "-o",
                "--output",
                type=new_file_path,
                metavar="OUT",
                help="the file for the answers as JSON lines, failed ones last (default: standard output)",
            )
            action.add_argument(
                "--ledger",
                type=ledger_place,
                metavar="PATH",
                help="the ledger of the run that submitted it, or a new one: the next run finds the replies there",
            )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    config = Config.load(arguments.config, **endpoint_from(arguments))
    mask, clock = Masker(config.secrets), Clock()
    actions: dict[str, Callable[..., None]] = {
        "list": _list,
        "show": _show,
        "cancel": _cancel,
        "forget": _forget,
        "fetch": _fetch,
    }
    with closing(api_of(config, settings_of(config, mask, clock), mask, clock)) as api:
        actions[arguments.action](api, arguments, config, mask)
    return ExitCode.DONE


def _list(api: HttpBatchAPI, arguments: argparse.Namespace, *_: object) -> None:
    batches = list(islice(api.listed(), arguments.limit))
    if arguments.form == "json":
        write(sys.stdout, "".join(f"{json.dumps(_as_dict(batch))}\n" for batch in batches))
    else:
        write_lines(sys.stdout, _table(batches))


def _show(api: HttpBatchAPI, arguments: argparse.Namespace, *_: object) -> None:
    batch = _known(api.retrieve, arguments.ids[0])
    if arguments.form == "json":
        write(sys.stdout, f"{json.dumps(_as_dict(batch))}\n")
        return
    told = {
        "batch": batch.id,
        "state": batch.state,
        "requests": f"{batch.completed:,} answered and {batch.failed:,} failed of {batch.total:,}",
        "endpoint": batch.endpoint,
        "made": moment(batch.created) if batch.created else "",
        "wrong": batch.reason,
        "answers": batch.output_file,
        "errors": batch.error_file,
        "metadata": ", ".join(f"{name}: {value}" for name, value in batch.metadata.items()),
    }
    write_lines(sys.stdout, (f"{name:<10}{value}" for name, value in told.items() if value))


def _cancel(api: HttpBatchAPI, arguments: argparse.Namespace, *_: object) -> None:
    for name in arguments.ids:
        try:
            told = _known(api.cancel, name).state
        except ConnectorError as error:
            batch = None if isinstance(error, NotFoundError) else api.retrieve(name)
            if batch is None or not batch.has_ended:
                raise
            told = f"had already ended, as {batch.state}: {batch.completed:,} of {batch.total:,} requests answered"
        write_lines(sys.stdout, [f"{name}: {told}"])


def _forget(_api: HttpBatchAPI, arguments: argparse.Namespace, config: Config, _mask: Masker) -> None:
    place = arguments.ledger or (config.cache and ledgers.location_of(config.cache))
    if not place:
        raise ConfigError("--ledger: name the ledger of the run that submitted them, such as out.parquet.ledger")
    with open_ledger(place) as ledger:
        for name in arguments.ids:
            if not forget(ledger, name):
                raise ConfigError(f"the ledger {place} knows no batch {name}")
            write_lines(sys.stdout, [f"{name}: forgotten"])


def _fetch(api: HttpBatchAPI, arguments: argparse.Namespace, config: Config, mask: Masker) -> None:
    batch = _known(api.retrieve, arguments.ids[0])
    names = [name for name in (batch.output_file, batch.error_file) if name]
    if not names:
        reason = batch.reason or ("it has not ended" if not batch.has_ended else "no request of it was answered")
        raise ConfigError(f"{batch.id} is {batch.state} and has no answers: {reason}")
    with _downloaded(api, batch, names) as file:
        reader = Reader(endpoints.load(config.kind), mask, Clock(), api.max_response_bytes)
        if arguments.ledger is not None:
            place = arguments.ledger  # made again where it was lost: a reply's key is on its line
            with open_ledger(place) if is_there(place) else ledgers.opened(place) as ledger:
                stored = store(batch, reader.lines(file), ledger, reader)
            write_lines(sys.stderr, [f"{counted(stored, 'reply', 'replies')} stored in {arguments.ledger}"])
        elif arguments.output in (None, "-"):
            _print(reader, file, data_writer(sys.stdout.buffer))
        else:
            with Path(arguments.output).open("wb") as output:
                _print(reader, file, output.write)


def _print(reader: Reader, file: BinaryIO, write: Callable[[bytes], object]) -> None:
    for line in reader.lines(file):
        write(reader.masked(line))
        write(b"\n")


def _known(ask: Callable[[str], Batch], name: str) -> Batch:
    """Asks about a batch by its ID. A 404 is about that ID here, and not about the URL or the model."""
    try:
        return ask(name)
    except NotFoundError as error:
        raise NotFoundError(
            f"the endpoint has no batch {name}: `batch list` shows those that it has",
            detail=error.detail or error.message,
            http_status=error.http_status,
        ) from None


def _downloaded(api: HttpBatchAPI, batch: Batch, names: list[str]) -> BinaryIO:
    """Returns the lines of some files of a batch, one file after the other."""
    with explained():
        file = cast("BinaryIO", TemporaryFile())  # noqa: SIM115 - whoever asked closes it
        for name in names:
            with TemporaryFile() as part:
                api.download(name, cast("BinaryIO", part), batch.id, batch.total)
                part.seek(0)
                _copy(part, file.write)
        file.seek(0)
    return file


def _copy(source: BinaryIO, write: Callable[[bytes], object]) -> None:
    end = b"\n"
    while piece := source.readline(_PIECE):  # of a line, which may be of any length
        write(piece)
        end = piece[-1:]
    if end != b"\n":
        write(b"\n")


def _table(batches: list[Batch]) -> Iterator[str]:
    """Yields the lines of a table."""
    if not batches:
        yield "there are no batches"
        return
    rows = [("batch", "state", "answered", "failed", "of", "made")]
    rows += [
        (
            batch.id,
            batch.state,
            f"{batch.completed:,}",
            f"{batch.failed:,}",
            f"{batch.total:,}",
            (moment(batch.created) or "") if batch.created else "",
        )
        for batch in batches
    ]
    yield from aligned(rows)


def _as_dict(batch: Batch) -> dict[str, Any]:
    return {
        **batch._asdict(),
        "problems": [problem._asdict() for problem in batch.problems],
        "metadata": dict(batch.metadata),
    }
