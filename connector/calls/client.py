"""One call: sends a rendered body to the endpoint and returns its final reply, whole or streamed."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any, Final

from connector.base import numbers
from connector.base.charsets import decoded_text
from connector.base.clock import Clock
from connector.base.decoding import SMALL, TOO_DEEP, Allowance, DepthError, loads, weight_of_reply
from connector.base.errors import APITimeoutError, ConnectorError, CutError, ReplyError
from connector.base.masking import Masker
from connector.base.records import Reply, is_ok
from connector.base.regex import regex
from connector.base.room import MODEST, Room
from connector.calls.judging import kept, reply_of
from connector.endpoints import MOMENT, Endpoint
from connector.http.http1 import inflated, too_large
from connector.http.sse import DONE, ERROR, beginning, events, is_stream
from connector.http.transport import Response, Transport, joined_chunks
from connector.replies.inline_errors import error_in
from connector.replies.refusals import read_error, readable

_HEAD: Final = 256
_LAST: Final = regex(rb"[\r\n]data: ?\[DONE\]")
_SIGNS_OF_LIFE: Final = frozenset({"ping", "keepalive", "heartbeat"})  # types of events without a name
_READ: Final = 2**16
_FASTEST: Final = 1  # zlib's level: events are so similar that even this makes a stream ten times smaller


class Client:
    """Calls one endpoint, and again with a new key if it refuses one. Thread-safe, since it is immutable.

    Args:
        transport: The transport for the calls.
        endpoint: The endpoint's kind, which folds streams.
        url: Where requests go.
        mask: Removes secrets from what the endpoint says.
        room: The memory that large replies share: they enter before they are decoded, and their receiver leaves it.
        decode: Decodes the JSON of replies; by default, as the kind does.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        url: str,
        mask: Masker,
        clock: Clock,
        room: Room | None = None,
        decode: Callable[[bytes | str], Any] | None = None,
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._url = url
        self._mask = mask
        self._clock = clock
        self._room = room
        self._decode = decode or endpoint.decode

    def __call__(self, body: bytes) -> Reply:
        """Sends `body` and returns the final reply: a 2xx whose body is an object, or a refusal of this request alone.

        Raises:
            RetryableError: It may work later.
            FatalError: No call of this run can work.
            RecordError: The request cannot be sent, or its reply is final, but cannot be read.
        """
        content_type, data = self._endpoint.encode(body)
        return self._transport.auth.attempt(partial(self._call, data, content_type))

    def close(self) -> None:
        """Closes the connections of its transport."""
        self._transport.close()

    def _call(self, data: bytes, content_type: str) -> Reply:
        started = self._clock.monotonic()
        response: Response | None = None
        entered: list[int] = []
        try:
            response = self._transport.post(self._url, data, content_type)
            content = self._read(response, entered, data)
            reply = reply_of(
                response.status,
                response.headers,
                content,
                self._endpoint,
                self._mask,
                now=self._clock.time(),
                latency_ms=int((self._clock.monotonic() - started) * 1000),
                sends=response.sends,
            )
            return reply._replace(size=_handed_over(entered)) if entered and reply.body is content else reply
        except ConnectorError as error:
            error.sends = response.sends if response else error.sends
            self._mask.error(error)
            raise
        finally:
            if entered and self._room:
                self._room.leave(sum(entered))
            if response:
                response.close()

    def _read(self, response: Response, entered: list[int], request: bytes) -> dict[str, Any]:
        kind, most = response.headers.get("content-type", "").lower(), self._transport.max_response_bytes
        if not is_ok(response.status):
            return {"error": _beginning(response.chunks(), kind, self._mask)}
        if "event-stream" in kind:
            chunks = response.chunks(Allowance(most).most)
            head = beginning(chunks)
            if is_stream(head, kind):
                return self._folded(chain((head,), chunks), response, entered, request)
            data = joined_chunks(chain((head,), chunks), most)
        else:
            data = response.read()
            if not data.startswith(b"{") and is_stream(data[:_HEAD], kind):
                return self._folded(iter([data]), response, entered, request)
        if weight := weight_of_reply(data, most):
            self._enter(weight, response, entered)
        try:
            body = self._decode(data)
        except ValueError:
            body = None
        if isinstance(body, dict):
            return kept(body, self._mask, data)
        return kept(whole(data, kind, self._mask), self._mask)

    def _enter(self, size: int, response: Response, entered: list[int]) -> None:
        """Waits for room for a reply, after reading it to its end, so that its connection does not have to wait."""
        if self._room:
            response.close()
            self._room.enter(size)
            entered.append(size)

    def _afforded(
        self, chunks: Iterator[bytes], allowance: Allowance, response: Response, entered: list[int]
    ) -> Iterator[bytes]:
        """Yields the chunks of a stream. The rest of a large one is kept compressed until there is room for all of it.

        The limit on a reply's size applies to its compressed form, as streams of short pieces repeat themselves. An
        error is raised after the chunks before it, which may contain the end of the reply.
        """
        for chunk in chunks:
            allowance.count(chunk)
            if allowance.taken > MODEST:
                break
            yield chunk
        else:
            return
        most, packer = self._transport.max_response_bytes, zlib.compressobj(_FASTEST)
        rest = _hurried(chain((chunk,), chunks), response)
        packed = deque([packer.compress(next(rest))])
        size = len(packed[0])
        failure: ConnectorError | None = None
        try:
            for chunk in rest:
                allowance.count(chunk)
                packed.append(packer.compress(chunk))
                size += len(packed[-1])
                if size > most:
                    raise too_large(most)
        except ConnectorError as error:
            failure = error
        packed.append(packer.flush())
        self._enter(min(allowance.taken, allowance.most), response, entered)
        yield from inflated(_taken(packed), "deflate")
        if failure is not None:
            raise failure

    def _folded(
        self, chunks: Iterator[bytes], response: Response, entered: list[int], request: bytes
    ) -> dict[str, Any]:
        """Folds a stream into a whole reply."""
        allowance = Allowance(self._transport.max_response_bytes)
        afforded = self._afforded(chunks, allowance, response, entered)
        stream = Stream(afforded, response, request, allowance, self._endpoint, self._mask, self._decode)
        body = self._endpoint.fold(stream)
        response.hurry(MOMENT)
        with suppress(ConnectorError):  # what follows has no effect, nor has a lost connection
            deque(chunks, maxlen=0)  # for the connection's sake: it can then be used again
        if stream.failure:
            return kept(stream.failure, self._mask)
        if not body and not stream.is_done:
            raise CutError("the endpoint sent an empty stream: is the prompt longer than its context?")
        if not stream.is_complete:
            raise CutError("the stream ended before the reply did")
        return kept(body, self._mask)


class Stream:
    """The events of a stream, up to its end. Raises `CutError` if that is in the middle of an event.

    Once only the usage is still to come, the rest is waited for a moment only, as some servers never end a stream; and
    it may be lost.

    Attributes:
        is_done: Whether `[DONE]` has come.
        failure: The error event that has come, if any.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        response: Response,
        request: bytes,
        allowance: Allowance,
        endpoint: Endpoint,
        mask: Masker,
        decode: Callable[[bytes | str], Any],
    ) -> None:
        self._chunks = chunks
        self._response = response
        self._end = endpoint.end_of_stream(request)
        self._allowance = allowance
        self._endpoint = endpoint
        self._decode = decode
        self._mask = mask
        self.is_done = False
        self.failure: dict[str, Any] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the stream may end here."""
        return self.is_done or self._end.is_complete

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._events()
        except (CutError, APITimeoutError):
            if self._end.patience is None:
                raise

    def _patient(self) -> Iterator[bytes]:
        """Yields the chunks, and waits for the next one only as long as it may be worth."""
        for chunk in self._chunks:
            yield chunk
            self._response.hurry(self._end.patience)

    def _events(self) -> Iterator[dict[str, Any]]:
        is_chunk, follow, most = self._endpoint.is_chunk, self._end.follow, self._allowance.most_bytes
        broken = b""
        for data, name in events(self._patient(), most):
            content = data.strip()
            if not content and name != ERROR:
                continue
            if broken:
                told = _shown(broken, self._mask)
                raise ReplyError(f"the stream holds an event that is not JSON: {told}")
            if content == DONE:
                self.is_done = True
                break
            if name == ERROR:
                self.failure = error_in_event(content)
                break
            if len(content) > SMALL:
                Allowance(most).take(content)
            try:
                frame = loads(content, self._decode)
            except DepthError as error:
                raise ReplyError(TOO_DEEP, detail=str(error)) from None
            except ValueError:
                broken = content
                continue
            if not isinstance(frame, dict):
                raise ReplyError(f"the stream holds an event that is not an object: {_shown(content, self._mask)}")
            if self._allowance.taken > MODEST:
                self._allowance.keep(frame)
            if not frame or "error" in frame or not is_chunk(frame) or frame.get("type") == "error":
                if is_sign_of_life(frame):
                    continue
                self.failure = failure_of(frame, self._endpoint)
                if self.failure:
                    break
            follow(frame)
            yield frame
        if broken:
            raise CutError("the stream was cut in the middle of an event", detail=_shown(broken, self._mask))


def _hurried(chunks: Iterator[bytes], response: Response) -> Iterator[bytes]:
    """Yields the chunks of a stream, and waits only a moment for what follows its last event."""
    tail = b""
    for chunk in chunks:
        tail += chunk
        if _LAST.search(tail):
            response.hurry(MOMENT)
        tail = tail[-_HEAD:]
        yield chunk


def _taken(parts: deque[bytes]) -> Iterator[bytes]:
    while parts:
        if part := parts.popleft():
            yield part


def _handed_over(entered: list[int]) -> int:
    """Returns how much of the room was taken, and hands the duty to leave it to the receiver of the reply."""
    size = sum(entered)
    entered.clear()
    return size


def error_in_event(data: bytes) -> dict[str, Any]:
    """Returns the data of an event named `error`, of any shape, as an error body."""
    try:
        told = loads(data)
    except ValueError:
        told = data.decode("utf-8", "replace")
    found = error_in(told) if isinstance(told, dict) else {}
    return found or {"error": told or "an error event without a message"}


def failure_of(frame: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """Returns the error body of an event of a stream; an empty one for a chunk.

    An event that is neither is taken as an error in its own words, and makes the text before it suspect: servers report
    failures as `{"code", "message"}`, `{"detail"}` and in many other shapes.
    """
    return error_in(frame) or ({} if endpoint.is_chunk(frame) else {"error": frame})


def is_sign_of_life(frame: dict[str, Any]) -> bool:
    """Returns whether an event is only a sign of life: an empty object, or a ping by its type."""
    kind = frame.get("type")
    return not frame or (isinstance(kind, str) and kind in _SIGNS_OF_LIFE)


def whole(data: bytes, content_type: str, mask: Masker) -> dict[str, Any]:
    """Decodes the JSON object of a reply or of one of its events. Lone surrogates are kept.

    Raises:
        CutError: Its JSON ends too early.
        ReplyError: It is not a JSON object.
    """
    try:
        content = loads(data, numbers.loads)
    except ValueError:
        content = _decoded(data, content_type, mask)
    if isinstance(content, dict):
        return content
    if isinstance(content, list) and content and isinstance(content[0], dict) and (told := error_in(content[0])):
        return told  # Google's errors are in a list
    raise ReplyError(f"the reply is JSON, but not an object: {_shown(data, mask)}")


def _decoded(data: bytes, content_type: str, mask: Masker) -> Any:
    """Decodes JSON that is not plain UTF-8: in another charset, or after a byte order mark.

    Raises:
        CutError: The JSON ends too early.
        ReplyError: It is not JSON, or not valid in its charset.
    """
    text, is_sure = decoded_text(data, content_type)
    try:
        value = loads(text.removeprefix("\ufeff"))
    except DepthError as error:
        raise ReplyError(TOO_DEEP, detail=str(error)) from None
    except ValueError as error:
        if text.lstrip()[:1] == "{" and text.rstrip()[-1:] != "}":
            raise CutError("the reply was cut in the middle of its JSON", detail=str(error)) from None
        if not text.strip():
            raise ReplyError("the reply is empty") from None
        message = readable(read_error(text, mask).message, mask)
        told = f"the reply is not JSON but {message!r}: does url point to an API?"
        raise ReplyError(told, detail=str(error)) from None
    if not is_sure:
        raise ReplyError("the reply is not valid text in its charset: have the server send UTF-8")
    return value


def _beginning(chunks: Iterator[bytes], content_type: str, mask: Masker) -> str:
    """Returns the beginning of an error's text, long enough to hold a message, without half of a secret at its end."""
    told = BytesIO()
    for chunk in chunks:
        told.write(chunk)
        if told.tell() > MODEST:
            break
    text, _ = decoded_text(told.getvalue(), content_type)
    return mask.cut(text, len(text) - _READ) if told.tell() > MODEST else text


def _shown(data: bytes, mask: Masker) -> str:
    return readable(mask.cut(decoded_text(data[: 2 * _READ])[0], _READ), mask)
