"""What people are told while a run goes on."""

from __future__ import annotations

import io

from connector.base.clock import Clock
from connector.base.cost import Budget
from connector.base.records import Outcome, Provenance, Record, Status
from connector.calls.breaker import Breaker
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.engines import Control, Gauge, Stop
from connector.run.progress import Progress
from connector.run.summary import Summary


def outcome(number: int, status: Status = Status.SUCCESS) -> Outcome:
    return Outcome(Record(number, {}), status, {}, {}, Provenance(status, cached=number == 0))


def progress(out: io.StringIO, *, live: bool) -> Progress:
    seconds = iter(range(1000))
    clock = Clock(monotonic=lambda: float(next(seconds)))
    control = Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge(), clock)
    budget = Budget()
    budget.cost_usd, budget.tokens = 0.5, 1200
    return Progress(Summary(control.gauge, clock), control, budget, out, rows=10, live=live)


def test_the_line_tells_rows_rate_flight_retries_tokens_cost_and_time_left() -> None:
    out = io.StringIO()
    list(progress(out, live=True).watched(iter([outcome(0), outcome(1, Status.ERROR)])))
    line = out.getvalue().split("\x1b[K")[-1]
    for part in ("2 of 10 rows", "/s", "in flight", "retries", "1,200 tokens", "$0.5000", "1 failed", "left"):
        assert part in line


def test_nothing_is_drawn_where_nobody_looks() -> None:
    out = io.StringIO()
    watched = progress(out, live=False)
    list(watched.watched(iter([outcome(0)])))
    watched.close()
    assert out.getvalue() == ""
