"""How fast the stub itself is, so that nobody takes its limit for a client's."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from tests.bench.machine import cores, on
from tests.bench.processes import Stub

_CONNECTIONS: Final = 64
_CALLS: Final = 30_000
_BODY: Final = b'{"messages": [{"role": "user", "content": "Classify this review: [[' + b"x" * 180 + b']]"}]}'


class _Asker(asyncio.Protocol):
    """Asks again as soon as it has its answer, without a look at it."""

    def __init__(self, request: bytes, calls: list[None], over: asyncio.Event) -> None:
        self._request, self._calls, self._over = request, calls, over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._write = transport.write
        self._write(self._request)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"}"):
            return
        if self._calls:
            self._calls.pop()
            self._write(self._request)
        else:
            self._over.set()


async def _ask(url: str) -> None:
    address = urlsplit(url).netloc
    host, _, port = address.partition(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n"
    request = head % (address.encode(), len(_BODY)) + _BODY
    over, calls = asyncio.Event(), [None] * _CALLS
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Asker(request, calls, over), host, int(port)) for _ in range(_CONNECTIONS)
    ]
    await over.wait()
    for transport, _ in made:
        transport.abort()


def ceiling() -> str:
    """What the stub's core can answer, in words, from the CPU that it takes for a call."""
    with Stub(0) as stub:
        before = stub.stats()
        with on(cores()[1]):
            asyncio.run(_ask(stub.url))
        after = stub.stats()
    each = (after["cpu_seconds"] - before["cpu_seconds"]) / (after["calls"] - before["calls"])
    return f"{1 / each:,.0f} calls/s on its core ({1e6 * each:.0f} µs of CPU for each)"
