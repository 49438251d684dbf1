"""The floor: nothing but aiohttp and a loop."""

from __future__ import annotations

import asyncio

import aiohttp  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
import orjson

from tests.bench.peers import KEY, MODEL, Job, job, work


async def run(task: Job) -> None:
    url = f"{task.url}/chat/completions"
    connector = aiohttp.TCPConnector(limit=task.concurrency)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def whole(prompt: str) -> str:
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
            async with session.post(url, data=orjson.dumps(body)) as response:
                response.raise_for_status()
                reply = orjson.loads(await response.read())
                return str(reply["choices"][0]["message"]["content"])

        async def streamed(prompt: str) -> str:
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
            parts: list[str] = []
            async with session.post(url, data=orjson.dumps(body)) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                        choices = orjson.loads(line[6:])["choices"]
                        parts.append(choices[0]["delta"].get("content") or "" if choices else "")
            return "".join(parts)

        await work(task, streamed if task.is_stream else whole)


if __name__ == "__main__":
    asyncio.run(run(job()))
