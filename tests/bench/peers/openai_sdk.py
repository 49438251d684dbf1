"""OpenAI's own SDK, asynchronous, with room for all the connections."""

from __future__ import annotations

import asyncio
from typing import Any

import openai  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
from openai import AsyncOpenAI

from tests.bench.peers import KEY, MODEL, Job, Room, job, work


async def run(task: Job, http_client: Any) -> None:
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
    await run(task, openai.DefaultAsyncHttpxClient(limits=Room.of(task)))  # by itself it keeps 100 connections


if __name__ == "__main__":
    asyncio.run(main())
