"""The floor of vectors: aiohttp, `numpy.frombuffer` over the replies, and a Parquet file by pyarrow at the end."""

from __future__ import annotations

import asyncio
from binascii import a2b_base64
from typing import Any

import aiohttp  # type: ignore[import-not-found,unused-ignore]  # installed for `make bench` alone
import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet

from tests.bench.peers import BATCH, KEY, MODEL, Job, job


async def run(task: Job) -> None:
    rows = [orjson.loads(line) for line in task.source.open("rb")]
    vectors: list[Any] = [None] * len(rows)
    starts = iter(range(0, len(rows), BATCH))
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=task.concurrency), headers=headers
    ) as session:

        async def worker() -> None:
            for start in starts:
                texts = [row["text"] for row in rows[start : start + BATCH]]
                body = {"model": MODEL, "input": texts, "encoding_format": "base64"}
                async with session.post(f"{task.url}/embeddings", data=orjson.dumps(body)) as response:
                    response.raise_for_status()
                    for item in orjson.loads(await response.read())["data"]:
                        vectors[start + item["index"]] = np.frombuffer(a2b_base64(item["embedding"]), "<f4")

        await asyncio.gather(*(worker() for _ in range(task.concurrency)))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    parquet.write_table(pa.table({**columns, "embedding": pa.array(vectors, pa.list_(pa.float32()))}), task.target)


if __name__ == "__main__":
    asyncio.run(run(job()))
