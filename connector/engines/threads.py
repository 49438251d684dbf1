"""Threads over one shared transport: the default engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from connector.base.arrivals import Arrivals
from connector.base.errors import FatalError
from connector.base.records import Reply
from connector.calls.call import Call
from connector.engines import Control, ends_run
from connector.engines._dispatch import Ended, dispatch

WAITING: Final = 20_000
"""See `connector.engines.Engine`. It is high because many rows may be the same, and wait for one call."""


def run(items: Iterator[Any], send: Callable[[bytes], Reply], control: Control) -> Generator[Any, None, None]:
    """See `connector.engines.Engine.run`."""
    workers = _Threads(send, control)
    try:
        yield from dispatch(items, workers, control)
    finally:
        workers.close()


class _Threads:
    """Plain daemon threads on one queue, started on demand."""

    def __init__(self, send: Callable[[bytes], Reply], control: Control) -> None:
        self._send = send
        self._most = control.limits.most
        self._now = control.clock.monotonic
        self._stop = control.stop
        self._todo: SimpleQueue[Call | None] = SimpleQueue()
        self._done: Arrivals[Ended] = Arrivals()
        self._room = control.room
        self._taken = 0  # of the room, by the reply that was returned last
        self._threads = 0
        self.outstanding = 0

    @property
    def in_flight(self) -> int:
        return self.outstanding - self._todo.qsize()

    def start(self, call: Call) -> bool:
        self.outstanding += 1
        if self._threads < self._most and self._threads < self.outstanding:
            self._grow()
        self._todo.put(call)
        return True

    def _grow(self) -> None:
        """Starts one more thread; if the system allows no more, the existing ones make all calls.

        Raises:
            FatalError: There is none at all.
        """
        try:
            threading.Thread(target=self._work, name=f"call-{self._threads + 1}", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            if not self._threads:
                self.outstanding -= 1
                raise FatalError(
                    f"no thread can be started ({error}): allow this process more threads or memory"
                ) from error
            self._most = self._threads
        else:
            self._threads += 1

    def next(self, timeout: float) -> Ended | None:
        if self._taken:
            self._leave()
        ended = self._done.get(timeout)
        if ended is not None:
            self.outstanding -= 1
            if isinstance(ended[1], Reply):
                self._taken = ended[1].size
        return ended

    def _leave(self) -> None:
        """Lets the next large reply into the room: the last one has been handed on."""
        if self._room is not None:
            self._room.leave(self._taken)
        self._taken = 0

    def recall(self) -> list[Call]:
        calls: list[Call] = []
        with suppress(Empty):
            while (call := self._todo.get_nowait()) is not None:
                calls.append(call)
        self.outstanding -= len(calls)
        return calls

    def close(self) -> None:
        self._leave()
        self.recall()
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        get, put, send, now, stop = self._todo.get, self._done.put, self._send, self._now, self._stop
        while (call := get()) is not None:
            call.started = now()
            try:
                put((call, send(call.body) if stop.reason is None else None))
            except BaseException as error:  # noqa: BLE001 - raised again in the deciding thread
                if ends_run(error):
                    stop.request(error)  # at once, so that no further call begins
                put((call, error))
