"""Realtime sessions that answer rows one after another, each as if it were alone (OpenAI API reference, "Realtime").

The items that a row adds to the conversation are deleted before the next row is sent. If the server does not confirm
that, it may remember the row, so the next row gets a new session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Any, Final, NamedTuple

from connector.base import numbers
from connector.base.clock import Clock
from connector.base.decoding import TOO_DEEP, DepthError, storable
from connector.base.errors import ConnectorError, CutError, ReplyError, TemplateError
from connector.base.masking import Masker
from connector.base.records import JSON, Reply
from connector.base.room import MODEST, Room
from connector.endpoints._realtime_errors import ErrorEvent, refusal_of
from connector.endpoints._realtime_socket import Dialer, Socket
from connector.endpoints._shapes import as_dict, as_list, text_or_none
from connector.endpoints.realtime import fold
from connector.endpoints.responses import FALLBACKS, broken_off
from connector.http.auth import Fields
from connector.http.deadline import Deadline
from connector.http.preparing import Settings

_LONGEST_SETTLING: Final = 5.0  # seconds in which an idle session has to confirm that it is alive and empty
_NOT_SETTINGS: Final = frozenset({"model", "input", "text", "stream"})
_with_schema_in_input: Final = FALLBACKS["prompt"].apply  # a session takes no schema for its replies
_LIMITS: Final = ("requests", "tokens")
_ADDED: Final = frozenset({"conversation.item.added", "conversation.item.created"})


class SessionRequest(NamedTuple):
    """A request in the parts that a session takes: model, session settings, and conversation items."""

    model: str
    settings: dict[str, JSON]
    items: list[dict[str, JSON]]

    @classmethod
    def of(cls, body: dict[str, JSON]) -> SessionRequest:
        """Splits a request into its parts. Raises `TemplateError` if it has no input."""
        body = _with_schema_in_input(body) or body
        given = body.get("input")
        if isinstance(given, str):
            given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
        if not given or not all(isinstance(item, dict) for item in as_list(given) or [None]):
            raise TemplateError("request_format: `input` is neither a text nor a list of items")
        settings = {name: value for name, value in body.items() if name not in _NOT_SETTINGS}
        if "modalities" not in settings:  # the beta's name for output modalities
            settings = {"type": "realtime", "output_modalities": ["text"], **settings}
        return cls(str(body.get("model") or ""), settings, [_item(item) for item in as_list(given)])


def _item(item: dict[str, JSON]) -> dict[str, JSON]:
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item = {**item, "content": [{"type": kind, "text": content}]}
    return {"type": "message", **item, "id": f"row_{token_hex(12)}"}


class Session:
    """One open session: `settle` it, then `ask`. Both raise `ErrorEvent`, and what `Socket` raises."""

    def __init__(self, socket: Socket, model: str, identity: Fields) -> None:
        self.asked = model
        self.identity = identity
        self.headers = {name: value for name, value in socket.headers.items() if name == "x-request-id"}
        self._socket = socket
        self._model = model
        self._settings: frozenset[str] = frozenset()
        self._items: set[str] = set()

    def settle(self, settings: dict[str, JSON], deadline: Deadline) -> bool:
        """Deletes the items of the previous row and applies settings; returns whether the server confirmed it all."""
        if self._settings - settings.keys():
            return False  # a setting can be changed, but not removed
        self._settings = frozenset(settings)
        self._socket.begin(deadline)
        deletions = [{"type": "conversation.item.delete", "item_id": item} for item in self._items]
        self._socket.send(*deletions, {"type": "session.update", "session": settings})
        while (event := self._next())["type"] != "session.updated":
            if event["type"] == "conversation.item.deleted":
                self._items.discard(str(event.get("item_id")))
            elif event["type"] == "session.created":
                self._model = text_or_none(as_dict(event.get("session")).get("model")) or self._model
        return not self._items

    def ask(self, items: list[dict[str, JSON]], deadline: Deadline) -> dict[str, Any]:
        """Returns the response to these items, in the shape of the Responses API."""
        self._socket.begin(deadline)
        self._items = {str(item["id"]) for item in items}
        creations = [{"type": "conversation.item.create", "item": item} for item in items]
        self._socket.send(*creations, {"type": "response.create"})
        body = fold(self._events())
        self._items |= {str(item["id"]) for item in map(as_dict, as_list(body.get("output"))) if item.get("id")}
        if body.get("status") == "failed":
            raise ErrorEvent(body.get("error") or {"message": "the response failed without saying why"})
        why = broken_off(body)
        if why is not None:
            raise CutError(why)
        try:
            body = storable(body)
        except DepthError as error:
            raise ReplyError(TOO_DEEP, detail=str(error)) from None
        return {"model": self._model, **body} if self._model else body

    @property
    def taken(self) -> int:
        """About how many bytes of memory the events of the last call take."""
        return self._socket.taken

    def close(self) -> None:
        """Closes the session."""
        self._socket.close()

    def _events(self) -> Iterator[dict[str, Any]]:
        while (event := self._next())["type"] != "response.done":
            if event["type"] in _ADDED:
                self._items.add(str(as_dict(event.get("item")).get("id")))
            elif event["type"] == "rate_limits.updated":
                self.headers |= _limits(event)
            yield event
        yield event

    def _next(self) -> dict[str, Any]:
        event = self._socket.receive()
        if event.get("type") == "error":
            raise ErrorEvent(event.get("error"))
        return {**event, "type": str(event.get("type"))}


def _limits(event: dict[str, Any]) -> dict[str, str]:
    """Returns the rate limits of an event as the headers that HTTP replies have."""
    headers: dict[str, str] = {}
    for limit in map(as_dict, as_list(event.get("rate_limits"))):
        for name, header, unit in (("remaining", "remaining", ""), ("reset_seconds", "reset", "s")):
            if limit.get("name") in _LIMITS and isinstance(limit.get(name), int | float):
                headers[f"x-ratelimit-{header}-{limit.get('name')}"] = f"{limit[name]}{unit}"
    return headers


class Sessions:
    """A pool of sessions: each call takes an idle one or opens one, and returns it for later rows."""

    def __init__(self, settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None) -> None:
        self._dialer = Dialer(settings, url, mask, clock)
        self._settings = settings
        self._mask = mask
        self._clock = clock
        self._room = room
        self._idle: deque[Session] = deque()
        self._is_closed = False

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply: the response, or a refusal of this request alone.

        Raises:
            RetryableError: It may work later.
            FatalError: No call of this run can work.
            RecordError: The request cannot be sent, or its reply is final but cannot be read.
        """
        try:
            return self._settings.auth.attempt(partial(self._ask, SessionRequest.of(numbers.loads(body))))
        except ConnectorError as error:
            self._mask.error(error)
            raise

    def _ask(self, request: SessionRequest) -> Reply:
        identity = self._settings.auth.fields()
        started = self._clock.monotonic()
        deadline = self._deadline(self._settings.timeout)
        session = self._reused(request, identity, deadline)
        is_settled = session is not None
        session = session or Session(self._dialer.open(_query(request), identity, deadline), request.model, identity)
        try:
            if not is_settled:
                session.settle(request.settings, deadline)
            response = session.ask(request.items, deadline)
        except ErrorEvent as event:
            session.close()
            took = self._since(started)
            headers = self._mask.fields(session.headers)
            return refusal_of(event.error, headers, took, now=self._clock.time(), mask=self._mask)
        except BaseException:
            session.close()
            raise
        self._idle.append(session)
        if self._is_closed:
            self.close()
        headers = self._mask.fields(session.headers)
        reply = Reply(200, self._mask.value(response), headers, self._since(started))
        if self._room is None or session.taken <= MODEST:
            return reply
        self._room.enter(session.taken)
        return reply._replace(size=session.taken)

    def close(self) -> None:
        """Closes all sessions; one that is answering a row closes after that."""
        self._is_closed = True
        while self._idle:
            with suppress(IndexError):  # another thread is closing too
                self._idle.pop().close()
        self._dialer.close()

    def _reused(self, request: SessionRequest, identity: Fields, deadline: Deadline) -> Session | None:
        """Returns an idle session, settled, if its model and key are those of this request; else `None`."""
        try:
            session = self._idle.pop()
        except IndexError:
            return None
        fit = False
        try:
            if (session.asked, session.identity) == (request.model, identity):
                fit = session.settle(request.settings, self._deadline(min(_LONGEST_SETTLING, deadline.left() / 2)))
        except (ConnectorError, ErrorEvent):
            pass  # closed or expired: a new session shows whether the request is at fault
        finally:
            if not fit:
                session.close()
        return session if fit else None

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, self._settings.connect_timeout, monotonic=self._clock.monotonic)

    def _since(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)


def _query(request: SessionRequest) -> dict[str, str]:
    return {"model": request.model} if request.model else {}
