"""Large replies that are decoded and wait share one room, and leave it whatever becomes of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from connector import Connector, endpoints
from connector.base import numbers
from connector.base.clock import Clock
from connector.base.errors import ConnectorError
from connector.base.masking import Masker
from connector.base.room import Room
from connector.calls.client import Client
from connector.http.transport import Settings, Transport
from connector.run import runtime
from tests.endpoint import Action, Endpoint
from tests.patience import PATIENCE

OK = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}
LARGE = json.dumps(OK | {"more": [{"a": "b"}] * 8_000}).encode()


def event(choice: dict[str, Any]) -> bytes:
    """An event of a stream."""
    return (
        b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).replace("1.1", "1.10").encode() + b"\n\n"
    )


def streamed(text: str, probabilities: int) -> bytes:
    """A stream of one text, piece by piece, each with so many probabilities."""
    content = [{"token": "a", "logprob": -1.1, "top_logprobs": []}] * probabilities
    pieces = [{"delta": {"content": piece}, "logprobs": {"content": content}} for piece in text]
    last = event({"delta": {}, "finish_reason": "stop"})
    return b"".join(map(event, pieces)) + last + b"data: [DONE]\n\n"


def whole(body: bytes) -> Action:
    """An answer with this body."""
    kind = "text/event-stream" if body.startswith(b"data:") else "application/json"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Action("large", [head.encode() + body])


class Watched(Room):
    """A room that knows how full it has been."""

    def __init__(self, most: float) -> None:
        super().__init__(most)
        self.fullest = self.entered = 0

    def enter(self, size: int) -> None:
        super().enter(size)
        self.fullest, self.entered = max(self.fullest, self.taken), self.entered + 1


def test_no_more_is_taken_than_there_is_room_for() -> None:
    room, random = Watched(100), Random(7)
    sizes = [random.randrange(1, 60) for _ in range(400)]

    def stay() -> None:
        while sizes:
            size = sizes.pop()
            room.enter(size)
            room.leave(size)

    threads = [threading.Thread(target=stay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert room.entered == 400
    assert room.fullest <= 100
    assert room.taken == 0


def test_one_always_fits_however_large_it_is() -> None:
    room = Room(10)
    room.enter(1000)
    room.leave(1000)
    room.enter(1000)
    assert room.taken == 1000


def test_once_it_is_closed_nobody_waits() -> None:
    room = Room(10)
    room.enter(10)
    waiting = threading.Thread(target=room.enter, args=(10,))
    waiting.start()
    room.close()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """The rooms of runs, which are small."""
    found: list[Watched] = []

    def opened(_most: float) -> Watched:
        found.append(Watched(3 * len(LARGE)))
        return found[-1]

    monkeypatch.setattr(runtime, "Room", opened)
    return found


@pytest.mark.parametrize("body", [LARGE, streamed("ok" * 50, 100)], ids=["whole", "streamed"])
def test_large_replies_that_wait_share_one_room(rooms: list[Watched], body: bytes) -> None:
    with Endpoint(lambda _: whole(body)) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "{{ n }}", "concurrency": 16, "cache": "none"}
        done = [row["_llm"]["status"] for row in Connector(config).enrich({"n": str(n)} for n in range(40))]
    assert done == ["success"] * 40
    (room,) = rooms
    assert room.entered == 40
    assert room.taken == 0
    assert room.fullest < 20 * len(body), "one reply decoded, as this room counts"


def test_a_stream_reads_the_same_whether_it_enters_the_room_or_not() -> None:
    text = "Grüße 🦊, {3.10} is 12345678901234567890. "
    replies = []
    for probabilities in (1, 400):
        body, room = streamed(text, probabilities), Room(10)
        with Endpoint(lambda _, body=body: whole(body)) as endpoint:  # type: ignore[misc]  # of this turn
            transport = Transport(Settings(timeout=10))
            client = Client(transport, endpoints.load("chat"), endpoint.url, Masker(()), Clock(), room)
            replies.append(client(b'{"messages": []}'))
            client.close()
        assert numbers.dumps(replies[-1].body).count(b"-1.10") == probabilities * len(text)
    assert [reply.body["choices"][0]["message"]["content"] for reply in replies] == [text] * 2
    assert [reply.size > 0 for reply in replies] == [False, True]


def test_a_large_reply_stays_until_its_row_has_been_handed_on(rooms: list[Watched]) -> None:
    with Endpoint(lambda _: whole(json.dumps(OK | {"more": [{"a": "b"}] * 30_000}).encode())) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "{{ n }}", "concurrency": 1, "cache": "none"}
        rows = iter(Connector(config).enrich([{"n": "1"}]))
        next(rows)
        assert rooms[0].taken > 0
        assert not list(rows)
    assert rooms[0].taken == 0


def test_a_consumer_that_stops_leaves_no_worker_behind(rooms: list[Watched]) -> None:
    with Endpoint(lambda _: whole(LARGE)) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "{{ n }}", "concurrency": 8, "cache": "none"}
        rows: Iterator[Any] = iter(Connector(config).enrich({"n": str(n)} for n in range(40)))
        next(rows)
        rows.close()  # type: ignore[attr-defined]  # it is a generator
    assert rooms[0].taken == 0


@pytest.mark.parametrize(
    "body",
    [
        LARGE[:-1],
        b"[" + LARGE + b"]",
        b'{"error": ' + LARGE + b"}",
        LARGE.replace(b"{", b'{"error": "overloaded", ', 1),
        streamed("ok" * 50, 100) + b"data: {",
        streamed("ok" * 50, 100) + b"data: {\n\ndata: {}\n\n",
        streamed("ok" * 50, 100).replace(b"[DONE]", b'{"error": "overloaded"}'),
    ],
    ids=[
        "no JSON",
        "no object",
        "an error of an unknown shape",
        "an error beside an answer",
        "a stream that is cut",
        "a stream with an event that is no JSON",
        "a stream with an error",
    ],
)
def test_whatever_goes_wrong_with_a_reply_it_leaves(body: bytes) -> None:
    room = Watched(10)
    with Endpoint(lambda _: whole(body)) as endpoint:
        transport = Transport(Settings(timeout=10))
        client = Client(transport, endpoints.load("chat"), endpoint.url, Masker(()), Clock(), room)
        try:
            room.leave(client(b'{"messages": []}').size)
        except ConnectorError:
            pass
        finally:
            client.close()
    assert room.entered == 1
    assert room.taken == 0


def test_small_replies_enter_no_room(rooms: list[Watched], endpoint: Endpoint) -> None:
    list(Connector({"url": endpoint.url, "model": "m", "prompt": "{{ n }}"}).enrich([{"n": "1"}]))
    assert rooms[0].entered == 0
