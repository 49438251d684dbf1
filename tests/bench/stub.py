"""An endpoint for benchmarks: it answers faster than any client can ask, so that it is not what is measured.

`python -m tests.bench.stub --latency 0.2` prints its base URL. Each POST is answered after the latency with
`echo:MARKER`, where MARKER is what stands between `[[` and `]]` in the last content of the request; it is copied as
JSON text, so it may hold anything. With `"stream": true` the reply comes as events in one write: a client reads it as
fast as it can. A request with an `"input"` of texts gets a vector for each, as base64 or as numbers, as it asks for;
`vector_of` tells which. `GET /stats` tells `calls`, `peak_in_flight` and the `cpu_seconds` of this process so far. With
`--tls CERTIFICATE KEY` it speaks TLS.

Nothing is parsed beyond what that takes. Requests may be pipelined only while the latency is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import time
from array import array
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final, cast
from zlib import crc32

_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: "
_JSON: Final = _OK + b"application/json\r\ncontent-length: %d\r\n\r\n%b"
_SSE: Final = _OK + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_USAGE: Final = b'"usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}'
_WHOLE: Final = (
    b'{"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [{"index": 0, '
    b'"message": {"role": "assistant", "content": "echo:%b"}, "finish_reason": "stop"}], ' + _USAGE + b"}"
)
_CHUNK: Final = b'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub", '
_DELTA: Final = _CHUNK + b'"choices": [{"index": 0, "delta": {"content": "%b"}, "finish_reason": null}]}\n\n'
_END: Final = _CHUNK + b'"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
_STREAMED: Final = (b'"stream": true', b'"stream":true')


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


DIMENSIONS: Final = 1536
_VECTORS: Final = 256  # that differ
_EMBEDDED: Final = (
    b'{"object": "list", "model": "stub", "data": [%b], "usage": {"prompt_tokens": 20, "total_tokens": 20}}'
)
_ITEM: Final = b'{"object": "embedding", "index": %d, "embedding": %b}'


@cache
def vector_of(number: int) -> array[float]:
    """Returns a vector of unit length in single precision; there are 256."""
    chance = random.Random(number)
    numbers = [chance.gauss(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = sum(each * each for each in numbers) ** 0.5
    return array("f", [each / length for each in numbers])


def number_of(text: str) -> int:
    """Returns which vector a text gets."""
    return crc32(text.encode()) % _VECTORS


@cache
def _form(number: int, form: str) -> bytes:
    vector = vector_of(number)
    if form == "base64":
        return b'"%b"' % b2a_base64(vector.tobytes(), newline=False)
    return json.dumps([float(f"{each:.9g}") for each in vector]).encode()


def embedded(body: bytes) -> bytes:
    asked = json.loads(body)
    form = asked.get("encoding_format", "float")
    items = (_ITEM % (index, _form(number_of(text), form)) for index, text in enumerate(asked["input"]))
    content = _EMBEDDED % b", ".join(items)
    return _JSON % (len(content), content)


def whole(marker: bytes) -> bytes:
    return _JSON % (len(_WHOLE) - 2 + len(marker), _WHOLE % marker)


def streamer(events: int) -> Callable[[bytes], bytes]:
    """Renders replies of so many events with content; the first one has the echo, the others a word each."""
    words = _chunk(_DELTA % b" word") * (events - 1)
    tail = words + _chunk(_END) + _chunk(_CHUNK + b'"choices": [], ' + _USAGE + b"}\n\n") + _chunk(b"data: [DONE]\n\n")
    return lambda marker: _SSE + _chunk(_DELTA % (b"echo:" + marker)) + tail + b"0\r\n\r\n"


class Stub:
    """What all connections share: how to answer, when, and what has been counted."""

    def __init__(self, latency: float, stream_chunks: int, straggler_share: float, straggler_factor: float) -> None:
        self._latency, self._share, self._factor = latency, straggler_share, straggler_factor
        self._random = random.Random(0)
        self.streamed = streamer(stream_chunks)
        self.calls = self.in_flight = self.peak = 0

    def wait(self) -> float:
        """Counts a call in; returns the seconds until its answer."""
        self.calls += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        straggles = self._share and self._random.random() < self._share
        return self._latency * self._factor if straggles else self._latency

    def stats(self) -> bytes:
        stats = {"calls": self.calls, "peak_in_flight": self.peak, "cpu_seconds": time.process_time()}
        body = json.dumps(stats).encode()
        return _JSON % (len(body), body)


class Connection(asyncio.Protocol):
    """Cuts requests out of the bytes, and answers each after its latency."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._pending = b""
        self._later = asyncio.get_running_loop().call_later

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._pending + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end].lower() + b"\r\n"
            at = head.find(b"content-length:")
            size = end + 4 + (int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0)
            if len(data) < size:
                break
            self._answer(data[:size])
            data = data[size:]
        self._pending = data

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET"):
            self._transport.write(self._stub.stats())
            return
        if request.startswith(b"POST /v1/embeddings"):
            reply = embedded(request.partition(b"\r\n\r\n")[2])
        else:
            _, _, after = request.rpartition(b'"content"')
            marker = after.partition(b"[[")[2].partition(b"]]")[0]
            reply = (self._stub.streamed if any(sign in request for sign in _STREAMED) else whole)(marker)
        wait = self._stub.wait()
        if wait:
            self._later(wait, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: bytes) -> None:
        self._stub.in_flight -= 1
        if not self._transport.is_closing():
            self._transport.write(reply)


async def serve(stub: Stub, port: int, tls: Sequence[str] | None) -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context and tls:
        context.load_cert_chain(*tls)
    server = await loop.create_server(partial(Connection, stub), "127.0.0.1", port, backlog=2048, ssl=context)
    scheme = "https" if tls else "http"
    print(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201 - its output
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stub", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per call")
    parser.add_argument("--stream-chunks", type=int, default=20, help="events with content in a streamed reply")
    parser.add_argument("--straggler-share", type=float, default=0.0, help="share of the calls that take longer")
    parser.add_argument("--straggler-factor", type=float, default=10.0, help="how many times longer")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files, to speak TLS")
    given = vars(parser.parse_args())
    port, tls = given.pop("port"), given.pop("tls")
    asyncio.run(serve(Stub(**given), port, tls))


if __name__ == "__main__":
    main()
