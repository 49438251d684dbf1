"""OpenAI's own SDK, asynchronous, with room for all the connections."""

from __future__ import annotations

import asyncio

import httpx2  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
from openai import (  # type: ignore[import-not-found,unused-ignore]  # as above
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
)

from tests.bench.peers import KEY, MODEL, Job, job, work


def transport(task: Job) -> httpx2.AsyncClient:
    """The SDK's default, which would keep 100 connections only."""
    room = task.concurrency
    return DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=room, max_keepalive_connections=room))


async def run(task: Job, http_client: httpx2.AsyncClient) -> None:
    async with AsyncOpenAI(base_url=task.url, api_key=KEY, http_client=http_client, timeout=60) as client:
        create = client.chat.completions.create

        async def whole(prompt: str) -> str:
            reply = await create(model=MODEL, messages=[{"role": "user", "content": prompt}])
            return reply.choices[0].message.content or ""

        async def streamed(prompt: str) -> str:
            messages = [{"role": "user", "content": prompt}]
            stream = await create(model=MODEL, messages=messages, stream=True)  # type: ignore[call-overload,unused-ignore]  # a plain dict is one
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

        await work(task, streamed if task.is_stream else whole)


async def main() -> None:
    task = job()
    await run(task, transport(task))


if __name__ == "__main__":
    asyncio.run(main())
