"""The engines: how calls are spread over workers. One module is one engine, found by its file name.

An engine takes items in order, makes the calls among them, and yields everything in the order in which it is finished.
All decisions (retry, pace, stop) are taken in the one thread that iterates; the workers only call.

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
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.in_flight import InFlight
from connector.calls.limits import Limits
from connector.calls.rate_notice import RateNotice
from connector.calls.retry import Backoff
from connector.calls.waiting import Waiting, kind_of

DEFAULT: Final = "threads"
"""The engine that runs use. To use another one, name it here."""


class Done(NamedTuple):
    """A call and its result, a final reply or an error, with the outcome of its first row if that is known already."""

    call: Call
    result: Reply | ConnectorError
    outcome: Outcome | None = None


class Resolution(NamedTuple):
    """What follows from a result: the calls that are done, and those to make in its place."""

    done: Sequence[Done]
    again: Sequence[Call] = ()


Resolve = Callable[[Call, Reply | ConnectorError], Resolution]


def as_it_stands(call: Call, result: Reply | ConnectorError) -> Resolution:
    """Takes every result as final."""
    return Resolution((Done(call, result),))


Otherwise = Callable[[Call, RetryableError], Sequence[Call]]
"""What to make instead of a call that failed, before it is tried again as it stands; empty where there is nothing."""


def nothing_else(call: Call, error: RetryableError) -> Sequence[Call]:
    """Tries every call again as it stands."""
    del call, error
    return ()


def always() -> bool:
    """Assumes that the table can succeed."""
    return True


def _unheard(text: str) -> None:
    del text


class Gauge:
    """What an engine is doing: calls in flight now, calls and retries so far, and rate limits that it met.

    Attributes:
        given: Calls that were given to workers, the oldest first.
        held: Calls that wait to be tried again, with when they are due: a heap.
        elsewhere: Calls that other runs are making.
        unfinished: Paid replies to rows that had no outcome yet when the run was stopped.
        words: Returns, for people, what else the engine is doing; empty if nothing.
        told: Called with a line for people, once for each event that they may be waiting for.
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
        self.told: Callable[[str], None] = _unheard

    def oldest(self, now: float) -> float | None:
        """Returns for how many seconds the oldest call has been in flight; `None` while none is."""
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
    """What an engine decides by.

    `grace`: for how many seconds it waits for calls in flight once a stop is asked for. `resolve`: says what follows
    from a result that needs no retry. `otherwise`: says what to make instead of a call that failed more than once.
    `is_proven`: says whether the table can succeed at all; until then, workers get no call ahead of time, so that what
    is asked again for the first rows does not wait behind others. `in_flight`: the run's calls, where it keeps them.
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

    def ending(self, since: float = 0.0) -> str:
        """Returns, for people, what a run still does that was asked to end `since` seconds ago."""
        calls = sum(call.started is not None for call in self.gauge.given)  # as of now, not of the last result
        return (
            f"finishing {counted(calls, 'call')} (up to {max(1.0, self.grace - since):.0f} s)" if calls else "stopping"
        )

    def waiting(self) -> Waiting | None:
        """Returns what keeps the next call from starting; `None` where nothing does, or only the calls in flight.

        To be read at any time, in the iterating thread.
        """
        now = self.clock.monotonic()
        outage = self.breaker.waiting(now)
        if outage is not None or self.gauge.in_flight >= self.limits.concurrency:
            return outage
        return self.limits.waiting(now) or self.gauge.waiting(now)


def ends_run(error: BaseException) -> bool:
    """Whether `error` ends the run: it is fatal or unexpected."""
    if isinstance(error, PermissionDeniedError | NotFoundError):
        return False  # only the deciding thread knows what other calls came to
    return isinstance(error, FatalError) or not isinstance(error, ConnectorError)


class Engine(Protocol):
    """What an engine module consists of.

    Attributes:
        WAITING: How many records may wait for replies at a time.
    """

    WAITING: int

    def run(self, items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Generator[Any, None, None]:
        """Yields each `Call` of `items` as `Done` once it is, and everything else as it comes.

        Yields `IDLE` where nothing is finished for a while. A `FatalError`, or an unexpected exception of a worker,
        becomes the reason to stop, as does an error of `items`; calls that then still wait for a retry are not yielded.

        Args:
            items: Calls, and whatever passes through. They are taken in the iterating thread.
            send: Makes a call, from any thread. That of a run is a `connector.calls.caller.Caller`: it pickles, and a
                copy in another process opens connections of its own.
            control: What the engine decides by, in the iterating thread.
        """


def load(name: str = DEFAULT, *needs: Any) -> Engine:
    """Returns an engine by its name, so that what only it needs is imported only where it is chosen.

    Args:
        needs: Arguments for the `opened` of an engine that does more than make calls.
    """
    module: Any = import_module(f"{__name__}.{name}")
    return cast("Engine", module.opened(*needs) if needs else module)
