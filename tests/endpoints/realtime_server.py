"""A realtime endpoint on the loopback, as OpenAI's behaves; what it does wrong is up to the text that it is asked.

A row's text may hold a fault in double brackets, as `[[drop]]`. The answer is a function of everything that the model
would see, so a row that leaks into another one changes that one's answer.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.endpoint import answer_to, tokens_in
from tests.patience import PATIENCE

Event = dict[str, Any]
Refusal = Callable[[ServerConnection, Request], Response | None]

_FAULT: Final = re.compile(r"\[\[(\w+)\]\]")
_ERRORS: Final[dict[str, Event]] = {
    "invalid": {"type": "invalid_request_error", "code": "invalid_value", "message": "No such value"},
    "key": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "Wrong key: {key}"},
    "model": {"type": "invalid_request_error", "code": "model_not_found", "message": "No such model"},
    "quota": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "No credit"},
    "limit": {"type": "tokens", "code": "rate_limit_exceeded", "message": "Slow down"},
    "server": {"type": "server_error", "code": None, "message": "It broke"},
    "expired": {"type": "invalid_request_error", "code": "session_expired", "message": "60 minutes are over"},
}


class Realtime:
    """Serves sessions on threads. `deletes`: whether it deletes items when asked, or keeps them without a word."""

    def __init__(
        self, *, deletes: bool = True, context: ssl.SSLContext | None = None, refusal: Refusal | None = None
    ) -> None:
        self.deletes = deletes
        self.handshakes: list[Request] = []
        self.sessions: list[ServerConnection] = []
        self.events: list[Event] = []
        self.asked = Counter[str]()
        self.over = threading.Event()
        self.ended = threading.Semaphore(0)  # released by each session that has ended
        self._refusal = refusal
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=context,
            process_request=self._shake,
            select_subprotocol=_chosen,
            close_timeout=0.1,
            compression=None,
            ping_interval=None,
        )
        self.host = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self.url = f"{'wss' if context else 'ws'}://{self.host}/v1/realtime"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for session in self.sessions:
            _drop(session)
        self._server.shutdown()
        self._thread.join()

    def of(self, kind: str) -> list[Event]:
        """The events of this type that came, in their order."""
        return [event for event in self.events if event["type"] == kind]

    def _shake(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        return self._refusal(connection, request) if self._refusal else None

    def _serve(self, connection: ServerConnection) -> None:
        self.sessions.append(connection)
        session: Event = {"type": "realtime", "model": "gpt-realtime-2"}
        items: dict[str, Event] = {}
        try:
            _send(connection, {"type": "session.created", "session": session})
            for text in connection:
                event = json.loads(text)
                self.events.append(event)
                if event["type"] == "session.update":
                    session |= event["session"]
                    _send(connection, {"type": "session.updated", "session": session})
                elif event["type"] == "conversation.item.create":
                    items[event["item"]["id"]] = event["item"]
                    _send(connection, {"type": "conversation.item.added", "item": event["item"]})
                elif event["type"] == "conversation.item.delete" and self.deletes:
                    items.pop(event["item_id"])
                    _send(connection, {"type": "conversation.item.deleted", "item_id": event["item_id"]})
                elif event["type"] == "response.create":
                    self._respond(connection, items)
        except (ConnectionClosed, OSError):
            pass  # the client has left
        finally:
            self.ended.release()

    def _respond(self, connection: ServerConnection, items: dict[str, Event]) -> None:
        seen = "|".join(part["text"] for item in items.values() for part in item["content"])
        self.asked[seen] += 1
        found = _FAULT.search(seen)
        fault = found[1] if found else ""
        if fault in _ERRORS:
            key = connection.request.headers.get("Authorization", "") if connection.request else ""
            error = {**_ERRORS[fault], "message": _ERRORS[fault]["message"].replace("{key}", key)}
            return _send(connection, {"type": "error", "error": error})
        content = json.dumps({"label": "a"}) if "JSON Schema" in seen else answer_to(seen)
        item = {"id": f"item_{len(self.events)}", "type": "message", "role": "assistant", "status": "completed"}
        events = _response(item, content, tokens_in(seen), fault)
        if fault == "empty":
            connection.send([""] * 5000)
        for _ in range(3000 if fault == "short" else 0):
            connection.send('{"type":"response.text.delta","delta":""}')
        if fault == "ping" and not connection.ping().wait(PATIENCE):
            return _drop(connection)
        if fault == "once" and self.asked[seen] == 1:
            events[-1]["response"] |= {"status": "failed", "status_details": {"error": _ERRORS["limit"]}}
        for event in events:
            if event["type"] == "conversation.item.added":
                items[item["id"]] = event["item"]
            if event["type"] == "response.done" and fault in ("drop", "away", "policy", "trickle", "flood"):
                return self._fail(connection, fault)
            if fault == "fragments":
                text = json.dumps(event)
                connection.send([text[:7], text[7:30], text[30:]])
            else:
                _send(connection, event)
        return None

    def _fail(self, connection: ServerConnection, fault: str) -> None:
        if fault == "drop":
            _drop(connection)
        elif fault == "away":
            connection.close(1011, "it broke")
        elif fault == "policy":
            connection.close(4000, "invalid_request_error.beta_api_shape_disabled")
        elif fault == "flood":
            for _ in range(1000):
                _send(connection, {"type": "response.output_text.delta", "delta": "x" * 100})
        elif fault == "trickle":
            for _ in range(500):  # ten seconds: a client that is still there then has no deadline
                self.over.wait(0.02)
                _send(connection, {"type": "response.output_text.delta", "delta": "x"})
            _drop(connection)


def _response(item: Event, content: str, spent: int, fault: str) -> list[Event]:
    part = {"type": "output_text", "text": content}
    usage = {
        "input_tokens": spent,
        "output_tokens": tokens_in(content),
        "total_tokens": spent + tokens_in(content),
        "input_token_details": {"cached_tokens": 1},
        "output_token_details": {"text_tokens": tokens_in(content)},
    }
    output = [] if fault == "bare" else [{**item, "content": [part]}]
    response: Event = {"id": "resp_1", "object": "realtime.response", "status": "completed"}
    response |= {"output": output, "usage": usage}
    if fault == "cut":
        response |= {"status": "incomplete", "status_details": {"type": "incomplete", "reason": "max_output_tokens"}}
    if fault == "cancelled":
        response |= {"status": "cancelled", "status_details": {"type": "cancelled", "reason": "turn_detected"}}
    if fault == "deep":
        response["metadata"] = json.loads("[" * 150 + "]" * 150)
    limit: Event = {"name": "requests", "limit": 10, "remaining": 0, "reset_seconds": 0.01}
    limits = [limit, *(limit | {"name": name} for name in ("other", ["tokens"], None))]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
        *([{"type": "rate_limits.updated", "rate_limits": limits}] if fault == "limits" else []),
        {"type": "conversation.item.added", "item": {**item, "content": [part]}},
        *({"type": "response.output_text.delta", **place, "delta": piece} for piece in (content[:5], content[5:])),
        *([{"type": "padding", "padding": "x" * 100_000}] if fault == "large" else []),
        *([{"type": "padding", "padding": [{}] * 200}] * 200 if fault == "costly" else []),
        {"type": "response.output_text.done", **place, "text": content},
        {"type": "response.done", "response": response},
    ]


def _drop(connection: ServerConnection) -> None:
    with suppress(OSError):  # which says that it is gone already
        connection.socket.shutdown(socket.SHUT_RDWR)


def _send(connection: ServerConnection, event: Event) -> None:
    connection.send(json.dumps({"event_id": "event_1", **event}))


def _chosen(_: ServerConnection, offered: Any) -> Subprotocol | None:
    return Subprotocol("realtime") if "realtime" in offered else None
