"""What the batch engine needs besides calls: the terms of batches, and the means to make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from connector.base.errors import ConnectorError
from connector.base.masking import Masker
from connector.calls.batch_api import BatchAPI
from connector.endpoints import Endpoint
from connector.ledger import Ledger


class Terms(NamedTuple):
    """How requests are gathered into batches, and how a run waits for them.

    Attributes:
        path: The endpoint as batches name it, such as `/v1/chat/completions`.
        window: The time within which the endpoint is to answer, such as `24h`.
        max_requests: The most requests in a batch.
        max_bytes: The largest size of its file, in bytes.
        poll_seconds: The seconds between two polls of a batch.
        is_live_next: Whether requests that a batch does not answer are called live, not put into the next batch.
        max_wait: The seconds after which a batch is cancelled.
        quiet: The seconds without a new row after which an unfinished file is submitted, although input may follow.
    """

    path: str
    window: str = "24h"
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    poll_seconds: float = 30.0
    is_live_next: bool = False
    max_wait: float = math.inf
    quiet: float = 30.0


Admits: TypeAlias = Callable[[int, int, Sequence[tuple[int, int]]], ConnectorError | None]
"""Given bytes and a number of requests, returns why they must not be sent; `None` if they may.

The third argument has the bytes and requests of batches that other runs have submitted.
"""


def admits_all(_size: int, _requests: int, _elsewhere: Sequence[tuple[int, int]]) -> None:
    """Allows everything to be sent."""


class Needs(NamedTuple):
    """The means with which batches are made.

    Attributes:
        api: The server's files and batches.
        ledger: Stores parts, and replies for rows that this run does not have.
        url: The endpoint's URL, by which this run finds its parts in the ledger.
        endpoint: The kind of the requests.
        mask: Removes secrets from what the endpoint says.
        terms: How requests are gathered into batches, and how a run waits for them.
        fitted: Returns a request with the endpoint's fallbacks applied.
        admits: Says why requests must not be sent.
        job: The job to which the budget of the run applies.
        most: The bytes that a reply may have.
    """

    api: BatchAPI
    ledger: Ledger
    url: str
    endpoint: Endpoint
    mask: Masker
    terms: Terms
    fitted: Callable[[bytes], bytes] = bytes
    admits: Admits = admits_all
    job: str = ""
    most: int = 16 << 20
