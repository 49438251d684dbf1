"""One call: a rendered body goes to the endpoint, and its final reply comes back, whole or streamed."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

from connector.clock import Clock
from connector.endpoints import Endpoint
from connector.errors import CutError, FatalError, ReplyError, RetryableError
from connector.faults import error_of, read_fault
from connector.masking import Masker
from connector.records import Reply
from connector.sse import DONE, events
from connector.transport import Response, Transport
from connector.values import loads

_OK: Final = range(200, 300)
_SSE_STARTS: Final = (b"data:", b"event:", b":")
_SHOWN: Final = 200


class Client:
    """Calls one endpoint. Thread-safe, since it only holds what never changes.

    Args:
        transport: What carries the calls.
        endpoint: The endpoint's kind, which folds streams.
        url: Where requests go.
        mask: Takes the secrets out of what the endpoint says.
    """

    def __init__(self, transport: Transport, endpoint: Endpoint, url: str, mask: Masker, clock: Clock) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._url = url
        self._mask = mask
        self._clock = clock

    def __call__(self, body: bytes) -> Reply:
        """Sends `body` and returns the final reply: a 2xx whose body is an object, or a refusal of this request alone.

        Raises:
            RetryableError: It may work at another time.
            FatalError: No call of this run can work.
            ReplyError: The reply is final, but nothing that can be read.
        """
        started = self._clock.monotonic()
        response = self._transport.post(self._url, body)
        try:
            content = self._read(response)
            if response.status in _OK and not content.get("error"):
                latency = int((self._clock.monotonic() - started) * 1000)
                return Reply(response.status, content, dict(response.headers), latency)
            return self._refused(response, content, started)
        finally:
            response.close()

    def _read(self, response: Response) -> dict[str, Any]:
        if response.status not in _OK:
            return {"error": response.read()}
        kind = response.headers.get("content-type", "")
        if "event-stream" in kind:
            return self._folded(response.chunks())
        data = response.read()
        if data.lstrip()[:6].startswith(_SSE_STARTS):
            return self._folded(iter([data]))
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError:
            content = _decoded(data, kind)
        if isinstance(content, dict):
            return content
        raise ReplyError(f"the reply is JSON, but not an object: {_shown(data, self._mask)}")

    def _folded(self, chunks: Iterator[bytes]) -> dict[str, Any]:
        """Folds a stream into a whole reply."""
        stream = _Stream(chunks)
        body, complete = self._endpoint.fold(stream)
        if stream.failure:
            return stream.failure
        if stream.broken:
            raise CutError("the stream was cut in the middle of an event", detail=_shown(stream.broken, self._mask))
        if not body and not stream.is_done:
            raise CutError("the endpoint sent an empty stream: is the prompt longer than its context?")
        if not (stream.is_done or complete):
            raise CutError("the stream ended before the reply did")
        return _clean(body)

    def _refused(self, response: Response, content: dict[str, Any], started: float) -> Reply:
        """Raises what the run has to act on; a refusal of this request alone is a final reply, worth keeping."""
        told = content["error"] if response.status not in _OK else content
        error = error_of(response.status, response.headers, told, now=self._clock.time(), mask=self._mask)
        if isinstance(error, FatalError | RetryableError):
            raise error
        fault = read_fault(told)
        kept = {"message": self._mask(fault.message), "type": fault.type, "code": fault.code}
        latency = int((self._clock.monotonic() - started) * 1000)
        status = error.http_status or response.status
        return Reply(status, {"error": kept}, dict(response.headers), latency)


class _Stream:
    """The JSON objects of a stream, read to its very end so that the connection can be used again.

    `is_done`: `[DONE]` has come. `failure`: an error object has. `broken`: the last event is no JSON, so it was cut.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.is_done = False
        self.failure: dict[str, Any] = {}
        self.broken = b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for data in events(self._chunks):
            if self.broken:
                raise ReplyError("the stream holds an event that is not JSON", detail=repr(self.broken[:_SHOWN]))
            if self.is_done or data.strip() == DONE:
                self.is_done = True
                continue
            try:
                frame = loads(data)
            except ValueError:
                self.broken = data
                continue
            if not isinstance(frame, dict):
                raise ReplyError("the stream holds an event that is not an object", detail=repr(data[:_SHOWN]))
            if frame.get("error"):
                self.failure = self.failure or frame
            elif not self.failure:
                yield frame


def _decoded(data: bytes, content_type: str) -> Any:
    """Decodes what plain UTF-8 JSON is not: another charset, a BOM, halves of a surrogate pair.

    Raises:
        CutError: The JSON ends too early.
        ReplyError: It is not JSON.
    """
    text = data.decode(_charset(data, content_type), "replace")
    try:
        return _clean(loads(text.removeprefix("\ufeff")))
    except ValueError as error:
        if text.lstrip()[:1] == "{" and text.rstrip()[-1:] != "}":
            raise CutError("the reply was cut in the middle of its JSON", detail=str(error)) from None
        if not text.strip():
            raise ReplyError("the reply is empty") from None
        told = read_fault(text).message[:_SHOWN]
        raise ReplyError(f"the reply is not JSON but {told!r}: does url point to an API?", detail=str(error)) from None


def _charset(data: bytes, content_type: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    named = content_type.lower().partition("charset=")[2].split(";")[0].strip("\"' ")
    try:
        return codecs.lookup(named).name
    except LookupError:
        return "utf-8"


def _clean(body: Any) -> Any:
    """Makes sure that a body can be stored: a lone half of a character becomes the replacement character."""
    try:
        orjson.dumps(body)
    except TypeError:
        return loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    return body


def _shown(data: bytes, mask: Masker) -> str:
    return mask(data[:_SHOWN].decode("utf-8", "replace"))
