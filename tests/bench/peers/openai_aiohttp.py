"""OpenAI's SDK over the transport that it recommends for many calls at once (`openai[aiohttp]`)."""

from __future__ import annotations

import asyncio

import httpx2  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
from openai import DefaultAioHttpClient  # type: ignore[import-not-found,unused-ignore]  # as above

from tests.bench.peers import job
from tests.bench.peers.openai_sdk import run


async def main() -> None:
    task = job()
    room = task.concurrency
    limits = httpx2.Limits(max_connections=room, max_keepalive_connections=room)
    await run(task, DefaultAioHttpClient(limits=limits))


if __name__ == "__main__":
    asyncio.run(main())
