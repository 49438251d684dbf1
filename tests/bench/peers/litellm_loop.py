"""LiteLLM's asynchronous completion in a loop."""

from __future__ import annotations

import asyncio

import litellm  # type: ignore[import-not-found,unused-ignore]  # installed by whoever asks for this peer

from tests.bench.peers import KEY, MODEL, Job, job, work


async def run(task: Job) -> None:
    async def whole(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        reply = await litellm.acompletion(f"openai/{MODEL}", messages, api_base=task.url, api_key=KEY, timeout=60)
        return str(reply.choices[0].message.content)

    async def streamed(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        stream = await litellm.acompletion(
            f"openai/{MODEL}", messages, api_base=task.url, api_key=KEY, timeout=60, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    litellm.suppress_debug_info = True
    await work(task, streamed if task.is_stream else whole)


if __name__ == "__main__":
    asyncio.run(run(job()))
