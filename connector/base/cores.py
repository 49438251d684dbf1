"""One core for all threads of the program.

Python runs one thread at a time. Where a run's threads are spread over cores, the interpreter's lock goes from core to
core with each hand-over, which costs twice the CPU of the run itself; on one core it is handed over for nothing. The
core is looked after: when others need it and another is free, all threads move.

Programs that this one starts may use every core. A process begins with the cores of the thread that starts it, so that
thread has all of them just before, and until the next look.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

_EVERY: Final = 1.0  # seconds between two looks
_CROWDED: Final = 0.15  # of the core that others use: below that, a move is not worth it
_BETTER: Final = 0.10  # so much more of another core has to be free
_CHANCE: Final = 0.5  # of a move: programs that share a core should not all move to the same other one
_STAT: Final = Path("/proc/stat")
_TASKS: Final = Path("/proc/self/task")
_IDLE, _WAITING = 3, 4  # of the columns in /proc/stat, which proc_stat(5) describes
_STARTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})
"""Python's audit events just before a process is started."""

_CORE: Final = 36  # the field `processor` of proc_pid_stat(5), counted from behind the name

Seconds = Mapping[int, float]
"""How long each core has been busy, by its number."""


class OneCore:
    """The core that all threads are kept on.

    Args:
        core: The one to begin with.
        busy: Returns for how long each usable core has been busy, with any process.
        own: Returns how many seconds of CPU this process has used.
        now: The time, in seconds.
        move: Moves all threads of this process to a core.
        chance: Returns a random number between 0 and 1.
    """

    def __init__(
        self,
        core: int,
        busy: Callable[[], Seconds],
        own: Callable[[], float],
        now: Callable[[], float],
        move: Callable[[int], object],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._core = core
        self._busy = busy
        self._own = own
        self._now = now
        self._move = move
        self._chance = chance
        self._is_loose = False
        self._last = now(), busy(), own()
        move(core)

    def loosen(self) -> None:
        """Notes that a thread was let go: the next look brings it back."""
        self._is_loose = True

    def look(self) -> None:
        """Moves where others have used the core since the last look, and another one was freer."""
        if self._is_loose:
            self._is_loose = False
            self._move(self._core)
        (began, before, own), self._last = self._last, (self._now(), self._busy(), self._own())
        ended, after, now_own = self._last
        if ended <= began:
            return
        used = {core: (after[core] - before.get(core, after[core])) / (ended - began) for core in after}
        others = used.get(self._core, 1.0) - (now_own - own) / (ended - began)
        freest = min(used, key=lambda core: used[core], default=self._core)
        if others > _CROWDED and used[freest] + _BETTER < others and self._chance() < _CHANCE:
            self._core = freest
            self._move(freest)


@contextmanager
def one_core() -> Iterator[None]:
    """While entered, keeps all threads of this process on one core, if the system supports that."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) < 2 or not getattr(sys, "_is_gil_enabled", lambda: True)():  # noqa: PLR2004 - one has no choice
        yield
        return
    over = threading.Event()
    try:
        kept = OneCore(
            _current(), lambda: _busy(allowed), time.process_time, time.monotonic, lambda core: _move({core})
        )
    except (OSError, ValueError, IndexError):  # no /proc, or one of another kind
        yield
        return

    def watch() -> None:
        with suppress(OSError, ValueError, IndexError):
            while not over.wait(_EVERY):
                kept.look()

    def let_go() -> None:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)
            kept.loosen()

    threading.Thread(target=watch, name="core", daemon=True).start()
    _hear()
    _before_start.append(let_go)
    try:
        yield
    finally:
        _before_start.remove(let_go)
        over.set()
        with suppress(OSError):
            _move(allowed)


_before_start: Final[list[Callable[[], None]]] = []


@cache
def _hear() -> None:
    """Installs the hook that calls `_before_start` before any library starts a process; it cannot be removed."""

    def heard(event: str, _: object) -> None:
        if event in _STARTS:
            for each in _before_start:
                each()

    sys.addaudithook(heard)


def _current() -> int:
    return int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[_CORE])


def _busy(allowed: set[int]) -> dict[int, float]:
    ticks = os.sysconf("SC_CLK_TCK")
    found: dict[int, float] = {}
    for line in _STAT.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in allowed:
            times = [int(each) for each in rest.split()[:8]]  # without those of guests, which are counted as user
            found[int(name[3:])] = (sum(times) - times[_IDLE] - times[_WAITING]) / ticks
    return found


def _move(cores: set[int]) -> None:
    for task in _TASKS.iterdir():
        with suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(task.name), cores)
