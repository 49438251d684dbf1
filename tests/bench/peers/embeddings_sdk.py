"""Vectors by OpenAI's own SDK: 64 texts a call, and a Parquet file by pyarrow at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import openai  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
import orjson
import pyarrow as pa
from openai import AsyncOpenAI
from pyarrow import parquet

from tests.bench.peers import BATCH, KEY, MODEL, Job, Room, job


async def run(task: Job) -> None:
    rows = [orjson.loads(line) for line in task.source.open("rb")]
    vectors: list[Sequence[float]] = [()] * len(rows)
    starts = iter(range(0, len(rows), BATCH))
    http_client = openai.DefaultAsyncHttpxClient(limits=Room.of(task))
    async with AsyncOpenAI(base_url=task.url, api_key=KEY, http_client=http_client, timeout=60) as client:

        async def worker() -> None:
            for start in starts:
                texts = [row["text"] for row in rows[start : start + BATCH]]
                reply = await client.embeddings.create(model=MODEL, input=texts)
                for item in reply.data:
                    vectors[start + item.index] = item.embedding

        await asyncio.gather(*(worker() for _ in range(task.concurrency)))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    parquet.write_table(pa.table({**columns, "embedding": pa.array(vectors, pa.list_(pa.float32()))}), task.target)


if __name__ == "__main__":
    asyncio.run(run(job()))
