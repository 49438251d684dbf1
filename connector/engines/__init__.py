"""The engines: how calls are spread over workers. One module is one engine, found by its file name.

An engine takes items in order, makes the calls among them, and yields everything in the order in which it is finished.
All decisions (retry, pace, stop) are taken in the one thread that iterates; the workers only call.

How one call is made and paced belongs in `calls`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
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
from connector.base.records import Outcome, Provenance, Record, Reply
from connector.base.spool import Spool
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.limits import Limits, Ticket
from connector.calls.rate_notice import RateNotice
from connector.calls.retry import Backoff
from connector.calls.waiting import Waiting, kind_of

DEFAULT: Final = "threads"
"""The engine that runs use. To use another one, name it here."""

_NOT_STARTED: Final = Ticket()
_JOINED: Final = -1  # no place
_LATER: Final = (
    *("origins", "revisions", "helpless", "error", "is_doubtful", "is_untried", "paid", "attempts", "other_attempts"),
    "first_started",
)
"""What a call has besides, once it was made."""


class Call:
    """A request to make, and every record that waits for its reply.

    Attributes:
        parts: The calls of rows that share this one; it then has neither a key nor records of its own.
        revisions: In which ways the request was changed since the first attempt, by name, so that none is tried twice.
        helpless: The revisions that did not help: the request was refused in the same way again.
        is_doubtful: Whether a fallback was made on suspicion, since the endpoint failed without a reason.
        is_untried: Whether it has not failed as it stands now.
        paid: Replies, or shares of one, that were paid for and did not answer the row.
        attempts: Its own.
        other_attempts: Further attempts for its rows: by calls that they shared before, and requests sent again at once
            because a kept connection had died.
        error: What it failed with last.
        first_started: When the first attempt for its rows began, in monotonic seconds.
        origins: The places at which it has waited for answers that came; see `InFlight.park`.
        started: When the attempt that is on its way began, by the same clock; `None` before a worker has begun it.
    """

    __slots__ = (
        "attempts",
        "body",
        "error",
        "first_started",
        "helpless",
        "is_doubtful",
        "is_untried",
        "key",
        "origins",
        "other_attempts",
        "paid",
        "parts",
        "records",
        "revisions",
        "started",
        "ticket",
    )

    def __init__(self, key: bytes, body: bytes, records: list[Record], parts: Sequence[Call] = ()) -> None:
        self.key = key
        self.body = body
        self.records = records
        self.parts = parts
        self.revisions: tuple[str, ...] = ()
        self.helpless: tuple[str, ...] = ()
        self.error: ConnectorError | None = None
        self.is_doubtful = False
        self.is_untried = True
        self.paid: tuple[Reply, ...] = ()
        self.attempts = 0
        self.other_attempts = 0
        self.first_started = 0.0
        self.started: float | None = None
        self.ticket = _NOT_STARTED
        self.origins: tuple[int, ...] = ()

    def revise(self, name: str, body: bytes) -> Call:
        """Changes the request, in the way called `name`, and returns the call."""
        self.revisions = (*self.revisions, name)
        self.body = body
        self.is_untried = True
        return self

    def split_from(self, shared: Call) -> None:
        """Goes on without the call that its rows shared, whose attempts count for them."""
        self.other_attempts, self.first_started = shared.total_attempts, shared.first_started

    @property
    def total_attempts(self) -> int:
        """All attempts that have been made for its rows."""
        return self.other_attempts + self.attempts


class InFlight:
    """The calls that are not done yet, by key, so that identical rows share one; `records` counts waiting rows.

    A call that waits for hours can be parked: it then lies on disk with its rows, and takes no memory.
    """

    def __init__(self) -> None:
        self._calls: dict[bytes, Call] = {}
        self._parked = Spool()
        self._paid: set[bytes] = set()  # the keys of parked calls that something was paid for already
        self._unwritten: dict[bytes, int] = {}  # where calls wait that should be parked, but cannot be written down
        self.records = 0

    def add(self, call: Call) -> None:
        """Takes note of a call to make."""
        self._calls[call.key] = call
        self.records += len(call.records)

    def parked(self, calls: Sequence[Call]) -> Collection[bytes]:
        """Returns the keys of those calls that wait on disk already, to be given to `join`."""
        return self._parked.having([call.key for call in calls])

    def join(self, call: Call, parked: Collection[bytes]) -> bool:
        """Lets the record of a call wait for one of the same key. Returns whether there is one.

        Raises:
            StorageError: The disk is full.
        """
        same = self._calls.get(call.key)
        if same is None and call.key in parked:
            data = _pickled(call)
            if data is not None:
                self._parked.put(call.key, _JOINED, data)
                self.records += 1
                return True
            same = self._kept(call.key)
        if same is None:
            return False
        same.records += call.records
        self.records += 1
        return True

    def park(self, call: Call, place: int) -> None:
        """Puts a call out of memory, where it waits at a place; `take` gives it back, as another object.

        Raises:
            StorageError: The disk is full.
        """
        data = _pickled(call)
        if data is None:
            self._unwritten[call.key], self._calls[call.key] = place, call
            return
        self._parked.put(call.key, place, data)
        self._calls.pop(call.key, None)
        if call.paid:
            self._paid.add(call.key)

    def take(self, key: bytes, place: int) -> Call | None:
        """Returns the call of a key, if it waits at this place; it does not any more."""
        if self._unwritten.get(key) == place:
            del self._unwritten[key]
            return self._calls[key]
        waiting = self._parked.take(key, place)
        if not waiting:
            return None
        self._paid.discard(key)
        call = self._calls[key] = _unpickled(key, waiting)
        return call

    def keys_at(self, place: int) -> list[bytes]:
        """Returns the keys of the calls that wait at a place. It takes long: all that are parked are gone through."""
        return [*self._parked.keys(place), *(key for key, at in self._unwritten.items() if at == place)]

    def _kept(self, key: bytes) -> Call | None:
        """Returns a parked call, which stays in memory from now on."""
        place = self._parked.get(key)[0][0]
        call = self.take(key, place)
        self._unwritten[key] = place
        return call

    def __iter__(self) -> Iterator[Call]:
        """Yields those in memory, and of the others those that something was paid for already."""
        yield from self._calls.values()
        for key in self._paid:
            yield _unpickled(key, self._parked.get(key))

    def remove(self, call: Call) -> None:
        """Forgets a call that is done."""
        del self._calls[call.key]
        self.records -= len(call.records)

    def close(self) -> None:
        """Gives back the space of what is parked."""
        self._parked.close()


def _pickled(call: Call) -> bytes | None:
    """Returns a call as it is kept on disk, but for its key; `None` where that cannot be done."""
    rows = [(row.index, row.data, row.stream, row.problem) for row in call.records]
    later = None if call.is_untried and not call.attempts else {name: getattr(call, name) for name in _LATER}
    try:
        return pickle.dumps((call.body, rows, later), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a row may hold objects of any library, which fail as they like
        return None


def _unpickled(key: bytes, waiting: Sequence[tuple[int, bytes]]) -> Call:
    """Returns a call as it was, with the rows that have joined it since."""
    kept = [pickle.loads(data) for _, data in waiting]  # noqa: S301 - written above, by this process
    body, _, later = kept[0]
    call = Call(key, body, [Record(*row) for each in kept for row in each[1]])
    for name, value in (later or {}).items():
        setattr(call, name, value)
    return call


class Done(NamedTuple):
    """A call and its result: its final reply, or the error of its rows; and the outcome, where it is known already."""

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
    """Takes every table for one that can succeed."""
    return True


def _unheard(text: str) -> None:
    del text


class Gauge:
    """What an engine is doing: calls in flight now, calls and retries so far, and rate limits that it met.

    Attributes:
        given: Calls that were given to workers, the oldest first.
        held: Calls that wait to be tried again, with when they are due: a heap.
        elsewhere: Calls whose replies other runs are about to bring.
        unfinished: What was paid for rows that had no outcome yet when the run was stopped.
        words: Returns what the engine is doing besides, for people; empty where the rest says it all.
        told: Is told, once, of each thing that has happened which people wait for.
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
        """Returns what all calls there are wait for: a failure of theirs, or another run; `None` if not all do."""
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
        """Returns what is still done once the run is asked to end, `since` so many seconds, for people."""
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
    """Whether no further call makes sense after `error`: it is fatal, or nobody expected it."""
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
        needs: What an engine needs that has more to do than to make calls: it is given to its module's `opened`.
    """
    module: Any = import_module(f"{__name__}.{name}")
    return cast("Engine", module.opened(*needs) if needs else module)
