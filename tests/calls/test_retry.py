"""How long a row waits before it is tried again, whatever an endpoint writes into its headers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import APIConnectionError, RateLimitError
from connector.calls.retry import Backoff
from connector.http.retry_after import asked_wait, empty_wait, seconds

NOW = 1_700_000_000.0
JUNK = ["", " ", "soon", "-1", "-5s", "1_000", "0x10", "nan", "inf", "1,5", "5 s", "s", "1e3", "٣", "6m0", "\x00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20ms", 0.02),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("250µs", 0.00025),
        ("7.66s", 7.66),
        ("0", 0.0),
        ("17", 17.0),
        (" 1.5 ", 1.5),
        (".5", 0.5),
        ("3.", 3.0),
    ],
)
def test_durations_are_read_as_rate_limit_headers_write_them(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", [*JUNK, "9" * 400, "9" * 400 + "s", "1700000060", "0" * 60_000, "1s" * 30_000])
def test_what_is_not_a_duration_is_none(text: str) -> None:
    assert seconds(text) is None


@given(st.text(max_size=40) | st.text("0123456789.hmsµund ", max_size=20))
def test_any_text_gives_a_usable_number_of_seconds_or_none(text: str) -> None:
    value = seconds(text)
    assert value is None or 0 <= value < 1e9


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_a_duration_written_by_go_is_read_exactly(hours: int, minutes: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{milliseconds / 1000}s"
    assert seconds(text) == pytest.approx(hours * 3600 + minutes * 60 + milliseconds / 1000)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": datetime.fromtimestamp(NOW + 9, UTC).strftime("%A, %d-%b-%y %H:%M:%S GMT")}, 9.0),
        ({"retry-after": datetime.fromtimestamp(NOW + 9, UTC).strftime("%a %b %d %H:%M:%S %Y")}, 9.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"llm_provider-retry-after": "60"}, 60.0),
        ({"retry-after": "soon", "x-ratelimit-retry-after": "4"}, 4.0),
        ({}, None),
    ],
)
def test_what_an_endpoint_asks_for_is_understood(headers: dict[str, str], expected: float | None) -> None:
    assert asked_wait(headers, now=NOW) == expected


@pytest.mark.parametrize("junk", [*JUNK, "Fri, 32 Foo 2023 99:99:99 GMT"])
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms", "x-ratelimit-reset-requests"])
def test_junk_in_a_header_asks_for_nothing(name: str, junk: str) -> None:
    assert asked_wait({name: junk, "x-ratelimit-remaining-requests": "0"}, now=NOW) is None


def test_a_time_of_the_clock_is_not_taken_for_a_number_of_seconds() -> None:
    assert asked_wait({"retry-after": "1700000060"}, now=NOW) is None


def test_a_date_without_a_zone_is_in_gmt_wherever_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert asked_wait({"retry-after": "Tue Nov 14 22:13:29 2023"}, now=NOW) == 9
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(max_size=40))
def test_no_header_can_make_reading_it_fail(text: str) -> None:
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"):
        asked_wait({"x-ratelimit-remaining-tokens": "0", name: text}, now=NOW)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - the zone is added below
def test_a_wait_until_a_date_ends_no_earlier_than_the_date(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    wait = asked_wait({"retry-after": format_datetime(moment, usegmt=True)}, now=NOW)
    assert wait is not None
    assert NOW + wait >= moment.timestamp()


def test_a_reset_counts_only_where_its_own_bucket_is_empty() -> None:
    resets = {"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "20ms"}
    assert empty_wait(resets) is None
    assert empty_wait({**resets, "x-ratelimit-remaining-requests": "1", "x-ratelimit-remaining-tokens": "0"}) == 0.02
    assert empty_wait({**resets, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "0"}) == 360.0
    assert asked_wait({**resets, "x-ratelimit-remaining-requests": "0"}, now=NOW) == 360.0


def asked(wait: float | None) -> RateLimitError:
    return RateLimitError("slow down", wait=wait)


def test_waits_double_and_jitter_fully() -> None:
    backoff = Backoff(max_retries=8, base=0.5, cap=30)
    longest = [backoff.wait(APIConnectionError("no"), attempt, 0, lambda: 1.0) for attempt in range(1, 9)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.wait(APIConnectionError("no"), 5, 0, lambda: 0.0) == 0
    waits = [backoff.wait(APIConnectionError("no"), 5, 0, Random(seed).random) or 0 for seed in range(1000)]
    assert 3.5 < sum(waits) / 1000 < 4.5


def test_retries_are_counted_and_timed() -> None:
    backoff = Backoff(max_retries=2, max_elapsed=60)
    assert backoff.wait(asked(None), 2, 0, lambda: 0.5) is not None
    assert backoff.wait(asked(None), 3, 0, lambda: 0.5) is None
    assert backoff.wait(asked(10), 1, 49, lambda: 0.0) == 10
    assert backoff.wait(asked(10), 1, 51, lambda: 0.0) is None


@given(st.floats(0, 500), st.integers(1, 10), st.floats(0, 0.999), st.floats(0.1, 300))
def test_no_wait_is_shorter_than_asked_nor_longer_than_allowed(
    ask: float, attempt: int, chance: float, max_wait: float
) -> None:
    backoff = Backoff(max_retries=10, max_wait=max_wait)
    wait = backoff.wait(asked(ask), attempt, 0, lambda: chance)
    assert (wait is None) == (ask > max_wait)
    assert wait is None or ask <= wait <= max_wait


@given(st.integers(1, 10), st.floats(0, 0.999), st.floats(0.01, 300))
def test_an_own_wait_never_fails_a_row_by_being_too_long(attempt: int, chance: float, max_wait: float) -> None:
    wait = Backoff(max_retries=10, max_wait=max_wait).wait(APIConnectionError("no"), attempt, 0, lambda: chance)
    assert wait is not None
    assert wait <= max_wait


def test_rows_that_are_asked_to_wait_alike_do_not_come_back_all_at_once() -> None:
    waits = {Backoff().wait(asked(20), 3, 0, Random(seed).random) for seed in range(100)}
    assert len(waits) == 100
    assert max(wait or 0 for wait in waits) < 21


@pytest.mark.parametrize("asked", [1.0, 5.0, 60.0])
def test_rows_that_are_asked_to_wait_come_back_spread_over_a_second_or_more(asked: float) -> None:
    random = Random(7).random
    waits = [Backoff().wait(RateLimitError("slow", wait=asked), 1, 0.0, random) for _ in range(24)]
    found = sorted(wait for wait in waits if wait is not None)
    assert len(found) == 24
    assert found[0] >= asked
    assert found[-1] - found[0] > 0.7
