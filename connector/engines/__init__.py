"""The engines: how calls are spread over workers. One module is one engine, found by its file name.

An engine takes items in order, makes the calls among them, and yields everything in the order in which it is finished.
All decisions (retry, pace, stop) are taken in the one thread that iterates; the workers do nothing but call.

How one call is made and paced belongs in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from connector.base.clock import Clock
from connector.base.errors import ConnectorError, FatalError, NotFoundError
from connector.base.records import Outcome, Record, Reply
from connector.calls.breaker import Breaker
from connector.calls.limits import Limits, Ticket
from connector.calls.rate_notice import Quota
from connector.calls.retry import Backoff


class Call:
    """A request on its way, and every record that waits for its reply.

    Attributes:
        parts: The calls of rows that share this one; it then has neither a key nor records of its own.
        asked: What has been asked for otherwise than usual, by name, so that nothing is tried twice.
        paid: Replies that were paid for and not good enough; the last of them stands if nothing better comes.
        attempts: Its own.
        together: Attempts of calls that its rows shared before.
        first: When the first attempt for its rows began, in monotonic seconds.
    """

    __slots__ = ("asked", "attempts", "body", "first", "key", "paid", "parts", "records", "ticket", "together")

    def __init__(self, key: bytes, body: bytes, records: list[Record], parts: Sequence[Call] = ()) -> None:
        self.key = key
        self.body = body
        self.records = records
        self.parts = parts
        self.asked: tuple[str, ...] = ()
        self.paid: tuple[Reply, ...] = ()
        self.attempts = 0
        self.together = 0
        self.first = 0.0
        self.ticket = Ticket(0, 0.0)

    def otherwise(self, name: str, body: bytes) -> Call:
        """Asks in another way from now on, called `name`."""
        self.asked = (*self.asked, name)
        self.body = body
        return self

    def part_from(self, shared: Call) -> None:
        """Goes on without the call that its rows shared: what was tried with that one counts for them."""
        self.together, self.first = shared.tries, shared.first

    @property
    def tries(self) -> int:
        """All attempts that have been made for its rows."""
        return self.together + self.attempts


class Done(NamedTuple):
    """A call and what became of it: its final reply, or the error of its rows; and the outcome, where it is known."""

    call: Call
    result: Reply | ConnectorError
    outcome: Outcome | None = None


class Resolution(NamedTuple):
    """What a result means: the calls that are done by it, and those to make in its place."""

    done: Sequence[Done]
    again: Sequence[Call] = ()


Resolve = Callable[[Call, Reply | ConnectorError], Resolution]


def as_it_stands(call: Call, result: Reply | ConnectorError) -> Resolution:
    """Every result is final."""
    return Resolution((Done(call, result),))


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
    """What an engine is doing: calls in flight now, calls and retries so far, and whether its rate is limited."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.calls = 0
        self.retries = 0
        self.quota = Quota()


class Control(NamedTuple):
    """What an engine is steered by.

    `grace`: seconds that calls in flight are waited for once a stop is asked for. `resolve`: says what to make of a
    result that needs no further try.
    """

    limits: Limits
    backoff: Backoff
    breaker: Breaker
    stop: Stop
    gauge: Gauge
    clock: Clock = Clock()
    grace: float = 10.0
    resolve: Resolve = as_it_stands


def ends_run(error: BaseException, breaker: Breaker) -> bool:
    """Whether no further call makes sense after `error`: it is fatal, or nobody expected it."""
    if isinstance(error, NotFoundError):
        return not breaker.was_answered
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
