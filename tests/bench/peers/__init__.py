"""Other ways to run a table: from JSON lines to JSON lines, each written as somebody who knows it well would.

`python -m tests.bench.peers.aiohttp_loop URL IN OUT --concurrency 64` is one of them. All ask for `PROMPT` and put the
text of the reply into the column `content`. None of them retries beyond what its library does, keeps what was paid
for, or tells of a row where its answer came from.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import orjson

MODEL: Final = "stub"
KEY: Final = "sk-stub"
BATCH: Final = 64
"""Texts in a call for vectors."""

PROMPT: Final = "Classify this review: [[{text}]]"

Ask = Callable[[str], Awaitable[str]]
"""Sends a prompt and returns the text of the reply."""


class Job(NamedTuple):
    """What a peer is to do."""

    url: str
    source: Path
    target: Path
    concurrency: int
    is_stream: bool


class Room(NamedTuple):
    """How many connections there may be, by the names of httpx's `Limits`: which httpx it is differs between SDKs."""

    max_connections: int
    max_keepalive_connections: int
    keepalive_expiry: float = 60.0

    @classmethod
    def of(cls, task: Job) -> Room:
        """One connection for each call in flight."""
        return cls(task.concurrency, task.concurrency)


def job() -> Job:
    """The job that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="the base URL, /v1 included")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--stream", action="store_true", dest="is_stream")
    return Job(**vars(parser.parse_args()))


async def work(task: Job, ask: Ask) -> None:
    """As many workers as calls may be in flight, on one iterator of rows: memory stays flat, no worker is idle."""
    with task.source.open("rb") as lines, task.target.open("wb") as out:

        async def worker() -> None:
            for line in lines:
                row = orjson.loads(line)
                row["content"] = await ask(PROMPT.format(text=row["text"]))
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

        await asyncio.gather(*(worker() for _ in range(task.concurrency)))
