"""A Spark stage: what its Python workers call, and how a fatal error ends it on an executor.

Spark retries a failed task, each time in a new Python worker. Such an attempt must fail at once, so nothing that takes
long is imported here; what the work needs is imported when it is unpickled.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyspark

from connector.base import errors
from connector.base.errors import ConfigError, ConnectorError, FatalError, LedgerUnavailableError


class Enriched:
    """The picklable function that Spark calls with the record batches of a partition.

    A fatal error, or a config that cannot work there, ends the stage: its remaining tasks on this executor fail with
    the same message and without a call, so that Spark's retries cost nothing. A ledger that does not answer does not
    end it, since that is transient: a retry opens the ledger before any call.

    Args:
        work: Turns input batches into output batches.
    """

    def __init__(self, work: Callable[[Iterator[Any]], Iterator[Any]]) -> None:
        self._name = uuid4().hex
        self._work = pickle.dumps(work)

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields batches with the new columns.

        Raises:
            ConnectorError: As `Connector.enrich` raises it, without its cause.
        """
        end = _end_of_stage(self._name)
        if (ended := _told(end)) is not None:
            raise ended
        try:
            yield from pickle.loads(self._work)(batches)  # noqa: S301 - it was pickled here, on the driver
        except ConnectorError as error:
            if isinstance(error, ConfigError | FatalError) and not isinstance(error, LedgerUnavailableError):
                _tell(end, error)
            raise error.with_traceback(None) from None


def _end_of_stage(name: str) -> Path | None:
    """Returns the file that says why a stage has ended on this executor; `None` if it has no place."""
    task = pyspark.TaskContext.get()
    with suppress(Exception):  # a sandbox without Spark's folders; pyspark-client has no `SparkFiles`
        folder = Path(pyspark.SparkFiles.getRootDirectory())
        if task is not None and folder.is_dir():
            return folder / f"ended-{name}-{task.stageId()}"
    return None


def _tell(end: Path | None, error: ConnectorError) -> None:
    if end is not None:
        with suppress(OSError):
            end.write_text(json.dumps([type(error).__name__, error.message]))


def _told(end: Path | None) -> ConnectorError | None:
    """Returns the error that has ended the stage; `None` if none has."""
    try:
        kind, message = json.loads(end.read_text()) if end is not None else ("", "")
    except (OSError, ValueError):  # there is none, or it is being written
        return None
    error: ConnectorError = getattr(errors, kind, FatalError)(message)
    return error if kind else None
