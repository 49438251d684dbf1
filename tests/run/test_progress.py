"""What people are told while a run goes on: a line that fits, is true, and says what is waited for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from connector.base.clock import Clock
from connector.base.errors import APIConnectionError, Interrupted, RateLimitError
from connector.base.records import IDLE, Failure, Outcome, Provenance, Record, Result, Status
from connector.base.stop import Stop
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.engines import Control, Gauge
from connector.run.progress import Progress
from connector.run.runtime import Runtime
from connector.run.summary import Summary
from tests.terminals import Terminal, terminal

WIDTHS = [20, 60, 80, 200]

BUSY: Final = "another run is using the ledger out.ledger: waiting for it to end"


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clock = Clock(monotonic=lambda: self.now)


class Running:
    """A run of so many rows, whose outcomes and moments the test makes."""

    def __init__(self, rows: int | None = 1000, *, limits: Limits | None = None) -> None:
        self.time = Time()
        self.rows = rows
        self.control = Control(limits or Limits(8), Backoff(), Breaker(), Stop(), Gauge(), self.time.clock, grace=30.0)
        self.summary = Summary(self.control.gauge, self.time.clock)
        self._count = 0

    def progress(self, **how: bool) -> Progress:
        return Progress(clock=self.time.clock, **how)

    def watched(self, progress: Progress, results: Iterator[Result]) -> list[Result]:
        runtime = cast("Runtime", SimpleNamespace(summary=self.summary, control=self.control))
        return list(progress.watched(results, runtime, self.rows))

    def outcomes(self, count: int, status: Status = Status.SUCCESS, **given: Any) -> Iterator[Outcome]:
        for _ in range(count):
            self._count += 1
            provenance = Provenance(status, **{"attempts": 1, **given})
            yield Outcome(Record(self._count, {}), status, {}, {}, provenance)

    def passing(self, seconds: float) -> Iterator[Result]:
        self.time.now += seconds
        yield IDLE


@pytest.fixture(params=WIDTHS)
def screen(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    with terminal(request.param) as opened:
        yield opened


@pytest.fixture
def wide() -> Iterator[Terminal]:
    with terminal(200) as opened:
        yield opened


def shown(running: Running, screen: Terminal, *parts: Iterator[Result]) -> str:
    """The line after these results, drawn again a second later."""
    lines: list[str] = []

    def results() -> Iterator[Result]:
        for part in parts:
            yield from part
        yield IDLE
        running.time.now += 1
        yield IDLE
        lines.extend(screen.lines())

    with redirect_stderr(screen.stream), running.progress(live=True) as progress:
        running.watched(progress, results())
    assert screen.lines() == [], "it is erased at the end"
    (line,) = lines
    return line


def test_it_fits_any_terminal_and_keeps_what_matters_most(screen: Terminal, request: pytest.FixtureRequest) -> None:
    running = Running()
    running.control.gauge.in_flight = 8
    failure = Failure("BadRequestError", "no", 400)
    line = shown(
        running,
        screen,
        running.outcomes(100, cached=True),
        running.passing(9),
        running.outcomes(90, cost_usd=0.01, input_tokens=100),
        running.outcomes(10, Status.ERROR, error=failure),
    )
    columns = request.node.callspec.params["screen"]
    assert (
        line
        == {
            20: "200 of 1,000 rows",
            60: "200 of 1,000 rows · 1m20s left · 10 failed (10 × HTTP 400)",
            80: "200 of 1,000 rows · 10 rows/s · 1m20s left · 10 failed (10 × HTTP 400)",
            200: "200 of 1,000 rows · 100 known · 10 rows/s · 8 in flight · 1m20s left · $0.90 of about $8.10 · "
            "10 failed (10 × HTTP 400) · 9,000 tokens",
        }[columns]
    )


def test_rows_that_were_known_make_no_rate_and_shorten_no_time(wide: Terminal) -> None:
    running = Running(rows=1000)
    line = shown(running, wide, running.outcomes(900, cached=True), running.passing(9), running.outcomes(10))
    assert "900 known · 1.0 rows/s" in line
    assert "1m30s left" in line


def test_a_rate_below_one_row_a_second_is_shown_per_minute_or_hour(wide: Terminal) -> None:
    running = Running()
    assert "2.0 rows/min" in shown(running, wide, running.passing(29), running.outcomes(1))
    running = Running()
    assert "3.6 rows/h" in shown(running, wide, running.passing(999), running.outcomes(1))


def test_the_rate_is_that_of_the_last_moments(wide: Terminal) -> None:
    running = Running(rows=100_000)
    parts = [running.outcomes(1000)]
    for _ in range(100):
        parts += [running.passing(1), running.outcomes(20)]  # type: ignore[list-item]
    assert "20 rows/s" in shown(running, wide, *parts)


def test_the_remaining_cost_is_estimated_from_paid_calls_only(wide: Terminal) -> None:
    running = Running(rows=400)
    parts = [running.outcomes(100, cached=True, cost_usd=5.0), running.outcomes(100, cost_usd=0.02)]
    assert "$2.00 of about $6.00" in shown(running, wide, *parts)


def test_failures_are_counted_by_kind(wide: Terminal) -> None:
    running = Running()
    line = shown(
        running,
        wide,
        running.outcomes(3, Status.TRUNCATED),
        running.outcomes(2, Status.ERROR, error=Failure("TemplateError", "null", None), attempts=0),
        running.outcomes(1, Status.FILTERED),
    )
    assert "6 failed (3 × truncated, 2 × TemplateError, …)" in line


def test_an_unknown_number_of_rows_has_no_end(wide: Terminal) -> None:
    running = Running(rows=None)
    line = shown(running, wide, running.passing(1), running.outcomes(20))
    assert line.startswith("20 rows · 10 rows/s")
    assert "left" not in line


def test_a_slow_model_shows_the_age_of_its_oldest_call(wide: Terminal) -> None:
    running = Running()
    call = Call(b"", b"", [])
    call.started = running.time.now
    running.control.gauge.given[call], running.control.gauge.in_flight = None, 8
    assert "8 in flight, the oldest for 42.0 s" in shown(running, wide, running.passing(41))


def test_it_says_what_it_waits_for(screen: Terminal, request: pytest.FixtureRequest) -> None:
    running = Running()
    for _ in range(10):
        running.control.breaker.failed(
            RateLimitError("slow", http_status=429, wait=18.0), 90.0, running.time.now, 0, is_first=True
        )
    line = shown(running, screen)
    assert line == ("0 of 1,000 rows" if request.node.callspec.params["screen"] == 20 else line)
    assert line == "0 of 1,000 rows" or "429: next call in 17 s" in line


def test_an_endpoint_that_does_not_answer_is_reported(wide: Terminal) -> None:
    running = Running()
    running.control.breaker.answered()
    for _ in range(10):
        running.control.breaker.failed(APIConnectionError("refused"), 90.0, running.time.now, 0, is_first=True)
    assert "endpoint unreachable for 12 s: trying again" in shown(running, wide, running.passing(11))


def test_a_run_that_ends_says_what_it_finishes(wide: Terminal) -> None:
    running = Running()
    for _ in range(8):
        call = Call(b"", b"", [])
        call.started = running.time.now
        running.control.gauge.given[call] = None
    running.control.stop.request(Interrupted(2))
    assert "finishing 8 calls (up to 29 s)" in shown(running, wide), "a second after it was asked to"


def test_a_run_that_ends_shows_no_time_for_rows_that_it_will_not_call(wide: Terminal) -> None:
    running = Running()
    call = Call(b"", b"", [])
    call.started = running.time.now
    running.control.gauge.given[call] = None
    running.control.stop.request(Interrupted(2))
    ending = [IDLE]
    line = shown(running, wide, running.outcomes(10, cost_usd=0.01), iter(ending), running.passing(19))
    assert "finishing 1 call (up to 10 s)" in line, "the seconds that are left, not those at the start"
    assert "left" not in line
    assert "about" not in line


def test_the_time_left_is_no_shorter_than_what_is_waited_for(wide: Terminal) -> None:
    running = Running(rows=102)
    for _ in range(10):
        running.control.breaker.failed(
            RateLimitError("slow", http_status=429, wait=18.0), 90.0, running.time.now, 0, is_first=True
        )
    assert "next call in 16 s · 16" in shown(running, wide, running.passing(1), running.outcomes(100))


def test_an_endpoint_that_starts_up_makes_no_rate(wide: Terminal) -> None:
    running = Running(rows=1000)
    running.control.breaker.is_reached = True
    for _ in range(10):
        running.control.breaker.failed(APIConnectionError("refused"), 90.0, running.time.now, 0, is_first=True)

    def answered() -> Iterator[Result]:
        running.control.breaker.answered()
        running.time.now += 1
        yield from running.outcomes(20)

    line = shown(running, wide, running.passing(60), running.passing(1), answered())
    assert "10 rows/s" in line, "of the two seconds since the outage, not of a minute"


def test_the_ledger_of_another_run_is_waited_for(screen: Terminal) -> None:
    running, lines = Running(), []
    with redirect_stderr(screen.stream), running.progress(live=True) as progress:
        wait = progress.ledger_is_busy()
        for _ in range(3):
            wait(BUSY)
            running.time.now += 6
            lines.append(screen.lines())
    assert all(len(each) == 1 and each[0].startswith("another run is ") for each in lines)
    assert screen.lines() == []


def test_a_pipe_gets_a_plain_line_now_and_then() -> None:
    out = io.StringIO()
    running = Running(rows=100_000)

    def results() -> Iterator[Result]:
        for _ in range(3600):
            yield from running.passing(1)
            yield from running.outcomes(2)

    with redirect_stderr(out), running.progress(live=False) as progress:
        running.watched(progress, results())
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("18 of 100,000 rows · 1.8 rows/s · ")
    assert len(lines) == 16, "after 10, 30, 70, 150 and 310 seconds, then every five minutes"
    assert "\x1b" not in out.getvalue()


def test_a_wait_for_the_ledger_of_another_run_is_written_to_a_pipe_at_once() -> None:
    out = io.StringIO()
    running = Running()
    with redirect_stderr(out), running.progress(live=False) as progress:
        wait = progress.ledger_is_busy()
        wait(BUSY)
        wait(BUSY)
        wait("the ledger a\nb does not answer")
    assert out.getvalue().splitlines() == [BUSY, r"the ledger a\nb does not answer"]


def test_the_end_says_what_a_person_still_waits_for(wide: Terminal) -> None:
    with redirect_stderr(wide.stream), Running().progress(live=True) as progress:
        progress.says("writing the output")
        assert wide.lines() == ["writing the output"]


@pytest.mark.parametrize("live", [False, True])
def test_a_quiet_run_writes_nothing(live: bool, wide: Terminal) -> None:
    running = Running()
    with redirect_stderr(wide.stream), running.progress(live=live, quiet=True) as progress:
        running.watched(progress, (each for _ in range(1000) for each in running.passing(1)))
        progress.ledger_is_busy()(BUSY)
    wide.stream.flush()
    assert wide.lines() == []
