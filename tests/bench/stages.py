"""The stages of `tests.bench.path`: each is the real function, called for a whole table with nothing else going on."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from types import SimpleNamespace
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson

from connector import endpoints, engines, stores
from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.records import Checkpoint, Record, Reply
from connector.calls.call import Call
from connector.calls.client import Client
from connector.config.config import Config
from connector.http.auth import KEYLESS
from connector.http.deadline import Deadline
from connector.http.http1 import chunked
from connector.http.transport import Response, Transport
from connector.ledger.sqlite import SqliteLedger
from connector.run.checkpoint import Watermark
from connector.run.plan import Plan
from connector.run.runtime import Runtime, transport_of
from connector.stores.staging.position import INTERVAL
from tests.bench.harness import EVENTS, Bench
from tests.bench.peers import KEY
from tests.bench.processes import Stub
from tests.bench.stub import streamer, whole

FLIGHT: Final = 64
BATCH: Final = 200  # as in connector.run.pipeline


class Canned(Transport):
    """A transport that has its answer already."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.auth = KEYLESS
        lines = head.decode().split("\r\n")[1:]
        headers = dict(line.split(": ", 1) for line in lines if line)
        self._raw: Any = SimpleNamespace(
            status=200, headers=headers, whole=lambda: None, stream=lambda: iter([body]), close=lambda: None
        )

    @property
    def max_response_bytes(self) -> int:
        return 1 << 24

    def post(self, url: str, body: object, content_type: str = "", deadline: object = None) -> Response:
        del url, body, content_type, deadline
        return Response(self._raw, self.max_response_bytes, RuntimeError, Deadline(60))  # type: ignore[arg-type]  # never asked


class Sample:
    """A table on each stage of its way; a context manager. Every method takes all of its rows through one stage."""

    def __init__(self, bench: Bench, stub: Stub, rows: int) -> None:
        source = bench.table(rows)
        self._store = stores.load("files")
        self._options = self._store.Options(path=str(source))
        self._directory = bench.directory
        self._names = count()
        self._stack = ExitStack()
        config = Config.load(bench.config(stub, FLIGHT))
        self.plan = Plan(config, ["id", "text"])
        lines = source.read_bytes().splitlines()
        self.records = [Record(index, orjson.loads(line)) for index, line in enumerate(lines)]
        self.bodies = [self.plan.requests.body(record.data) for record in self.records]
        self.keys = [self.plan.requests.key(body) for body in self.bodies]
        head, _, body = whole(b"a reply of a few words").partition(b"\r\n\r\n")
        self.reply = Reply(200, orjson.loads(body), {"x-request-id": "req_1"}, 200)
        self.outcomes = [
            self.plan.outcomes.of(record, self.reply, key) for record, key in zip(self.records, self.keys, strict=True)
        ]
        self._transport = transport_of(config, Masker())
        kind = endpoints.load(config.kind)
        self._client = Client(Canned(head, body), kind, self.plan.url, Masker([KEY]), Clock())
        head, _, body = streamer(EVENTS)(b"a reply of a few words").partition(b"\r\n\r\n")
        events = b"".join(chunked(body, bytes))
        self._streaming = Client(Canned(head, events), kind, self.plan.url, Masker([KEY]), Clock())

    def __enter__(self) -> Self:
        self._stack.callback(self._transport.close)
        self._filled = self._stack.enter_context(SqliteLedger(self._directory / "filled.ledger"))
        self._opened = self._stack.enter_context(self._store.source(self._options))
        self._filled.put((key[::-1], self.reply) for key in self.keys)
        self._filled.stats()  # which writes down where they all are, as the end of a run does
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self) -> None:
        """Input file to records."""
        with self._store.source(self._options) as source:
            deque(source.read(), maxlen=0)

    def render(self) -> None:
        """Record to request body."""
        for record in self.records:
            self.plan.requests.body(record.data)

    def hash(self) -> None:
        """Request body to key."""
        for body in self.bodies:
            self.plan.requests.key(body)

    def look_up(self) -> None:
        """Keys in a ledger that has as many others."""
        for keys in self._batches(self.keys):
            self._filled.get(keys)

    def recall(self) -> None:
        """Keys that are in the ledger."""
        for keys in self._batches([key[::-1] for key in self.keys]):
            assert len(self._filled.get(keys).known) == len(keys)

    def hand_over(self) -> None:
        """Calls through the engine's threads, with an endpoint that takes no time."""
        calls = (
            Call(key, body, [record]) for key, body, record in zip(self.keys, self.bodies, self.records, strict=True)
        )
        with Runtime(self.plan, None) as runtime:
            deque(engines.load().run(calls, lambda _: self.reply, runtime.control), maxlen=0)

    def send(self) -> None:
        """Request body to reply body, over a socket."""
        for body in self.bodies:
            self._transport.post(self.plan.url, body).read()

    def bare_socket(self) -> None:
        """The same exchange on a bare socket, with nothing done about it: the floor of `send`."""
        address = urlsplit(self.plan.url)
        head = "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n"
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for body in self.bodies:
                connection.send(head.format(address.path, address.netloc, len(body)).encode() + body)
                connection.recv(1 << 16)

    def plain_json(self) -> None:
        """A row's JSON, written and read once, and a little plain Python."""
        for record in self.records:
            line = orjson.dumps({**record.data, "reply": self.reply.body})
            assert len({name.upper(): value for name, value in orjson.loads(line).items()}) > len(record.data)

    def decode(self) -> None:
        """Reply body to reply."""
        for body in self.bodies:
            self._client(body)

    def decode_stream(self) -> None:
        """Events to reply, in place of `decode`: they come in one piece, as a fast endpoint sends them."""
        for body in self.bodies:
            self._streaming(body)

    def store(self) -> None:
        """Replies into a ledger on disk."""
        with SqliteLedger(self._directory / f"{next(self._names)}.ledger") as ledger:
            for keys in self._batches(self.keys):
                ledger.put((key, self.reply) for key in keys)

    def checkpoint(self) -> None:
        """What a state covers, once everything before it is done."""
        watermark = Watermark()
        for record in self.records:
            watermark.enter(record.index)
            if record.index % INTERVAL == INTERVAL - 1:
                watermark.hold(Checkpoint({"rows": record.index + 1}))
            watermark.leave(record.index)
            deque(watermark.release() if watermark.holds else (), maxlen=0)

    def map(self) -> None:
        """Reply to outcome."""
        for record, key in zip(self.records, self.keys, strict=True):
            self.plan.outcomes.of(record, self.reply, key)

    def write(self) -> None:
        """Outcomes to output file, beside their input."""
        options = self._store.Options(path=str(self._directory / f"{next(self._names)}.out.jsonl"))
        with self._store.sink(options, self.plan.added, source=self._opened) as sink:
            for outcome in self.outcomes:
                sink.write(outcome.record, {**outcome.columns, **outcome.group})
            sink.commit()

    def go(self, stage: str) -> None:
        """Takes the table through a stage, or a floor, by its name."""
        getattr(self, stage)()

    @staticmethod
    def _batches(keys: list[bytes]) -> Iterator[list[bytes]]:
        return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
