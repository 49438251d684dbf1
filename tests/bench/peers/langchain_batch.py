"""LangChain: a prompt and a chat model in a chain, all rows in one batch."""

from __future__ import annotations

import asyncio
from typing import Any

import openai  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
import orjson
from langchain_core.prompts import ChatPromptTemplate  # type: ignore[import-not-found,unused-ignore]  # as above
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found,unused-ignore]  # as above

from tests.bench.peers import KEY, MODEL, PROMPT, Job, Room, job


async def run(task: Job) -> None:
    client = openai.DefaultAsyncHttpxClient(limits=Room.of(task))
    options: Any = {"model": MODEL, "base_url": task.url, "api_key": KEY, "streaming": task.is_stream, "timeout": 60}
    chain = ChatPromptTemplate.from_messages([("user", PROMPT)]) | ChatOpenAI(http_async_client=client, **options)
    rows = [orjson.loads(line) for line in task.source.read_bytes().splitlines()]
    answers = chain.abatch_as_completed(rows, config={"max_concurrency": task.concurrency})
    with task.target.open("wb") as out:
        async for index, answer in answers:
            out.write(orjson.dumps({**rows[index], "content": answer.content}, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    asyncio.run(run(job()))
