"""A part: the requests of one batch, from the first one gathered to the last one judged, across restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from hashlib import blake2b
from itertools import count
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, NamedTuple, cast
from uuid import uuid4

import orjson

from connector.base.errors import StorageError
from connector.base.spool import explained
from connector.calls.batch_api import Batch
from connector.ledger import Ledger

PART: Final = "openai_compatible_part"
"""The key in a batch's metadata that holds the name of its part."""

_LINES: Final = ".lines"
_STORED: Final[Mapping[str, Any]] = {"url": str, "file": str, "batch": str, "at": int | float, "size": int}
_DIGEST: Final = 8  # bytes
_LONGEST_PAUSE: Final = 60.0  # seconds before a part that failed is tried again
_PLACES: Final = count()


class Ident(NamedTuple):
    """The identity of a request: the row's key in the ledger, and a digest of the request among that row's requests."""

    key: bytes
    digest: bytes


def ident_of(key: bytes, body: bytes) -> Ident:
    """Returns the identity of a request. A row may make several, such as one to repair its reply."""
    return Ident(key, blake2b(body, digest_size=_DIGEST).digest())


class Stage(Enum):
    """The progress of a part."""

    GATHERING = "takes requests"
    UPLOADING = "its file is on its way"
    UPLOADED = "its file is there, and the batch is to be made"
    SEARCHING = "its batch may have been made: it is looked for"
    RUNNING = "its batch goes on"
    FETCHING = "its answers are on their way"
    FETCHED = "its answers are here"
    JUDGED = "each of its requests has come to something"


class Part:
    """The requests of one batch.

    Attributes:
        name: The name by which its batch is found: a hash of its requests and the run.
        place: Where calls wait for its answers; see `connector.calls.in_flight.InFlight.park`.
        idents: Its requests, in the order of the file's lines; once the part is stored, they are in the ledger.
        requests: The number of requests.
        waiting: The number of calls that wait for an answer.
        lines: The file of requests, until the batch is created.
        answers: The files of answers, once they are being fetched.
        size: The size of `lines`, in bytes.
        inputs: The number of texts in the requests, which may have several each.
        file: The ID of the uploaded file.
        batch: What is known about the batch, once there is one.
        at: When the part was closed, in epoch seconds.
        uploads: How often its file was uploaded.
        due: When the next task for it is due, in monotonic seconds.
        is_busy: Whether a task for it is in progress.
        failures: How many tasks have failed in a row, since `failing_since`.
        may_exist: Whether a batch may have been created although no answer came.
        is_late: Whether it was cancelled because it took too long.
        is_inherited: Whether an earlier run created it.
        is_of_job: Whether it counts towards the budget of this run.
        passed: The keys of replies that were stored before this run reached their rows.
        unsettled: The number of judged requests whose rows have no outcome yet.
        settled_at: When the last of these rows got its outcome, in monotonic seconds.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.place = next(_PLACES)
        self.stage = Stage.GATHERING
        self.idents: list[Ident] = []
        self.requests = self.waiting = 0
        self.lines: BinaryIO | None = None
        self.answers: list[tuple[str, BinaryIO]] = []
        self.size = self.inputs = self.uploads = 0
        self.file = ""
        self.batch_id = ""
        self.batch: Batch | None = None
        self.at = 0.0
        self.due = 0.0
        self.is_busy = False
        self.failures = 0
        self.failing_since = 0.0
        self.may_exist = self.is_late = self.is_inherited = False
        self.is_of_job = True
        self.passed: set[bytes] = set()
        self.unsettled = 0
        self.settled_at = -math.inf
        self.results: Iterator[Any] | None = None

    def add(self, ident: Ident, line: bytes, inputs: int) -> None:
        """Adds a request. Raises `StorageError` if the disk is full, as `leave` and `close` do."""
        with explained():
            if self.lines is None:
                self.lines = cast("BinaryIO", TemporaryFile(buffering=1 << 20))  # noqa: SIM115 - closed by `drop_lines`
            self.lines.write(line)
        self.idents.append(ident)
        self.requests += 1
        self.size += len(line)
        self.inputs += inputs

    def leave(self, idents: Collection[Ident]) -> None:
        """Removes requests that were added."""
        before, lines = self.idents, self.lines
        self.idents, self.lines, self.requests, self.size, self.inputs = [], None, 0, 0, 0
        if lines is not None:
            with explained():
                lines.seek(0)
            for ident, line in zip(before, lines, strict=True):
                if ident not in idents:
                    self.add(ident, line, 1)
            lines.close()

    def close(self, now: float) -> None:
        """Closes the part to further requests, and names it."""
        hasher = blake2b(uuid4().bytes, digest_size=16)
        for ident in self.idents:
            hasher.update(b"".join(ident))
        self.name, self.at = hasher.hexdigest(), now
        self.stage = Stage.UPLOADING
        if self.lines is not None:
            with explained():
                self.lines.flush()

    def drop_lines(self) -> None:
        """Deletes the file of requests, after its upload."""
        if self.lines is not None:
            with suppress(OSError):  # closing writes what is buffered, perhaps to a full disk
                self.lines.close()
            self.lines = None

    def drop_answers(self) -> None:
        """Deletes the files of answers."""
        for _, file in self.answers:
            with suppress(OSError):
                file.close()
        self.answers = []

    def drop(self) -> None:
        """Deletes all of its files."""
        self.drop_lines()
        self.drop_answers()

    def failed(self, now: float, base: float) -> None:
        """Records a temporary failure: the part is due again after `base` seconds, which doubles with each failure."""
        self.failing_since = self.failing_since if self.failures else now
        self.due = now + min(_LONGEST_PAUSE, base * 2.0**self.failures)
        self.failures += 1


class Jobs:
    """The parts of one endpoint in a ledger, so that any later run can continue them.

    Args:
        url: The endpoint's URL, as others may share the ledger.
        job: The job to which the budget applies.
    """

    def __init__(self, ledger: Ledger, url: str, job: str = "") -> None:
        self._ledger = ledger
        self._url = url
        self._job = job

    def parts(self, known: Collection[str] = ()) -> list[Part]:
        """Returns the parts of other runs, except those with `known` names, in the order of their creation."""
        names = dict.fromkeys(self._ledger.jobs())
        parts: list[Part] = []
        for name in names:
            if name.endswith(_LINES):
                if name.removesuffix(_LINES) not in names:
                    self._ledger.forget_job(name)
                continue
            if name in known or (job := self._stored(name)) is None:
                continue
            if job["url"] == self._url:
                parts.append(_part_of(name, job))
                parts[-1].is_of_job = job.get("job") == self._job
        return sorted(parts, key=lambda part: part.at)

    def begin(self, part: Part) -> None:
        """Stores a part before anything of it is sent.

        Its requests are stored second: without the part, they would be taken for leftovers of one that was deleted.
        """
        self.keep(part)
        lines = b"\n".join(f"{key.hex()}:{digest.hex()}".encode() for key, digest in part.idents)
        self._ledger.keep_job(part.name + _LINES, lines)
        part.idents = []

    def idents(self, part: Part) -> Iterator[Ident]:
        """Yields the requests of a part, in the order of the file's lines."""
        yield from part.idents
        lines = b"" if part.idents else self._ledger.job(part.name + _LINES) or b""
        for line in lines.split():
            key, _, digest = line.partition(b":")
            try:
                yield Ident(bytes.fromhex(key.decode()), bytes.fromhex(digest.decode()))
            except ValueError as error:
                raise self._unreadable(part.name + _LINES) from error

    def keep(self, part: Part) -> None:
        """Stores the progress of a part."""
        job = {"url": self._url, "job": self._job, "file": part.file, "batch": part.batch_id, "at": part.at}
        self._ledger.keep_job(part.name, orjson.dumps({**job, "size": part.size, "requests": part.requests}))

    def forget(self, part: Part) -> None:
        """Deletes a part: the replies to its requests are in the ledger, or it never had a batch."""
        self._ledger.forget_job(part.name)
        self._ledger.forget_job(part.name + _LINES)

    def forget_batch(self, batch: str) -> bool:
        """Deletes the part of a batch, for any endpoint. Returns whether there was one."""
        names = [name for name in self._ledger.jobs() if not name.endswith(_LINES)]
        found = [name for name in names if (job := self._stored(name)) is not None and job["batch"] == batch]
        for name in found:
            self.forget(Part(name))
        return bool(found)

    def _stored(self, name: str) -> dict[str, Any] | None:
        """Returns a stored part; `None` if another run has deleted it. Raises `StorageError` for anything else."""
        data = self._ledger.job(name)
        if data is None:
            return None
        try:
            job = orjson.loads(data)
        except ValueError:
            job = None
        if not isinstance(job, dict) or not all(isinstance(job.get(key), kind) for key, kind in _STORED.items()):
            raise self._unreadable(name)
        return job

    def _unreadable(self, name: str) -> StorageError:
        return StorageError(
            f"the ledger {self._ledger.path} has a record of a batch that cannot be read: delete {name!r} among its "
            "jobs, or name another ledger; what that batch was asked is then paid for again"
        )


def _part_of(name: str, job: dict[str, Any]) -> Part:
    part = Part(name)
    part.is_inherited = True
    part.file, part.batch_id, part.at, part.size = job["file"], job["batch"], job["at"], job["size"]
    requests = job.get("requests")
    part.requests = requests if isinstance(requests, int) else 0
    part.stage = Stage.RUNNING if part.batch_id else Stage.SEARCHING
    return part


def found_among(parts: list[Part], batches: Callable[[], Iterator[Batch]]) -> dict[str, Batch]:
    """Finds the batches of parts among those of an account; returns them by the names of the parts.

    A batch is recognized by its metadata, or by its file if the server keeps no metadata. One that failed for lack of
    room does not count. If the newest come first, the search ends a day before the first part, as clocks differ.
    """
    names = {part.name for part in parts}
    files = {part.file: part.name for part in parts if part.file}
    since = min((part.at for part in parts), default=0.0) - 86_400
    found: dict[str, Batch] = {}
    before = 0.0
    for batch in batches():
        name = batch.metadata.get(PART) or files.get(batch.input_file, "")
        if name in names and name not in found and not lacks_room(batch):
            found[name] = batch
            if len(found) == len(names):
                break
        if batch.created and batch.created < min(since, before):
            break
        before = batch.created
    return found


def lacks_room(batch: Batch) -> bool:
    """Returns whether a batch failed because the queue was full, so that it may be created again later."""
    return batch.state == "failed" and any(problem.code == "token_limit_exceeded" for problem in batch.problems)
