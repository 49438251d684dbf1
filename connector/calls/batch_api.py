"""Files and batches over HTTP, as in OpenAI's API and those compatible with it (`/v1/files`, `/v1/batches`).

Memory does not grow with a file: an upload is read while it is sent; a download is written as it arrives, and resumed
where it broke off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, BinaryIO, Final, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from connector.base.amounts import counted
from connector.base.clock import Clock
from connector.base.decoding import SMALL, loads, storable, weight_of_reply
from connector.base.errors import ConnectorError, FatalError, ReplyError
from connector.base.masking import Masker
from connector.base.records import is_ok
from connector.base.spool import explained
from connector.base.values import dumps
from connector.http.deadline import Deadline
from connector.http.transport import Response, Transport
from connector.http.upload import Upload
from connector.replies.refusals import error_of, read_error, readable

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""The final states of a batch."""

_STATES: Final = {
    "progress": "in_progress",  # Novita
    "running": "in_progress",
    "created": "validating",
    "queued": "validating",
    "pending": "validating",
    "canceled": "cancelled",
    "canceling": "cancelling",
    "succeeded": "completed",
    "success": "completed",
    "error": "failed",
    "timeout": "expired",
}
"""OpenAI's names for the states of other servers."""

_MOVED: Final = 1 << 18  # bytes that a transfer must at least move within `config.timeout`
_PAGE: Final = 100  # batches in one page of the list
_PAGES: Final = 100
_PARTIAL, _NOT_SATISFIABLE = 206, 416
_SHOWN: Final = 3  # problems
_MOST_REQUESTS: Final = 50_000  # of a batch of OpenAI's
_LATEST: Final = 4_102_444_800  # the year 2100


class Problem(NamedTuple):
    """A problem of a batch: a code, a message, and the line of its file (from 1), if it is about one."""

    code: str
    message: str
    line: int | None = None


class Batch(NamedTuple):
    """A batch, under OpenAI's names whatever those of the server are. A missing ID is empty."""

    id: str
    state: str
    input_file: str = ""
    output_file: str = ""
    error_file: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    problems: tuple[Problem, ...] = ()
    metadata: Mapping[str, str] = {}
    created: float = 0.0
    endpoint: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether its state is final."""
        return self.state in ENDED

    @property
    def reason(self) -> str:
        """What is wrong with it, for people; empty if nothing is."""
        words = [
            f"{problem.message or problem.code}{f' (line {problem.line})' if problem.line else ''}"
            for problem in self.problems[:_SHOWN]
        ]
        more = len(self.problems) - _SHOWN
        return "; ".join(words) + (f"; and {more:,} more" if more > 0 else "")


class BatchAPI(Protocol):
    """What an engine needs of a server with batches. Thread-safe.

    Each method raises a `RetryableError` for what may work later, a `FatalError` for what ends the run, and a
    `RecordError` if the server refuses this request.
    """

    def upload(self, file: BinaryIO, filename: str) -> str:
        """Uploads a file of requests; returns its ID."""

    def create(self, file: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """Makes a batch of an uploaded file."""

    def retrieve(self, batch: str) -> Batch:
        """Returns a batch as it is now."""

    def cancel(self, batch: str) -> Batch:
        """Cancels a batch; the requests finished by then are kept."""

    def listed(self) -> Iterator[Batch]:
        """Yields all batches of the account, in the server's order."""

    def download(self, file: str, into: BinaryIO, batch: str, requests: int) -> None:
        """Appends a file of answers to `into`; resumes a download that broke off, from what `into` already has.

        Raises `FatalError` if it is larger than the answers to so many requests may be; 0 if the number is unknown.
        """


class HttpBatchAPI:
    """See `BatchAPI`.

    Args:
        transport: The transport for the requests.
        base_url: The base of the server's URLs, such as `https://api.openai.com/v1`, with their query if any.
        mask: Removes secrets from what the server says.
        timeout: The seconds within which a call must end, and a transfer must make progress.
    """

    def __init__(self, transport: Transport, base_url: str, mask: Masker, timeout: float, clock: Clock) -> None:
        self._transport = transport
        self._base = urlsplit(base_url)
        self._mask = mask
        self._timeout = timeout
        self._clock = clock

    def upload(self, file: BinaryIO, filename: str) -> str:
        """See `BatchAPI.upload`."""
        body = Upload(file, filename, {"purpose": "batch"})

        def sent() -> Response:
            deadline = Deadline(self._timeout, monotonic=self._clock.monotonic)
            body.sent = _renewing(deadline)
            return self._transport.post(self._url("/files"), body, body.content_type, deadline)

        return _id(self._object(sent))

    def create(self, file: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """See `BatchAPI.create`."""
        body = {
            "input_file_id": file,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": dict(metadata),
        }
        return self._batch("/batches", body, once=True)  # if its connection dies, it may have been carried out

    def retrieve(self, batch: str) -> Batch:
        """See `BatchAPI.retrieve`."""
        return self._batch(f"/batches/{quote(batch, safe='')}")

    def cancel(self, batch: str) -> Batch:
        """See `BatchAPI.cancel`."""
        return self._batch(f"/batches/{quote(batch, safe='')}/cancel", {})

    def listed(self) -> Iterator[Batch]:
        """See `BatchAPI.listed`."""
        after = ""
        for _ in range(_PAGES):
            url = self._url("/batches", {"limit": str(_PAGE), **({"after": after} if after else {})})
            page = self._object(lambda url=url: self._transport.get(url))  # type: ignore[misc]  # its default
            found = page.get("data")
            batches = [_batch_of(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
            yield from batches
            if not page.get("has_more") or not batches or batches[-1].id == after:
                return
            after = batches[-1].id

    def download(self, file: str, into: BinaryIO, batch: str, requests: int) -> None:
        """See `BatchAPI.download`."""
        url = self._url(f"/files/{quote(file, safe='')}/content")
        requests = requests or _MOST_REQUESTS
        most = requests * (self.max_response_bytes + SMALL)
        self._attempted(lambda: self._downloaded(url, into, most))
        if into.tell() > most:
            raise FatalError(
                f"the endpoint has more than {most:,} bytes of answers for the batch {batch}, of "
                f"{counted(requests, 'request')}: if that can be true, raise max_response_bytes, and the same command "
                "fetches them"
            )

    @property
    def max_response_bytes(self) -> int:
        """The size that no reply may exceed."""
        return self._transport.max_response_bytes

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def _downloaded(self, url: str, into: BinaryIO, most: int) -> None:
        """Downloads a file, or a little more than `most` bytes of a larger one."""
        start = into.tell()
        deadline = Deadline(self._timeout, monotonic=self._clock.monotonic)
        with closing(self._transport.get(url, deadline, start)) as response:
            if start and response.status == _NOT_SATISFIABLE:
                return  # all of it was there
            if not is_ok(response.status):
                raise self._error(response, response.read())
            skipped = 0 if response.status == _PARTIAL else start
            renew = _renewing(deadline)
            for chunk in response.chunks(most=float("inf")):
                with explained():
                    into.write(chunk[skipped:])
                skipped = max(0, skipped - len(chunk))
                if into.tell() > most:
                    return
                renew(len(chunk))

    def _batch(self, path: str, body: Mapping[str, Any] | None = None, *, once: bool = False) -> Batch:
        url = self._url(path)

        def sent() -> Response:
            if body is None:
                return self._transport.get(url)
            deadline = Deadline(self._timeout, monotonic=self._clock.monotonic)
            deadline.is_once = once
            return self._transport.post(url, dumps(dict(body)), deadline=deadline)

        return _batch_of(self._object(sent))

    def _object(self, send: Callable[[], Response]) -> dict[str, Any]:
        """Sends a request and returns its answer, a JSON object."""

        def answered() -> dict[str, Any]:
            with closing(send()) as response:
                data = response.read()
                if not is_ok(response.status):
                    raise self._error(response, data)
            weight_of_reply(data, self.max_response_bytes)
            try:
                found = storable(loads(data))
            except ValueError:
                found = None
            if isinstance(found, list):  # Together's list of batches
                found = {"data": found}
            if not isinstance(found, dict):
                told = readable(read_error(data, self._mask).message, self._mask)
                raise ReplyError(f"the endpoint's answer about files or batches is not a JSON object: {told}")
            masked: dict[str, Any] = self._mask.value(found)
            return masked

        found: dict[str, Any] = self._attempted(answered)
        return found

    def _attempted(self, call: Callable[[], Any]) -> Any:
        """Makes a call, and again with a new key if the key is refused and another one can be made."""
        try:
            return self._transport.auth.attempt(call)
        except ConnectorError as error:
            self._mask.error(error)
            raise

    def _error(self, response: Response, data: bytes) -> ConnectorError:
        return error_of(response.status, response.headers, data, now=self._clock.time(), mask=self._mask)

    def _url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        parts = "&".join(filter(None, (self._base.query, urlencode(query or {}))))
        return self._base._replace(path=self._base.path.rstrip("/") + path, query=parts).geturl()


def _renewing(deadline: Deadline) -> Callable[..., None]:
    """Returns a function that counts the bytes of a transfer and renews the deadline after each `_MOVED` of them."""
    moved = 0

    def renew(size: int = 1 << 16) -> None:
        nonlocal moved
        moved += size
        if moved >= _MOVED:
            moved = 0
            deadline.renew()

    return renew


def _batch_of(found: dict[str, Any]) -> Batch:
    """Reads a batch; fields may be missing, null, empty or in upper case.

    Raises:
        ReplyError: It has no ID.
    """
    found = found["job"] if isinstance(found.get("job"), dict) else found  # Together's answer to a creation
    counts = found.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = found.get("metadata")
    state = str(found.get("status") or "validating").lower()
    return Batch(
        id=_id(found),
        state=_STATES.get(state, state),
        input_file=str(found.get("input_file_id") or ""),
        output_file=str(found.get("output_file_id") or ""),
        error_file=str(found.get("error_file_id") or ""),
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        problems=tuple(_problems(found.get("errors"))),
        metadata={str(name): str(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {},
        created=_time(found.get("created_at")),
        endpoint=str(found.get("endpoint") or ""),
    )


def _problems(errors: Any) -> Iterator[Problem]:
    listed = errors.get("data") if isinstance(errors, dict) else errors
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict):
            line = each.get("line")
            yield Problem(
                str(each.get("code") or ""),
                str(each.get("message") or ""),
                line if type(line) is int and line > 0 else None,
            )
        elif each:
            yield Problem("", str(each))


def _time(value: Any) -> float:
    """Returns a time in seconds since 1970; 0 for what is none of this century."""
    return float(value) if isinstance(value, int | float) and 0 < value < _LATEST else 0.0


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _id(found: dict[str, Any]) -> str:
    value = found.get("id")
    if not isinstance(value, str) or not value:
        raise ReplyError("the endpoint's answer about files or batches has no id")
    return value
