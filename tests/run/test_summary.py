"""What a run came to: its rows, what they cost, and why some failed, as people and programs are told."""

from __future__ import annotations

from typing import Any

from connector.base.clock import Clock
from connector.base.records import Outcome, Provenance, Record, Status
from connector.engines import Gauge
from connector.run.summary import Summary
from tests.run.test_causes import failed


def paid(number: int, **known: Any) -> Outcome:
    return Outcome(Record(number - 1, {}), Status.SUCCESS, {}, {}, Provenance(Status.SUCCESS, attempts=1, **known))


NULL = 'prompt: column "price_eur" is null; {{ price_eur | default("…") }} says what to send instead'


def summary_of(*outcomes: Outcome) -> Summary:
    seconds = iter(range(0, 10_000, 4))
    summary = Summary(Gauge(), Clock(monotonic=lambda: float(next(seconds))))
    list(summary.watched(iter(outcomes)))
    return summary


def test_rows_are_counted_by_status_and_what_was_paid_for_before_costs_nothing_now() -> None:
    summary = summary_of(
        paid(1, input_tokens=10, output_tokens=2, cost_usd=0.25, cached_tokens=4, reasoning_tokens=1),
        paid(2, input_tokens=10, output_tokens=2, cost_usd=0.25, cached=True),
        failed(3, "no"),
        Outcome(Record(3, {}), Status.SKIPPED, {}, {}, Provenance(Status.SKIPPED)),
    )
    assert summary.statuses == {Status.SUCCESS: 2, Status.ERROR: 1, Status.SKIPPED: 1}
    assert (summary.rows, summary.failed, summary.cached, summary.tokens) == (4, 1, 1, 12)
    assert (summary.cost_usd, summary.saved_usd, summary.cached_tokens, summary.reasoning_tokens) == (0.25, 0.25, 4, 1)


def test_a_cost_that_nobody_reports_is_unknown_and_never_zero() -> None:
    assert summary_of(paid(1)).cost_usd is None
    assert summary_of(paid(1, cost_usd=0.0)).cost_usd == 0.0


def test_its_text_says_what_the_run_did_and_why_rows_failed() -> None:
    nulls = [failed(number, NULL, "TemplateError") for number in (12, 40, 77, 80)]
    lines = str(summary_of(paid(1), paid(2, cached=True), *nulls, failed(3, "no"))).splitlines()
    assert lines[0] == "7 rows in 4.0 s (15 rows/min): 5 error, 2 success", "of the one that was called for"
    assert "1 row answered without a new call" in lines[1]
    assert lines[2:] == [
        "5 rows failed:",
        '  4 × price_eur is null in prompt → use {{ price_eur | default("…") }} (rows 12, 40, 77, …)',
        "  1 × no (row 3)",
    ]


def test_a_run_without_rows_says_so() -> None:
    assert not summary_of()
    assert "nothing to do" in str(summary_of())


def test_its_values_for_programs_hold_all_causes_and_no_object() -> None:
    told = summary_of(*(failed(number, f"reason {chr(96 + number)}") for number in range(1, 10))).to_dict()
    assert (told["rows"], told["statuses"], told["cost_usd"], len(told["causes"])) == (9, {"error": 9}, None, 9)
    assert told["causes"][0] == {
        "count": 1,
        "status": "error",
        "error": "BadRequestError",
        "reason": "reason a",
        "change": "",
        "rows": [1],
        "stream": "",
        "places": [],
    }


def test_only_the_most_frequent_causes_are_shown_and_the_others_counted() -> None:
    text = summary_of(*(failed(number, f"reason {chr(97 + number % 8)}") for number in range(20))).failures()
    assert text[0] == "all 20 rows failed:"
    assert len(text) == 7
    assert text[-1] == "  6 × for 3 further reasons"
