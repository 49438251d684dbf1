"""The core that the program's threads share: kept, and changed where others need it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Final

import pytest

from connector.base.cores import OneCore, one_core

ALWAYS, NEVER = 0.0, 1.0
CASES: Final = [
    # the share of each core that is used in all, our own share of core 0, by chance, the core afterwards
    ([1.0, 0.0], 1.0, ALWAYS, 0),  # nobody else
    ([1.0, 0.9], 0.2, ALWAYS, 0),  # crowded, but so is the other
    ([1.0, 0.1], 0.5, ALWAYS, 1),
    ([1.0, 0.1], 0.5, NEVER, 0),
    ([0.1, 0.0], 0.0, ALWAYS, 0),  # others need little
    ([1.0, 0.3, 0.2], 0.5, ALWAYS, 2),
    ([1.0, 0.0], 0.9, ALWAYS, 0),
]


@pytest.mark.parametrize(("used", "own", "chance", "told"), CASES)
def test_all_threads_move_where_others_need_the_core_and_another_is_free(
    used: list[float], own: float, chance: float, told: int
) -> None:
    seconds, moves = [0.0], [-1]
    kept = OneCore(
        0,
        lambda: {core: share * seconds[0] for core, share in enumerate(used)},
        lambda: own * seconds[0],
        lambda: seconds[0],
        moves.append,
        lambda: chance,
    )
    assert moves == [-1, 0]
    kept.look()  # at the same moment, from which nothing can be told
    seconds[0] = 2.0
    kept.look()
    assert moves[-1] == told


def test_a_thread_that_was_let_go_is_brought_back_at_the_next_look() -> None:
    moves: list[int] = []
    kept = OneCore(3, lambda: {3: 0.0}, lambda: 0.0, lambda: 0.0, moves.append)
    kept.look()
    kept.loosen()
    kept.look()
    kept.look()
    assert moves == [3, 3]


def test_a_core_that_is_gone_is_left() -> None:
    busy = [{0: 0.0, 1: 0.0}, {1: 0.0}]
    times, moves = iter([0.0, 1.0]), []  # type: ignore[var-annotated]
    kept = OneCore(0, lambda: busy.pop(0), lambda: 0.0, lambda: next(times), moves.append, lambda: ALWAYS)
    kept.look()
    assert moves == [0, 1]


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1, reason="needs Linux with several cores"
)
def test_threads_of_any_age_share_a_core_and_have_all_of_them_back_at_the_end() -> None:
    script = (
        "import os, threading\n"
        "from connector.base.cores import one_core\n"
        "go, seen = threading.Event(), []\n"
        "look = lambda: (go.wait(), seen.append(os.sched_getaffinity(0)))\n"
        "old = threading.Thread(target=look); old.start()\n"
        "before = os.sched_getaffinity(0)\n"
        "with one_core():\n"
        "    go.set(); old.join()\n"
        "    new = threading.Thread(target=look); new.start(); new.join()\n"
        "    seen.append(os.sched_getaffinity(0))\n"
        "assert len(seen) == 3 and seen[0] == seen[1] == seen[2] and len(seen[0]) == 1, seen\n"
        "assert os.sched_getaffinity(0) == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1, reason="needs Linux with several cores"
)
@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, '-c', look], check=True)",
        "os.system(shlex.join([sys.executable, '-c', look]))",
        "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', look], os.environ), 0)",
        "os.waitpid(os.fork() or (exec(look), os._exit(0)), 0)",
    ],
)
def test_a_process_that_is_started_has_every_core(start: str) -> None:
    script = (
        "import os, shlex, subprocess, sys, threading\n"
        "from connector.base.cores import one_core\n"
        "look = 'import os; os.write(1, str(sorted(os.sched_getaffinity(0))).encode() + bytes([10]))'\n"
        "exec(look)\n"
        "with one_core():\n"
        "    assert len(os.sched_getaffinity(0)) == 1\n"
        f"    thread = threading.Thread(target=lambda: {start}); thread.start(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    every, seen = done.stdout.splitlines()
    assert seen == every


def test_where_the_system_has_no_such_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    before = threading.active_count()
    with one_core():
        assert threading.active_count() == before
