"""Live calls for requests that a batch did not answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from connector.base.records import IDLE, Reply
from connector.calls.call import Call
from connector.engines import Control, Done, Gauge, as_it_stands, load, nothing_else
from connector.engines._dispatch import Ended


class LiveCalls:
    """Makes calls like the default engine.

    Attributes:
        outstanding: The number of calls that have not ended.
        has_ended: Whether the run has been stopped, so that no more calls end.
    """

    def __init__(self, send: Callable[[bytes], Reply], control: Control) -> None:
        self._calls: deque[Call] = deque()
        self.outstanding = 0
        self.has_ended = False
        steered = control._replace(gauge=Gauge(), resolve=as_it_stands, otherwise=nothing_else)
        self._results = load().run(self._items(), send, steered)

    def add(self, call: Call) -> None:
        """Queues a call."""
        call.first_started = 0.0  # its time begins now
        self._calls.append(call)
        self.outstanding += 1

    def next(self) -> Ended | None:
        """Returns a call that has ended; `None` if none ends soon. `dispatch` counts its attempt."""
        for item in self._results:
            if not isinstance(item, Done):
                return None
            self.outstanding -= 1
            item.call.attempts -= 1
            result = item.result
            return item.call, result._replace(attempts=1) if isinstance(result, Reply) else result
        self.has_ended = True
        return None

    def close(self) -> None:
        """Ends. Calls in flight are abandoned."""
        self._results.close()

    def _items(self) -> Iterator[Any]:
        while True:
            yield self._calls.popleft() if self._calls else IDLE
