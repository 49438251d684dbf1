"""What is told about a table before the first call is paid for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from connector import ledger as ledgers
from connector.base.errors import ConfigError
from connector.base.live_line import LiveLine, Part
from connector.base.records import Record
from connector.base.stop import Stop
from connector.base.terminal import is_terminal, write, write_lines
from connector.commands import ExitCode
from connector.commands._ledger_file import is_there, open_ledger
from connector.ledger import Ledger, Location
from connector.run.forecast import forecast, refusal, unsendable, warning
from connector.run.ledger_memory import Earlier, Remembering
from connector.run.plan import Plan
from connector.stores import Source
from connector.stores.formats import parts_of, texts_of

_PATIENCE: Final = 1.0  # seconds that nobody takes for hanging
_EVERY: Final = 0.2  # seconds between two lines


def check_rows(source: Source, plan: Plan, stop: Stop, *, quiet: bool) -> int | None:
    """Renders every row of an input that can be read twice, as a stream cannot, and tells of those that will fail.

    Rows of which none can fail are not read.

    Returns how many rows there are; `None` for a stream.

    Raises:
        ConfigError: They are more than the config admits.
    """
    if not source.columns or plan.requests.suits(texts_of(source)):
        return source.rows
    live = is_terminal(sys.stderr) and not quiet
    rows, causes = unsendable(watched(source.read(), source.rows, live=live), plan, stop, parts_of(source))
    refused = refusal(rows, causes, plan.config.max_template_error_percent)
    if refused is not None:
        raise refused
    if causes and not quiet:
        write(sys.stderr, warning(rows, causes) + "\n")
    return rows


def watched(
    items: Iterable[object], rows: int | None, *, live: bool, now: Callable[[], float] = time.monotonic
) -> Iterator[object]:
    """Passes on what a source yields, and shows on a terminal how far it is if that takes longer than a second.

    Args:
        rows: Rows in all, where known.
        live: Whether stderr is a terminal that somebody looks at.
    """
    line, due, count = LiveLine(sys.stderr), now() + _PATIENCE, 0
    try:
        for item in items:
            count += isinstance(item, Record)
            if live and now() >= due:
                due = now() + _EVERY
                line.draw([Part(f"checking the rows: {count:,}{'' if rows is None else f' of {rows:,}'}")])
            yield item
    finally:
        line.clear()


def remembering(earlier: Sequence[Earlier], *, quiet: bool) -> Callable[[Ledger], Ledger]:
    """Returns what lets a run's ledger look into earlier ones, and tells a person which of them helped, or why not."""
    told = _unsaid if quiet else _said
    return lambda ledger: Remembering(ledger, earlier, open_ledger, told) if earlier else ledger


def dry_run(
    source: Source, plan: Plan, path: Location, earlier: Sequence[Earlier], stop: Stop, *, retry_failed: bool
) -> ExitCode:
    """Prints what a run would do, without a call.

    Raises:
        ConfigError: The run would not begin, or another one has its ledger.
    """
    with ExitStack() as stack:
        own = ledgers.opened(None) if path is None or not is_there(path) else open_ledger(path)
        ledger = Remembering(stack.enter_context(own), earlier, open_ledger, _said, is_kept=False)
        items = watched(source.read(), source.rows, live=is_terminal(sys.stderr))
        parts = parts_of(source)
        found = forecast(items, plan, stack.enter_context(ledger), stop, retry_failed=retry_failed, parts=parts)
    write(sys.stdout, f"{found}\n")
    refused = refusal(found.rows, found.causes, plan.config.max_template_error_percent)
    if refused is not None:
        raise ConfigError(f"a run would stop before its first call: {refused.message.splitlines()[-1]}")
    return ExitCode.DONE


def _said(text: str) -> None:
    write_lines(sys.stderr, [text])


def _unsaid(_: str) -> None:
    pass
