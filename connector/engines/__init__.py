"""The engines: how calls are spread over workers. One module is one engine, found by its file name.

An engine takes items in order, makes the calls among them, and yields everything in the order in which it is finished.
All decisions (retry, pace, stop) are taken in the one thread that iterates; the workers do nothing but call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from connector.breaker import Breaker
from connector.clock import Clock
from connector.errors import ConnectorError, FatalError
from connector.limits import Limits, Ticket
from connector.records import Record, Reply
from connector.retry import Backoff


class Call:
    """A request on its way, and every record that waits for its reply."""

    __slots__ = ("attempts", "body", "first", "key", "records", "ticket")

    def __init__(self, key: bytes, body: bytes, record: Record) -> None:
        self.key = key
        self.body = body
        self.records = [record]
        self.attempts = 0
        self.first = 0.0
        self.ticket = Ticket(0, 0.0)


class Done(NamedTuple):
    """A call and what became of it: its final reply, or the error of its rows."""

    call: Call
    result: Reply | ConnectorError


class Stop:
    """Asks a run to end: what is in flight is finished, nothing new begins.

    Args:
        outer: Whose request counts here too; a request made here does not count there.
    """

    def __init__(self, outer: Stop | None = None) -> None:
        self._outer = outer
        self._reason: BaseException | None = None

    @property
    def reason(self) -> BaseException | None:
        """What to tell afterwards; `None` while nobody has asked."""
        return self._reason or (self._outer.reason if self._outer else None)

    def request(self, reason: BaseException) -> None:
        """Asks for the end; the first reason counts."""
        self._reason = self._reason or reason


class Gauge:
    """What an engine is doing: calls in flight now, and calls and retries so far."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.calls = 0
        self.retries = 0


class Control(NamedTuple):
    """What an engine is steered by. `grace`: seconds that calls in flight are waited for once a stop is asked for."""

    limits: Limits
    backoff: Backoff
    breaker: Breaker
    stop: Stop
    gauge: Gauge
    clock: Clock = Clock()
    grace: float = 10.0


def ends_run(error: BaseException) -> bool:
    """Whether no further call makes sense after `error`: it is fatal, or nobody expected it."""
    return isinstance(error, FatalError) or not isinstance(error, ConnectorError)


class Engine(Protocol):
    """What an engine module consists of."""

    def run(self, items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Generator[Any, None, None]:
        """Yields each `Call` of `items` as `Done` once it is, and everything else as it comes.

        Yields `IDLE` where nothing is finished for a while. A `FatalError`, or what a worker did not expect, becomes
        the reason to stop, as does an error of `items`; calls that then still wait to be tried again are not yielded.
        """


def load(name: str) -> Engine:
    """Opens an engine by its name, so that what only it needs is imported only where it is chosen."""
    return cast("Engine", import_module(f"{__name__}.{name}"))
