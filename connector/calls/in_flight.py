"""`InFlight`: the calls of a run that are not done yet, in memory or, if they wait for hours, on disk."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from connector.base.records import Record
from connector.base.spool import Spool
from connector.calls.call import Call

_JOINED: Final = -1  # no place
_PROGRESS: Final = (
    *("origins", "revisions", "helpless", "error", "is_doubtful", "is_untried", "paid", "attempts", "other_attempts"),
    "first_started",
)
"""The attributes that a call gets from attempts; a call that was never tried is stored without them."""


class InFlight:
    """The calls that are not done yet, by key, so that identical rows share one; `records` counts waiting rows.

    A call that waits for hours can be parked: it is then on disk with its rows, and takes no memory.
    """

    def __init__(self) -> None:
        self._calls: dict[bytes, Call] = {}
        self._parked = Spool()
        self._paid: set[bytes] = set()  # the keys of parked calls for which something was already paid
        self._unwritten: dict[bytes, int] = {}  # the places of calls that should be parked but cannot be pickled
        self.records = 0

    def add(self, call: Call) -> None:
        """Adds a call to make."""
        self._calls[call.key] = call
        self.records += len(call.records)

    def parked(self, calls: Sequence[Call]) -> Collection[bytes]:
        """Returns the keys of those calls that are already waiting on disk, to be passed to `join`."""
        return self._parked.having([call.key for call in calls])

    def join(self, call: Call, parked: Collection[bytes]) -> bool:
        """Adds the record of a call to a waiting call of the same key. Returns whether there is one.

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
        """Moves a call from memory to disk, where it waits at a place; `take` returns it as another object.

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
        """Removes and returns the call of a key, if it waits at this place; else `None`."""
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
        """Returns the keys of the calls that wait at a place. Slow: it scans all parked calls."""
        return [*self._parked.keys(place), *(key for key, at in self._unwritten.items() if at == place)]

    def _kept(self, key: bytes) -> Call | None:
        """Returns a parked call and moves it back to memory."""
        place = self._parked.get(key)[0][0]
        call = self.take(key, place)
        self._unwritten[key] = place
        return call

    def __iter__(self) -> Iterator[Call]:
        """Yields the calls in memory, and those on disk for which something was already paid."""
        yield from self._calls.values()
        for key in self._paid:
            yield _unpickled(key, self._parked.get(key))

    def remove(self, call: Call) -> None:
        """Removes a call that is done."""
        del self._calls[call.key]
        self.records -= len(call.records)

    def close(self) -> None:
        """Frees the space of parked calls."""
        self._parked.close()


def _pickled(call: Call) -> bytes | None:
    """Returns a call, without its key, in its form on disk; `None` if it cannot be pickled."""
    rows = [(row.index, row.data, row.stream, row.problem) for row in call.records]
    progress = None if call.is_untried and not call.attempts else {name: getattr(call, name) for name in _PROGRESS}
    try:
        return pickle.dumps((call.body, rows, progress), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a row may hold objects of any library, which may raise anything
        return None


def _unpickled(key: bytes, waiting: Sequence[tuple[int, bytes]]) -> Call:
    """Restores a call, with the rows that have joined it since."""
    kept = [pickle.loads(data) for _, data in waiting]  # noqa: S301 - written above, by this process
    body, _, progress = kept[0]
    call = Call(key, body, [Record(*row) for each in kept for row in each[1]])
    for name, value in (progress or {}).items():
        setattr(call, name, value)
    return call
