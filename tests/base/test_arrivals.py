"""What threads hand over arrives once each and in order, and no signal makes a wait endless."""

from __future__ import annotations

import signal
import threading
from itertools import groupby

from connector.base.arrivals import Arrivals


def test_what_is_put_comes_out_in_order_and_then_nothing() -> None:
    arrivals: Arrivals[int] = Arrivals()
    for number in range(3):
        arrivals.put(number)
    assert [arrivals.get(0) for _ in range(4)] == [0, 1, 2, None]
    arrivals.put(3)
    assert [arrivals.get(60), arrivals.get(0)] == [3, None]


def test_everything_that_many_threads_put_arrives_once_and_in_their_order() -> None:
    arrivals: Arrivals[tuple[int, int]] = Arrivals()

    def put(thread: int) -> None:
        for number in range(2000):
            arrivals.put((thread, number))

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    got = [arrivals.get(60) for _ in range(8 * 2000)]
    for thread in threads:
        thread.join()
    assert arrivals.get(0) is None
    by_thread = {thread: list(each) for thread, each in groupby(sorted(filter(None, got)), lambda item: item[0])}
    assert by_thread == {thread: [(thread, number) for number in range(2000)] for thread in range(8)}
    assert all([item for item in got if item and item[0] == thread] == each for thread, each in by_thread.items())


def test_a_signal_that_is_handled_beyond_the_time_to_wait_does_not_make_it_endless() -> None:
    arrivals: Arrivals[int] = Arrivals()
    timeout = 0.05
    handled: list[int] = []

    def handle(number: int, _frame: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        signal.setitimer(signal.ITIMER_REAL, 2 * timeout)
        handled.append(signal.sigwait({number}))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, timeout / 2)
    try:
        while not handled:
            assert arrivals.get(timeout) is None
    finally:
        signal.signal(signal.SIGALRM, before)
