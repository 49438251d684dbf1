"""Who waits for rows is told once that the endpoint limits the rate, and until when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connector.base.errors import RateLimitError, RetryableError, ServerError
from connector.base.streams import Limited
from connector.calls.rate_notice import RateNotice
from connector.calls.retry import Backoff


class Watched:
    """A rate notice whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.notice = RateNotice()
        self.backoff = Backoff(max_retries=2)

    def fails(self, error: RetryableError) -> float | None:
        self.notice.failed(error, self.now)
        return self.backoff.wait(error, 1, 0.0, lambda: 0.0)

    def told(self) -> list[object]:
        return [each for each in self.notice.interleaved(["row"]) if each != "row"]


def test_it_leaves_the_backoff_as_it_is() -> None:
    watched = Watched()
    assert watched.fails(RateLimitError("slow", wait=30.0)) == 30.0
    assert watched.fails(ServerError("down")) == 0.0
    assert watched.fails(RateLimitError("slow", wait=3000.0)) is None
    assert watched.backoff.max_retries == 2


def test_a_limit_is_reported_once_and_again_when_another_follows() -> None:
    watched = Watched()
    assert watched.told() == []
    watched.fails(RateLimitError("slow", wait=30.0))
    watched.fails(RateLimitError("slow", wait=50.0))
    assert watched.told() == [Limited(1030.0)]
    assert watched.told() == []
    watched.now = 1031.0
    watched.fails(RateLimitError("slow", wait=5.0))
    assert watched.told() == [Limited(1036.0)]


def test_a_limit_without_a_time_is_reported_without_one() -> None:
    watched = Watched()
    for now in (1000.0, 1001.0, 1030.0, 1061.0):
        watched.now = now
        watched.fails(RateLimitError("slow"))
    assert watched.told() == [Limited(None)]


def test_other_failures_are_no_limit() -> None:
    watched = Watched()
    watched.fails(ServerError("down", wait=30.0))
    assert watched.told() == []


def test_a_limit_that_ends_the_run_is_reported_before_its_error() -> None:
    watched = Watched()

    def ending() -> Iterator[str]:
        yield "row"
        watched.fails(RateLimitError("slow", wait=7200.0))
        raise RateLimitError("slow")

    told = watched.notice.interleaved(ending())
    assert [next(told), next(told)] == ["row", Limited(8200.0)]
    with pytest.raises(RateLimitError):
        next(told)
