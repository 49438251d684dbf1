"""The stages of a part: its file is uploaded, its batch is created and polled, and its answers are downloaded.

Each stage is stored in the ledger before the next one begins: whenever a run ends, a later one continues from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from tempfile import TemporaryFile
from typing import BinaryIO, Final, cast

from connector.base.amounts import counted
from connector.base.clock import moment
from connector.base.errors import (
    ConnectorError,
    FatalError,
    NotFoundError,
    OutageError,
    RateLimitError,
    RecordError,
    RetryableError,
)
from connector.base.spool import explained
from connector.calls.batch_api import Batch
from connector.calls.batch_needs import Needs
from connector.engines import Control
from connector.engines._batch_parts import PART, Jobs, Part, Stage, found_among, lacks_room
from connector.engines._batch_tasks import Finished, Tasks

_LOG = logging.getLogger(__name__)
_UPLOADS: Final = 3  # of one file, if the server loses it before the batch is created
_BASE: Final = 1.0  # seconds before a failed task is tried again; they double each time


class Stages:
    """Advances parts from stage to stage.

    Args:
        give_up: Called with a part whose batch was never created, so that its calls have to be gathered again.
    """

    def __init__(self, needs: Needs, control: Control, jobs: Jobs, give_up: Callable[[Part], None]) -> None:
        self._terms = needs.terms
        self._api = needs.api
        self._needs = needs
        self._control = control
        self._now = control.clock.monotonic
        self._jobs = jobs
        self._give_up = give_up
        self._tasks = Tasks()

    def begin(self, parts: Sequence[Part]) -> None:
        """Begins the tasks that are due."""
        now = self._now()
        for part in parts:
            if part.is_busy or now < part.due or self._control.stop.reason is not None:
                continue
            if part.stage is Stage.SEARCHING:
                self._tasks.start(part, "search", partial(self._search, part))
            elif part.stage is Stage.UPLOADING and part.lines is not None:
                self._tasks.start(part, "upload", partial(self._api.upload, part.lines, f"{part.name}.jsonl"))
            elif part.stage is Stage.UPLOADED:
                self._tasks.start(part, "create", partial(self._create, part))
            elif part.stage is Stage.RUNNING:
                self._tasks.start(part, "poll", partial(self._api.retrieve, part.batch_id))
            elif part.stage is Stage.FETCHING:
                self._tasks.start(part, "fetch", partial(self._fetch, part))

    def wait(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds for a task to end; returns whether one has ended.

        Raises:
            StorageError: The progress of the part cannot be stored.
        """
        finished = self._tasks.next(timeout)
        if finished is not None:
            self._ended(finished)
        return finished is not None

    def close(self, parts: Sequence[Part]) -> None:
        """Ends. Waits for a batch that is being created, as long as a stopped run may take, so that its ID is known."""
        ends = self._now() + self._control.grace
        while any(part.stage is Stage.UPLOADED and part.is_busy for part in parts) and self._now() < ends:
            with suppress(ConnectorError):  # what cannot be stored is found by its metadata
                self.wait(ends - self._now())
        self._tasks.close()

    def count(self, part: Part) -> None:
        """Counts a part of another run towards the budget, whether the budget allows it or not."""
        if part.is_of_job:
            self._needs.admits(part.size, part.requests, ())

    def tell(self, text: str) -> None:
        """Logs a step, and shows it in the live line."""
        _LOG.info("%s", text)
        self._control.gauge.notify(text)

    # --- In other threads ---

    def _search(self, part: Part) -> Batch | None:
        return found_among([part], self._api.listed).get(part.name)

    def _create(self, part: Part) -> Batch:
        """Creates a batch, unless it exists already and only the answer was lost."""
        if part.may_exist and (batch := self._search(part)) is not None:
            return batch
        terms = self._terms
        return self._api.create(part.file, terms.path, terms.window, {PART: part.name})

    def _fetch(self, part: Part) -> None:
        for name, file in part.answers:
            self._api.download(name, file, part.batch_id, part.requests)
            with explained():
                file.flush()

    # --- In the deciding thread ---

    def _ended(self, finished: Finished) -> None:
        part, name, result = finished
        if isinstance(result, BaseException):
            self._failed(part, name, result)
            return
        part.failures = 0
        part.due = self._now()
        if name == "upload":
            part.file, part.stage = result, Stage.UPLOADED
            part.uploads += 1
            self._jobs.keep(part)
        elif name in ("create", "search"):
            self._made(part, result)
        elif name == "poll":
            self._polled(part, result)
        elif name == "cancel":
            part.is_late = True
        elif name == "fetch":
            _fetched(part)

    def _made(self, part: Part, batch: Batch | None) -> None:
        if batch is None:  # an earlier run ended before it was created
            part.stage = Stage.JUDGED
            self._give_up(part)
            return
        if part.stage is Stage.SEARCHING:
            self.count(part)
        part.batch_id, part.file = batch.id, part.file or batch.input_file
        part.stage, part.batch = Stage.RUNNING, batch
        self._jobs.keep(part)
        part.drop_lines()
        self.tell(f"{batch.id}: {counted(part.requests, 'request')} submitted")
        part.due = self._now() + (0 if batch.has_ended else self._terms.poll_seconds)

    def _polled(self, part: Part, batch: Batch) -> None:
        before, part.batch = part.batch, batch
        if before is None or before.state != batch.state:
            self.tell(f"{batch.id}: {batch.state.replace('_', ' ')}{f' ({batch.reason})' if batch.reason else ''}")
        now = self._now()
        if not batch.has_ended:
            part.due = now + self._terms.poll_seconds
            waited = self._control.clock.time() - (batch.created or part.at)
            if waited > self._terms.max_wait and batch.state != "cancelling":
                self.tell(f"{batch.id}: is being cancelled, because batch.max_wait is over; finished answers are kept")
                self._tasks.start(part, "cancel", partial(self._api.cancel, batch.id))
            return
        if lacks_room(batch):
            part.stage, part.batch_id, part.batch, part.may_exist = Stage.UPLOADED, "", None, False
            part.due = now + self._terms.poll_seconds
            self._jobs.keep(part)
            return
        if batch.state == "failed" and not any(problem.line for problem in batch.problems):
            told = batch.reason or "it does not say why"
            self._jobs.forget(part)
            self._control.stop.request(FatalError(f"the endpoint refuses the batch {batch.id}: {told}"))
            return
        part.stage = Stage.FETCHING
        names = dict.fromkeys(filter(None, (batch.output_file, batch.error_file)))
        with explained():
            part.answers = [(name, cast("BinaryIO", TemporaryFile())) for name in names]  # noqa: SIM115 - see `drop_answers`

    def _failed(self, part: Part, name: str, error: BaseException) -> None:
        """Decides what follows from a task that failed."""
        now = self._now()
        base = min(_BASE, self._terms.poll_seconds)
        if name == "cancel":
            part.due = now + self._terms.poll_seconds
            return
        if isinstance(error, NotFoundError | RecordError) and name in ("poll", "fetch"):
            part.failed(now, base)
            if now - part.failing_since <= self._control.backoff.max_elapsed:
                return  # not sooner: it may already be paid for
            if name == "fetch":
                self._lost(part, error)
            else:
                self._control.stop.request(self._unknown(part, error))
            return
        if isinstance(error, NotFoundError) and name == "create" and part.lines is not None and part.uploads < _UPLOADS:
            part.stage, part.file = Stage.UPLOADING, ""  # the server has lost the file
            part.failed(now, base)
            return
        if isinstance(error, RateLimitError) or _is_for_lack_of_room(error):
            if name == "create" and not part.failures:
                self.tell(f"{counted(part.requests, 'request')} wait for room at the endpoint")
            part.failures, part.failing_since = 1, now
            part.due = now + max(self._terms.poll_seconds, getattr(error, "wait", None) or 0.0)
            return
        if isinstance(error, RetryableError):
            part.may_exist |= name == "create"
            part.failed(now, base)
            if now - part.failing_since <= self._control.backoff.max_elapsed:
                return
            told = f"files and batches cannot be reached: {error.message}: what was submitted goes on, and the same "
            self._control.stop.request(OutageError(told + "command fetches it", detail=error.detail))
            return
        if isinstance(error, NotFoundError):
            told = f"the endpoint has no files and batches ({error.message}): remove batch, or change url"
            error = NotFoundError(told, http_status=error.http_status)
        elif isinstance(error, RecordError):
            error = FatalError(f"the endpoint refuses the batch: {error.message}", http_status=error.http_status)
        self._control.stop.request(error)

    def _unknown(self, part: Part, error: ConnectorError) -> FatalError:
        """Returns the error that ends the run if the endpoint lacks a batch: it may be paid for in another account."""
        made = moment(part.at) or "earlier"
        return FatalError(
            f"the endpoint does not have the batch {part.batch_id} ({error.message}), which was submitted "
            f"{made} with {counted(part.requests, 'request')}: if the key, the project or the URL was "
            "different then, use that again; if the endpoint has lost it, run `openai-compatible batch "
            f"forget {part.batch_id} --config … --ledger …`: the same command then asks for its rows again",
            http_status=error.http_status,
        )

    def _lost(self, part: Part, error: ConnectorError) -> None:
        """Continues without answers that the endpoint no longer has."""
        told = "the batch %s: its answers are gone (%s): its rows are asked for again"
        _LOG.warning(told, part.batch_id, error.message)
        part.failures = 0
        part.drop_answers()
        _fetched(part)


def _fetched(part: Part) -> None:
    part.stage = Stage.FETCHED
    for _, file in part.answers:
        file.seek(0)


def _is_for_lack_of_room(error: BaseException) -> bool:
    """Returns whether a batch was refused because the endpoint's queue is full."""
    return isinstance(error, RecordError) and ("token_limit" in error.message or "nqueued" in error.message)
