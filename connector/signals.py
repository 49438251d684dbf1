"""Turns the first SIGINT or SIGTERM into a request to stop; the second one ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from connector.base.errors import Interrupted
from connector.base.live_line import LiveLine
from connector.base.stop import Stop
from connector.base.terminal import one_line

_AGAIN: Final = {signal.SIGINT: "Ctrl-C again", signal.SIGTERM: "a second signal"}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """While entered, the first signal asks `stop` to end the run in good order, the second one ends the process."""

    def handle(number: int, _frame: FrameType | None) -> None:
        erase = sys.stderr.taken() if isinstance(sys.stderr, LiveLine) else ""
        if stop.reason is not None:
            left = stop.leaving()
            _say(f"{erase}{one_line(left)}\n" if left else erase)
            end_by(number)
        stop.request(Interrupted(number))
        _say(f"{erase}{one_line(stop.ending())}; {_AGAIN[signal.Signals(number)]} ends at once\n")

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    with suppress(OSError):  # not by `print`, which the signal may have interrupted
        os.write(2, text.encode())


def end_by(number: int) -> NoReturn:
    """Ends the process by the signal itself, so that its parent sees what happened (a shell: 130, 143)."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)
