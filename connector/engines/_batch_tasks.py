"""Requests about files and batches, which may take minutes, in a few threads besides the deciding one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from connector.base.arrivals import Arrivals
from connector.engines._batch_parts import Part

_THREADS: Final = 4  # uploads, downloads and polls at a time


class Finished(NamedTuple):
    """A task that has ended: its part, its name, and what it returned or raised."""

    part: Part
    name: str
    result: Any


class Tasks:
    """Uploads, downloads and polls in progress, at most one for each part."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Part, str, Callable[[], Any]] | None] = SimpleQueue()
        self._finished: Arrivals[Finished] = Arrivals()
        self._threads = 0
        self._outstanding = 0
        self._is_closed = False

    def start(self, part: Part, name: str, do: Callable[[], Any]) -> None:
        """Has `do` called in another thread; the part is busy until `next` has returned the task."""
        part.is_busy = True
        self._outstanding += 1
        if self._threads < min(self._outstanding, _THREADS):
            self._threads += 1
            threading.Thread(target=self._work, name=f"batch-{self._threads}", daemon=True).start()
        self._queue.put((part, name, do))

    def next(self, timeout: float) -> Finished | None:
        """Returns a task that ends within `timeout` seconds; `None` if none does."""
        finished = self._finished.get(timeout)
        if finished is None:
            return None
        self._outstanding -= 1
        finished.part.is_busy = False
        return finished

    def close(self) -> None:
        """Drops tasks that have not begun. A thread that is still reading a file closes it."""
        with suppress(Empty):
            while (task := self._queue.get_nowait()) is not None:
                task[0].is_busy = False
        self._is_closed = True
        while self.next(0.0) is not None:
            pass
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            part, name, do = task
            try:
                result = do()
            except BaseException as error:  # noqa: BLE001 - handled in the deciding thread
                result = error
            self._finished.put(Finished(part, name, result))
            if self._is_closed:
                part.drop()
