"""One request, sent as it is, for platforms that render requests themselves; its reply comes back as it is.

Requests go to `url` exactly as configured, as JSON that asks for JSON. Somebody waits for the answer, so a retry begins
only within `config.timeout`, and never after a part of the reply has been handed on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import Any, Final, TypeVar

import orjson
from pydantic import SecretStr

from connector import endpoints
from connector.base import numbers
from connector.base.clock import Clock
from connector.base.decoding import Allowance, joined
from connector.base.errors import ConfigError, CutError, NotFoundError, ReplyError, RetryableError
from connector.base.masking import Masker
from connector.base.records import JSON, is_ok
from connector.base.stop import Stop
from connector.calls.client import Client, Stream, whole
from connector.calls.retry import Backoff
from connector.config.config import Config
from connector.endpoints import Endpoint
from connector.http.sse import STARTS, beginning, is_stream
from connector.http.transport import Response, Transport
from connector.replies.inline_errors import error_in
from connector.replies.refusals import error_of, readable
from connector.run.runtime import transport_of

_ACCEPT: Final = {"Accept": SecretStr("application/json")}
_TICK: Final = 0.05  # seconds between looks at whether a wait is still wanted
_SNIFFED: Final = max(map(len, STARTS))

_T = TypeVar("_T")


class Passthrough:
    """Sends requests as they are, from any thread, over connections that stay open until it is closed.

    Raises:
        ConfigError: The URL cannot be called.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._mask = Masker(config.secrets)
        accepting = config.model_copy(update={"headers": {**_ACCEPT, **config.headers}})
        self._transport = transport_of(accepting, self._mask)

    def send(self, payload: JSON, stop: Stop) -> dict[str, Any]:
        """Sends `payload` and returns the body of the reply; a stream is put together.

        Raises:
            ConfigError: `payload` is not JSON.
            ConnectorError: There is no answer, or it is a refusal.
        """
        config, clock = self._config, self._clock
        endpoint = endpoints.load(config.kind)
        client = Client(self._transport, endpoint, config.url, self._mask, clock, decode=numbers.loads)
        reply = _tried(partial(client, _encoded(payload)), config, clock, stop)
        if not is_ok(reply.status):
            raise error_of(reply.status, {}, reply.body, now=clock.time())
        return reply.body

    def stream(self, payload: JSON, stop: Stop) -> Generator[dict[str, Any], None, None]:
        """Sends `payload` and yields each event of the reply as it arrives: the whole reply if it is not a stream.

        Raises as `send` does, at the place where the reply goes wrong.
        """
        body = _encoded(payload)

        def begun() -> Iterator[dict[str, Any]]:
            return _begun(_events(self._transport, self._config, body, self._clock, self._mask))

        for event in _joined(_tried(partial(self._transport.auth.attempt, begun), self._config, self._clock, stop)):
            yield event
            if stop.reason is not None:
                raise stop.reason

    def close(self) -> None:
        """Closes its connections; those in use are closed once their replies are there."""
        self._transport.close()


def send(config: Config, payload: JSON, *, clock: Clock, stop: Stop) -> dict[str, Any]:
    """Sends one request; see `Passthrough.send`."""
    with closing(Passthrough(config, clock)) as line:
        return line.send(payload, stop)


def stream(config: Config, payload: JSON, *, clock: Clock, stop: Stop) -> Generator[dict[str, Any], None, None]:
    """Sends one request for a stream; see `Passthrough.stream`."""
    with closing(Passthrough(config, clock)) as line:
        yield from line.stream(payload, stop)


def _encoded(payload: JSON) -> bytes:
    try:
        json.dumps(payload, allow_nan=False)  # which orjson would write as null
        return numbers.dumps(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"the payload cannot be sent as JSON: {error}") from None


def _tried(attempt: Callable[[], _T], config: Config, clock: Clock, stop: Stop) -> _T:
    """Tries until there is a reply, no retry is left, or `stop` asks for the end."""
    backoff = Backoff(config.max_retries, config.max_retry_wait, min(config.max_row_seconds, config.config.timeout))
    began, tries = clock.monotonic(), 0
    while True:
        tries += 1
        try:
            return attempt()
        except RetryableError as error:
            wait = backoff.wait(error, tries, clock.monotonic() - began, clock.random)
            if wait is None:
                raise
        except NotFoundError as error:
            if config.is_full_url:
                raise
            hint = f"{error.message}. Requests go to url as it is: set it to {config.endpoint_url}?"
            raise NotFoundError(hint, http_status=error.http_status) from None
        due = clock.monotonic() + wait
        while stop.reason is None and (left := due - clock.monotonic()) > 0:
            time.sleep(min(left, _TICK))
        if stop.reason is not None:
            raise stop.reason


def _begun(reply: Iterator[_T]) -> Iterator[_T]:
    """Returns the same items, the first one fetched already: what fails before it can be tried again."""
    first = list(islice(reply, 1))
    return chain(first, reply)


def _events(transport: Transport, config: Config, body: bytes, clock: Clock, mask: Masker) -> Iterator[dict[str, Any]]:
    """Yields the events of a reply, up to `[DONE]`: nothing after it is worth waiting for."""
    endpoint, most = endpoints.load(config.kind), transport.max_response_bytes
    with closing(transport.post(config.url, body)) as response:
        if not is_ok(response.status):
            raise error_of(response.status, response.headers, response.read(), now=clock.time(), mask=mask)
        chunks, is_events = _sniffed(response)
        if not is_events:
            frame = mask.value(whole(b"".join(chunks), response.headers.get("content-type", ""), mask))
            _check(frame, endpoint, response, clock, mask)
            yield frame
            return
        stream = Stream(chunks, response, body, Allowance(most), endpoint, mask, numbers.loads)
        is_empty = True
        for event in stream:
            frame = mask.value(event)
            _check(frame, endpoint, response, clock, mask)
            yield frame
            is_empty = False
        if stream.failure:
            raise error_of(response.status, response.headers, stream.failure, now=clock.time(), mask=mask)
    if is_empty:
        raise CutError("the endpoint sent an empty stream: is the prompt longer than its context?")
    if not stream.is_complete:
        raise CutError("the stream ended before the reply did")


def _check(frame: dict[str, Any], endpoint: Endpoint, response: Response, clock: Clock, mask: Masker) -> None:
    """Raises the error that a reply, or an event of one, reports."""
    folded = endpoint.fold([frame])
    if failure := error_in(frame) or error_in(folded):
        raise error_of(response.status, response.headers, failure, now=clock.time(), mask=mask)
    broken_off = endpoint.broken_off(folded)
    if broken_off is not None:
        raise CutError(readable(broken_off, mask))


def _sniffed(response: Response) -> tuple[Iterator[bytes], bool]:
    """Returns the chunks of a reply, and whether they are events: by how they begin, else by their content type."""
    chunks = response.chunks()
    head = beginning(chunks, _SNIFFED)
    return chain([head], chunks), is_stream(head, response.headers.get("content-type", ""))


def _joined(replies: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Joins characters that a stream cuts in two: a first half waits for the next text at its place."""
    halves: dict[tuple[str | int, ...], str] = {}
    for event in replies:
        yield event if not halves and _is_storable(event) else _mended(event, halves)


def _is_storable(event: dict[str, Any]) -> bool:
    try:
        orjson.dumps(event)
    except TypeError:
        return False
    return True


def _mended(event: dict[str, Any], halves: dict[tuple[str | int, ...], str]) -> dict[str, Any]:
    def mend(value: JSON, path: tuple[str | int, ...]) -> JSON:
        if isinstance(value, dict):
            return {key: mend(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [mend(each, (*path, place)) for place, each in enumerate(value)]
        if not isinstance(value, str) or not value:
            return value
        text = halves.pop(path, "") + value
        if "\ud800" <= text[-1] <= "\udbff":
            halves[path], text = text[-1], text[:-1]
        return joined([text])

    try:
        return {key: mend(value, (key,)) for key, value in event.items()}
    except RecursionError as error:
        raise ReplyError("the reply is nested too deeply to be handed on", detail=str(error)) from None
