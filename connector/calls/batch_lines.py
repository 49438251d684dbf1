"""The lines of a batch's files: writing requests, and reading answers."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from connector.base.clock import Clock
from connector.base.cost import BATCH_HEADER
from connector.base.decoding import SMALL, TOO_DEEP, DepthError, loads, weight_of_reply
from connector.base.errors import BadRequestError, ConnectorError, CutError, ReplyError, ServerError
from connector.base.masking import Masker
from connector.base.records import Reply, is_ok
from connector.base.regex import regex
from connector.base.room import LARGE
from connector.base.values import dumps
from connector.calls.batch_api import Batch
from connector.calls.judging import kept, reply_of
from connector.endpoints import Endpoint
from connector.http.http1 import too_large
from connector.ledger import Ledger, replies_of
from connector.replies.refusals import error_of, final_reply

_OK: Final = 200
_AT_ONCE: Final = 500  # replies stored at a time
_HALF: Final = regex(rb"\\u[dD][89a-fA-F]")  # an escaped surrogate; most are part of a pair
_NAME: Final = regex(rb'"custom_id"\s*:\s*"((?:[0-9a-fA-F]{2})+)"')
_STATUSES: Final = range(100, 600)
_UNDONE: Final = ("expired", "cancel")  # in the codes of lines that were not carried out


def written(key: bytes, path: str, body: bytes) -> bytes:
    """Returns a request as a line of a file. Its `custom_id` is the row's key, by which any later run recognizes it."""
    head = b'{"custom_id":"%b","method":"POST","url":%b,"body":' % (key.hex().encode(), orjson.dumps(path))
    return b"".join((head, body, b"}\n"))


class Line(NamedTuple):
    """A line of answers: the row's key that it names, its content, or why that is refused, and its raw bytes.

    `size` is about how much memory it takes, if that is a lot.
    """

    key: bytes
    content: dict[str, Any]
    raw: bytes
    size: int = 0
    refusal: ReplyError | None = None


class Reader:
    """Reads lines of answers, in the shape of OpenAI and of other servers.

    Args:
        endpoint: The kind of the requests.
        mask: Removes secrets from what the endpoint says.
        most: The bytes that a reply may have.
    """

    def __init__(self, endpoint: Endpoint, mask: Masker, clock: Clock, most: int) -> None:
        self._endpoint = endpoint
        self._mask = mask
        self._clock = clock
        self._most = most
        self._longest = most + SMALL  # with what is around the reply
        self._decode = endpoint.decode

    def lines(self, file: BinaryIO) -> Iterator[bytes]:
        """Yields the lines of a file that are not blank. One that is too long is cut, and `read` refuses it."""
        is_rest = False
        while line := file.readline(self._longest + 1):
            if not is_rest and not line.isspace():
                yield line.removeprefix(BOM_UTF8)
            is_rest = line[-1:] != b"\n"

    def masked(self, raw: bytes) -> bytes:
        """Returns a line without secrets and without its line end. What is not JSON is text, also if it was cut."""
        try:
            content = loads(raw)
        except (DepthError, ValueError):
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            return self._mask.cut(text, len(text) - (SMALL if len(raw) > self._longest else 0)).encode()
        masked = self._mask.value(content, raw)
        return raw.rstrip(b"\r\n") if masked is content else dumps(masked)

    def read(self, raw: bytes) -> Line | None:
        """Parses a line; returns `None` if it is not JSON, or has no `custom_id` of ours."""
        try:
            size = self._size_of(raw)
            content = loads(raw, self._decode)
            return Line(bytes.fromhex(content["custom_id"]), content, raw, size)
        except (DepthError, ReplyError) as error:
            refusal = error if isinstance(error, ReplyError) else ReplyError(TOO_DEEP, detail=str(error))
            named = _NAME.search(raw)
            return Line(bytes.fromhex(named[1].decode()), {}, b"", refusal=refusal) if named else None
        except (ValueError, LookupError, TypeError):
            return None

    def _size_of(self, raw: bytes) -> int:
        """Returns the memory that a line takes if it is large. Raises `ReplyError` for more than a reply may take."""
        if len(raw) > self._longest:
            raise too_large(self._most)
        return weight_of_reply(raw, self._longest)

    def result(self, line: Line, batch: Batch) -> Reply | ConnectorError:
        """Returns the final reply of a line, or its error, as for a call."""
        if line.refusal is not None:
            return line.refusal
        try:
            reply = self._reply(line, batch)
        except ConnectorError as error:
            self._mask.error(error)
            return error
        return reply._replace(headers={**reply.headers, BATCH_HEADER: batch.id}, size=line.size)

    def _reply(self, line: Line, batch: Batch) -> Reply:
        response, error = line.content.get("response"), line.content.get("error")
        now = self._clock.time()
        latency = int(max(0.0, now - batch.created) * 1000) if batch.created else 0
        if not isinstance(response, dict) or "body" not in response:
            if not error:
                raise CutError("the batch has neither a reply nor an error for this row")
            code = str(error.get("code") or "") if isinstance(error, dict) else ""
            if any(word in code for word in _UNDONE):
                raise ServerError(f"the batch {batch.id} ended before this row was answered ({code})")
            told = error_of(_OK, {}, {"error": error}, now=now, mask=self._mask)
            return final_reply(told, {"error": error}, {}, latency, self._mask)
        status, body, raw = response.get("status_code"), response["body"], line.raw
        if isinstance(body, str):  # OGX
            try:
                body, raw = loads(body, self._decode), body.encode("utf-8", "replace")
            except ValueError:
                raise ReplyError("the reply in the batch is not JSON") from None
        status = status if type(status) is int and status in _STATUSES else _OK
        name = response.get("request_id")
        headers = {"x-request-id": name} if isinstance(name, str) and name else {}
        if not is_ok(status):
            content = {"error": body}
        elif isinstance(body, dict):
            content = kept(body, self._mask, None if _HALF.search(line.raw) else raw)
        else:
            raise ReplyError("the reply in the batch is JSON, but not an object")
        return reply_of(status, headers, content, self._endpoint, self._mask, now=now, latency_ms=latency)


def unanswered(batch: Batch | None, number: int) -> ConnectorError:
    """Returns the error of a request that has no line in the answers of an ended batch.

    Args:
        batch: The batch; `None` if the endpoint no longer knows it.
        number: The request's line in its file, from 1.
    """
    if batch is None:
        return ServerError("the endpoint no longer knows the batch")
    if batch.state == "failed":
        problem = next((problem for problem in batch.problems if problem.line == number), None)
        if problem is not None:
            return BadRequestError(f"the batch refuses this row's request: {problem.message or problem.code}")
        return ServerError(f"the batch {batch.id} failed because of other rows ({batch.reason})")
    if batch.state == "completed":
        return CutError(f"the batch {batch.id} has completed without a line for this row")
    return ServerError(f"the batch {batch.id} was {batch.state} before this row was answered")


class Storing:
    """Stores replies which a ledger does not have, many at once, or a few large ones.

    Attributes:
        stored: How many there were so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._replies: dict[bytes, Reply] = {}
        self._size = 0
        self.stored = 0

    def add(self, key: bytes, reply: Reply) -> None:
        """Takes a reply to be stored, with `flush` at the latest. Raises as `connector.ledger.Ledger.put` does."""
        self._replies[key] = reply
        self._size += reply.size
        if len(self._replies) >= _AT_ONCE or self._size > LARGE:
            self.flush()

    def flush(self) -> None:
        """Stores what is left. Raises as `add` does."""
        for key, _ in replies_of(self._ledger, self._replies):
            del self._replies[key]
        if self._replies:
            self._ledger.put(self._replies.items())
        self.stored += len(self._replies)
        self._replies, self._size = {}, 0


def store(batch: Batch, lines: Iterable[bytes], ledger: Ledger, reader: Reader) -> int:
    """Stores the final replies in lines of answers that the ledger does not have yet. Returns how many these are."""
    storing = Storing(ledger)
    for raw in lines:
        line = reader.read(raw)
        result = None if line is None else reader.result(line, batch)
        if line is not None and isinstance(result, Reply):
            storing.add(line.key, result)
    storing.flush()
    return storing.stored
