"""OpenAI's SDK over the transport that it offers for many calls at once (`openai[aiohttp]`)."""

from __future__ import annotations

import asyncio

import openai  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone

from tests.bench.peers import Room, job
from tests.bench.peers.openai_sdk import run


async def main() -> None:
    task = job()
    await run(task, openai.DefaultAioHttpClient(limits=Room.of(task)))


if __name__ == "__main__":
    asyncio.run(main())
