"""The engines: how calls are spread over workers. One module is one engine, found by its file name.

An engine takes items in order, makes the calls among them, and yields everything in the order of completion. All
decisions (retry, pace, stop) are made in the one thread that iterates; the workers only make calls.

How one call is made and paced belongs in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol, cast

from connector.base.amounts import counted
from connector.base.clock import Clock
from connector.base.errors import (
    ConnectorError,
    FatalError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryableError,
)
from connector.base.records import Outcome, Provenance, Reply
from connector.base.room import Room
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.in_flight import InFlight
from connector.calls.limits import Limits
from connector.calls.rate_notice import RateNotice
from connector.calls.retry import Backoff
from connector.calls.waiting import Waiting, kind_of

DEFAULT: Final = "threads"
"""The engine that runs use. To change it, name another one here."""


class Done(NamedTuple):
    """A call and its result (a final reply or an error), with the outcome of its first row if already known."""

    call: Call
    result: Reply | ConnectorError
    outcome: Outcome | None = None


class Resolution(NamedTuple):
    """What follows from a result: the calls that are done, and those to make instead."""

    done: Sequence[Done]
    again: Sequence[Call] = ()


Resolve = Callable[[Call, Reply | ConnectorError], Resolution]


def as_it_stands(call: Call, result: Reply | ConnectorError) -> Resolution:
    """Accepts every result as final."""
    return Resolution((Done(call, result),))


Otherwise = Callable[[Call, RetryableError], Sequence[Call]]
"""Returns the calls to make instead of one that failed; if empty, it is tried again unchanged."""


def nothing_else(call: Call, error: RetryableError) -> Sequence[Call]:
    """Tries every call again unchanged."""
    del call, error
    return ()


def always() -> bool:
    """Assumes that the table can succeed."""
    return True


def _unheard(text: str) -> None:
    del text


class Gauge:
    """What an engine is doing: calls in flight now, calls and retries so far, and rate limits encountered.

    Attributes:
        given: The calls given to workers, oldest first.
        held: A heap of the calls that wait for a retry, with the times at which they are due.
        elsewhere: The number of calls that other runs are making.
        unfinished: Paid replies to rows that had no outcome yet when the run was stopped.
        words: Returns, for people, what else the engine is doing; empty if nothing.
        notify: Called with a line for people, once for each event for which they may be waiting.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.calls = 0
        self.retries = 0
        self.rate_notice = RateNotice()
        self.given: dict[Call, None] = {}
        self.held: list[tuple[float, int, Call]] = []
        self.elsewhere = 0
        self.unfinished: list[Provenance] = []
        self.words: Callable[[], str] = str
        self.notify: Callable[[str], None] = _unheard

    def oldest(self, now: float) -> float | None:
        """Returns for how many seconds the oldest call has been in flight; `None` if there is none."""
        call = next(iter(self.given), None)
        return None if call is None or call.started is None else now - call.started

    def waiting(self, now: float) -> Waiting | None:
        """Returns what every pending call waits for, a retry or another run; `None` if some call is not waiting."""
        if self.given or self.in_flight:
            return None
        if not self.held:
            others = f"the replies to {self.elsewhere:,} call{'s'[: self.elsewhere != 1]} of another run"
            return Waiting(f"waiting for {others}") if self.elsewhere else None
        due, _, call = self.held[0]
        if call.error is None or due <= now:
            return None
        verb = "next call" if isinstance(call.error, RateLimitError) else "trying again"
        return Waiting(f"{kind_of(call.error)}: {verb}", due - now)


class Control(NamedTuple):
    """What an engine needs for its decisions.

    `grace`: how many seconds it waits for calls in flight once a stop is requested. `resolve`: says what follows from a
    result that needs no retry. `otherwise`: says what to call instead after a call has failed more than once.
    `is_proven`: says whether the table can succeed at all; until it can, workers get no calls in advance, so that
    repeated calls for the first rows do not queue behind others. `in_flight`: the run's calls.
    `room`: what large replies enter when they are decoded, and leave once they have been handed on.
    """

    limits: Limits
    backoff: Backoff
    breaker: Breaker
    stop: Stop
    gauge: Gauge
    clock: Clock = Clock()
    grace: float = 10.0
    resolve: Resolve = as_it_stands
    otherwise: Otherwise = nothing_else
    is_proven: Callable[[], bool] = always
    in_flight: InFlight | None = None
    room: Room | None = None

    def ending(self, since: float = 0.0) -> str:
        """Returns, for people, what a run that was asked to end `since` seconds ago is still doing."""
        calls = sum(call.started is not None for call in self.gauge.given)  # as of now, not of the last result
        return (
            f"finishing {counted(calls, 'call')} (up to {max(1.0, self.grace - since):.0f} s)" if calls else "stopping"
        )

    def waiting(self) -> Waiting | None:
        """Returns what delays the next call; `None` if nothing does, or only the calls in flight.

        May be called at any time, in the iterating thread.
        """
        now = self.clock.monotonic()
        outage = self.breaker.waiting(now)
        if outage is not None or self.gauge.in_flight >= self.limits.concurrency:
            return outage
        return self.limits.waiting(now) or self.gauge.waiting(now)


def ends_run(error: BaseException) -> bool:
    """Returns whether `error` ends the run: it is fatal or unexpected."""
    if isinstance(error, PermissionDeniedError | NotFoundError):
        return False  # only the deciding thread knows the results of other calls
    return isinstance(error, FatalError) or not isinstance(error, ConnectorError)


class Engine(Protocol):
    """The contract of an engine module.

    Attributes:
        WAITING: The most records that may wait for replies at a time.
    """

    WAITING: int

    def run(self, items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Generator[Any, None, None]:
        """Yields each `Call` of `items` as `Done` when it is done, and everything else as it comes.

        Yields `IDLE` if nothing is finished for a while. A `FatalError`, an unexpected exception of a worker, or an
        error of `items` becomes the reason to stop; calls that still wait for a retry are then not yielded.

        Args:
            items: Calls, and anything to pass through. Taken in the iterating thread.
            send: Makes a call, from any thread. In a run it is a `connector.calls.caller.Caller`, which can be pickled:
                a copy in another process opens its own connections.
            control: What the engine needs for its decisions, which it makes in the iterating thread.
        """


def load(name: str = DEFAULT, *needs: Any) -> Engine:
    """Imports an engine by its name. Lazy, so that what only one engine needs is imported only if it is chosen.

    Args:
        needs: Arguments for `opened`, in an engine that does more than make calls.
    """
    module: Any = import_module(f"{__name__}.{name}")
    return cast("Engine", module.opened(*needs) if needs else module)
