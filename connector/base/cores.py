"""Keeps all threads of the program on one core.

Python runs one thread at a time. If a run's threads are spread over cores, the interpreter's lock moves between cores
with each hand-over, which costs twice the CPU of the run itself; on one core a hand-over costs almost nothing. The core
is monitored: when other programs need it and another core is free, all threads move.

Programs started by this one may use every core. A process inherits the cores of the thread that starts it, so that
thread gets all of them just before the start, until the next check.
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

_EVERY: Final = 1.0  # seconds between checks
_CROWDED: Final = 0.15  # the share of the core used by others below which a move is not worth it
_BETTER: Final = 0.10  # how much more of another core has to be free
_CHANCE: Final = 0.5  # the probability of a move: programs that share a core should not all move to the same other one
_STAT: Final = Path("/proc/stat")
_TASKS: Final = Path("/proc/self/task")
_IDLE, _WAITING = 3, 4  # columns of /proc/stat: see proc_stat(5)
_STARTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})
"""Python's audit events just before a process is started."""

_CORE: Final = 36  # the index of the field `processor` of proc_pid_stat(5), counted from after the name

Seconds = Mapping[int, float]
"""How long each core has been busy, by its number."""


class OneCore:
    """The core on which all threads are kept.

    Args:
        core: The initial core.
        busy: Returns how long each usable core has been busy with any process.
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
        """Records that a thread was released to all cores: the next check moves it back."""
        self._is_loose = True

    def look(self) -> None:
        """Moves all threads if others have used the core since the last check and another one was less busy."""
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
    """Keeps all threads of this process on one core while entered, if the system supports that."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) < 2 or not getattr(sys, "_is_gil_enabled", lambda: True)():  # noqa: PLR2004 - with one core there is no choice
        yield
        return
    over = threading.Event()
    try:
        kept = OneCore(
            _current(), lambda: _busy(allowed), time.process_time, time.monotonic, lambda core: _move({core})
        )
    except (OSError, ValueError, IndexError):  # no /proc, or another format
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
            times = [int(each) for each in rest.split()[:8]]  # without guest times, which are included in user
            found[int(name[3:])] = (sum(times) - times[_IDLE] - times[_WAITING]) / ticks
    return found


def _move(cores: set[int]) -> None:
    for task in _TASKS.iterdir():
        with suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(task.name), cores)
