"""What is told about a table before the first call is paid for."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from connector.base.errors import ConfigError
from connector.base.terminal import write
from connector.commands import ExitCode
from connector.commands.ledger import open_ledger
from connector.engines import Stop
from connector.run.forecast import forecast, refusal, unsendable, warning
from connector.run.plan import Plan
from connector.stores import Source


def check_rows(source: Source, plan: Plan, stop: Stop, *, quiet: bool) -> None:
    """Renders every row of an input that can be read twice, as a stream cannot, and tells of those that will fail.

    Raises:
        ConfigError: They are more than the config admits.
    """
    if not source.columns:
        return
    rows, causes = unsendable(source.read(), plan, stop)
    refused = refusal(rows, causes, plan.config.max_template_error_percent)
    if refused is not None:
        raise refused
    if causes and not quiet:
        write(sys.stderr, warning(rows, causes) + "\n")


def dry_run(source: Source, plan: Plan, path: Path | None, stop: Stop, *, retry_failed: bool) -> ExitCode:
    """Prints what a run would do, without a call.

    Raises:
        ConfigError: The run would not begin, or another one has its ledger.
    """
    with ExitStack() as stack:
        is_there = path is not None and path.is_file() and path.stat().st_size > 0
        ledger = stack.enter_context(open_ledger(path)) if is_there and path is not None else None
        found = forecast(source.read(), plan, ledger, stop, retry_failed=retry_failed)
    write(sys.stdout, f"{found}\n")
    refused = refusal(found.rows, found.causes, plan.config.max_template_error_percent)
    if refused is not None:
        raise ConfigError(f"a run would stop before its first call: {refused.message.splitlines()[-1]}")
    return ExitCode.DONE
