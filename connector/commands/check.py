"""Check a config: say what is wrong and what to change; with --capabilities, also what the endpoint can do.

Example:
    openai-compatible check --config config.json --format table
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConfigError, ConnectorError
from connector.base.streams import Diagnosis
from connector.base.terminal import write, write_lines
from connector.check import capabilities, invalid_config
from connector.check.probe import Probe
from connector.commands import ExitCode
from connector.commands._options import add_config, add_endpoint, endpoint_from
from connector.config.config import Config
from connector.connector import Connector
from connector.parser import Parser
from connector.run.requests import check_model
from connector.run.transform import Transform

_WIDEST: Final = 120
_NARROWEST: Final = 60
_PROMPT: Final = "ping"  # sent if the config describes no request yet


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s [options]"
    add_config(parser.group("endpoint"))
    add_endpoint(parser)
    parser.add_argument(
        "--capabilities", action="store_true", help="find out what the endpoint can do, with about ten small requests"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="with --capabilities: send the requests again, even if the results are known",
    )
    parser.add_argument(
        "--format",
        dest="form",
        choices=["table", "json"],
        help="print this, not the platform's message (default on a terminal: table)",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    table, bill = None, ""
    try:
        config = _config(arguments)
        diagnosis = Connector(config).check()
        if diagnosis.ok and arguments.capabilities:
            probe = Probe(Transform(config).plan, Clock())
            table = capabilities.found(probe, _offered(probe), fresh=arguments.fresh)
            bill = probe.bill
    except ConfigError as error:
        diagnosis = invalid_config(error)
    if arguments.form == "json":
        write(sys.stdout, _as_json(diagnosis, table, bill) + "\n")
    else:
        write_lines(sys.stdout, _lines(diagnosis, table, bill))
    return ExitCode.DONE if diagnosis.ok else ExitCode.USAGE


def _config(arguments: argparse.Namespace) -> Config:
    """Returns the config file's config, or one from the command line and the environment, with a sample prompt."""
    given = endpoint_from(arguments) | ({"model": arguments.model} if arguments.model else {})
    if arguments.config is None:
        given["prompt"] = _PROMPT
    config = Config.load(arguments.config, **given)
    if arguments.model:
        check_model(config, "--model")
    return config


def _offered(probe: Probe) -> list[str]:
    try:
        return [each.id for each in probe.models()]
    except ConnectorError:
        return []


def _as_json(diagnosis: Diagnosis, table: capabilities.Table | None, bill: str) -> str:
    content: dict[str, Any] = {"ok": diagnosis.ok, "steps": [step._asdict() for step in diagnosis.steps]}
    if table is not None:
        content |= {"capabilities": [row._asdict() for row in table.rows], "known_since": _date(table), "paid": bill}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _lines(diagnosis: Diagnosis, table: capabilities.Table | None, bill: str) -> Iterator[str]:
    yield from _table([(step.name, "ok" if step.ok else "WRONG", step.finding) for step in diagnosis.steps])
    if table is not None:
        yield ""
        yield from _table([(row.name, row.verdict, row.detail) for row in table.rows])
        yield f"found out on {_date(table)}; {bill}"


def _table(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yields aligned columns, the last one folded to the width of the terminal."""
    first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
    for name, verdict, finding in rows:
        head = f"{name:<{first}}  {verdict:<{second}}  "
        folded = [
            line
            for part in (finding.splitlines() or [""])
            for line in textwrap.wrap(part, width - len(head), break_long_words=False, break_on_hyphens=False) or [""]
        ]
        yield (head + folded[0]).rstrip()
        yield from (" " * len(head) + line for line in folded[1:])


def _date(table: capabilities.Table) -> str:
    return f"{datetime.fromtimestamp(table.at, UTC):%Y-%m-%d %H:%M} UTC"
