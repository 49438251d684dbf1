"""What the engine of batches needs besides calls: the terms of batches, and the means to make them."""

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
    """How requests are gathered into batches, and how a run waits for these.

    Attributes:
        path: What batches call the endpoint, such as `/v1/chat/completions`.
        window: Within which time the endpoint is to answer.
        max_requests: Requests in a batch, at most.
        max_bytes: Bytes of its file, at most.
        poll_seconds: Between two questions how far a batch is.
        is_live_next: Whether what a batch does not answer is called, and not put into the next one.
        max_wait: Seconds after which a batch is cancelled.
        quiet: Seconds without a new row after which a file goes as it is, while the input has not ended.
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

The third are bytes and requests of batches that other runs have submitted.
"""


def admits_all(_size: int, _requests: int, _elsewhere: Sequence[tuple[int, int]]) -> None:
    """Lets everything be sent."""


class Needs(NamedTuple):
    """What batches are made with.

    Attributes:
        api: The server's files and batches.
        ledger: Where parts are written down, and replies for rows that this run does not have.
        url: The endpoint's URL: whose parts in the ledger are this run's.
        endpoint: The kind of the requests.
        mask: Takes the secrets out of what the endpoint says.
        terms: How requests are gathered into batches, and how a run waits for these.
        fitted: Returns a request as the endpoint wants it.
        admits: Says why requests must not be sent.
        job: What the budget of the run is for.
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
