"""Realtime sessions that answer one row after the other, each as if it were alone (OpenAI API reference, "Realtime").

What a row adds to the conversation is deleted before the next one asks. A server that does not confirm that keeps its
memory, so it gets a new session for each row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final, NamedTuple

from connector.base.clock import Clock
from connector.base.decoding import loads
from connector.base.errors import ConnectorError, TemplateError
from connector.base.masking import Masker
from connector.base.records import JSON, Reply
from connector.endpoints._realtime_dial import Dialer
from connector.endpoints._realtime_faults import Fault, refused
from connector.endpoints._realtime_response import fold
from connector.endpoints._realtime_socket import Socket
from connector.endpoints._responses_concessions import CONCESSIONS
from connector.endpoints._shapes import listed, mapped, text_or_none
from connector.http.adapter import Settings
from connector.http.deadline import Deadline

_LONGEST_LOOK: Final = 5.0  # seconds that an idle session has to show that it is alive and clean
_APART: Final = frozenset({"model", "input", "text", "stream"})
_in_words: Final = CONCESSIONS["prompt"].made  # a session takes no schema for its replies
_ADDED: Final = frozenset({"conversation.item.added", "conversation.item.created"})


class Row(NamedTuple):
    """A request as a session takes it: the model, the settings of the session, and the items of the conversation."""

    model: str
    settings: dict[str, JSON]
    items: list[dict[str, JSON]]

    @classmethod
    def of(cls, body: dict[str, JSON]) -> Row:
        """Takes a request apart. Raises `TemplateError` where it has no input."""
        body = _in_words(body) or body
        given = body.get("input")
        if isinstance(given, str):
            given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
        if not given or not all(isinstance(item, dict) for item in listed(given) or [None]):
            raise TemplateError("request_format: `input` is neither a text nor a list of items")
        settings = {name: value for name, value in body.items() if name not in _APART}
        if "modalities" not in settings:  # as the output modalities were called before
            settings = {"type": "realtime", "output_modalities": ["text"], **settings}
        return cls(str(body.get("model") or ""), settings, [_item(item) for item in listed(given)])


def _item(item: dict[str, JSON]) -> dict[str, JSON]:
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item = {**item, "content": [{"type": kind, "text": content}]}
    return {"type": "message", **item, "id": f"row_{token_hex(12)}"}


class Session:
    """One open session: `settle` it, then `ask`. Both raise `Fault` for an error event, and what `Socket` raises."""

    def __init__(self, socket: Socket, model: str) -> None:
        self.asked = model
        self.headers = {name: value for name, value in socket.headers.items() if name == "x-request-id"}
        self._socket = socket
        self._model = model
        self._settings: frozenset[str] = frozenset()
        self._items: set[str] = set()

    def settle(self, settings: dict[str, JSON], deadline: Deadline) -> bool:
        """Deletes what the row before has left and sets what the next one needs; whether all of that was confirmed."""
        if self._settings - settings.keys():
            return False  # a setting can be changed, but not taken back
        self._settings = frozenset(settings)
        self._socket.deadline = deadline
        deletions = [{"type": "conversation.item.delete", "item_id": item} for item in self._items]
        self._socket.send(*deletions, {"type": "session.update", "session": settings})
        while (event := self._next())["type"] != "session.updated":
            if event["type"] == "conversation.item.deleted":
                self._items.discard(str(event.get("item_id")))
            elif event["type"] == "session.created":
                self._model = text_or_none(mapped(event.get("session")).get("model")) or self._model
        return not self._items

    def ask(self, items: list[dict[str, JSON]], deadline: Deadline) -> dict[str, Any]:
        """The response to these items, in the shape that the Responses API has for it."""
        self._socket.deadline = deadline
        self._items = {str(item["id"]) for item in items}
        creations = [{"type": "conversation.item.create", "item": item} for item in items]
        self._socket.send(*creations, {"type": "response.create"})
        body, _ = fold(self._events())
        self._items |= {str(item["id"]) for item in map(mapped, listed(body.get("output"))) if item.get("id")}
        if body.get("status") == "failed":
            raise Fault(body.get("error") or {"message": "the response failed without saying why"})
        return {"model": self._model, **body} if self._model else body

    def close(self) -> None:
        """Ends the session."""
        self._socket.close()

    def _events(self) -> Iterator[dict[str, Any]]:
        while (event := self._next())["type"] != "response.done":
            if event["type"] in _ADDED:
                self._items.add(str(mapped(event.get("item")).get("id")))
            elif event["type"] == "rate_limits.updated":
                self.headers |= _limits(event)
            yield event
        yield event

    def _next(self) -> dict[str, Any]:
        event = self._socket.receive()
        if event.get("type") == "error":
            raise Fault(event.get("error"))
        return {**event, "type": str(event.get("type"))}


def _limits(event: dict[str, Any]) -> dict[str, str]:
    """The rate limits of an event as the headers that HTTP replies have for them."""
    headers: dict[str, str] = {}
    for limit in map(mapped, listed(event.get("rate_limits"))):
        for name, header, unit in (("remaining", "remaining", ""), ("reset_seconds", "reset", "s")):
            if isinstance(limit.get(name), int | float):
                headers[f"x-ratelimit-{header}-{limit.get('name')}"] = f"{limit[name]}{unit}"
    return headers


class Sessions:
    """Sends requests over as many sessions as there are threads that call at once, and keeps them for the next rows."""

    def __init__(self, settings: Settings, url: str, mask: Masker, clock: Clock) -> None:
        self._dialer = Dialer(settings, url, mask, clock)
        self._settings = settings
        self._mask = mask
        self._clock = clock
        self._idle: deque[Session] = deque()
        self._is_closed = False

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply: the response, or a refusal of this request alone.

        Raises:
            RetryableError: It may work at another time.
            FatalError: No call of this run can work.
            RecordError: The request cannot be sent, or its reply is final, but nothing that can be read.
        """
        row = Row.of(loads(body))
        started = self._clock.monotonic()
        deadline = self._deadline(self._settings.timeout)
        session = self._alive(row, deadline)
        is_settled = session is not None
        session = session or Session(self._dialer.open(_query(row), deadline), row.model)
        try:
            if not is_settled:
                session.settle(row.settings, deadline)
            response = session.ask(row.items, deadline)
        except Fault as fault:
            session.close()
            took = self._since(started)
            return refused(fault.told, session.headers, took, now=self._clock.time(), mask=self._mask)
        except BaseException:
            session.close()
            raise
        self._idle.append(session)
        if self._is_closed:
            self.close()
        return Reply(200, response, dict(session.headers), self._since(started))

    def close(self) -> None:
        """Ends all sessions; one that still answers a row ends behind it."""
        self._is_closed = True
        while self._idle:
            with suppress(IndexError):  # another thread closes as well
                self._idle.pop().close()
        self._dialer.close()

    def _alive(self, row: Row, deadline: Deadline) -> Session | None:
        """A session that another row has left behind, if it is fit for this one."""
        try:
            session = self._idle.pop()
        except IndexError:
            return None
        fit = False
        try:
            if session.asked == row.model:
                fit = session.settle(row.settings, self._deadline(min(_LONGEST_LOOK, deadline.left() / 2)))
        except (ConnectorError, Fault):
            pass  # closed, expired, or worse: a new one will tell whether it was the session's fault
        finally:
            if not fit:
                session.close()
        return session if fit else None

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, self._settings.connect_timeout, monotonic=self._clock.monotonic)

    def _since(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)


def _query(row: Row) -> dict[str, str]:
    return {"model": row.model} if row.model else {}
