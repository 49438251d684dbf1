"""`on_error`: which failed rows are kept, and when they fail the run."""

from __future__ import annotations

import pytest

from connector.base.errors import RecordError
from connector.base.records import Failure, Outcome, Provenance, Record, Status
from connector.run.on_error import FailedRows, Policy


def outcome(status: Status) -> Outcome:
    error = None if status is Status.SUCCESS else Failure("ReplyError", "it was cut")
    return Outcome(Record(0, {}, "reviews"), status, {}, {}, Provenance(status, error))


@pytest.mark.parametrize(("policy", "is_kept"), [("record", True), ("skip", False), ("fail", True)])
def test_a_failed_row_is_left_out_by_skip_alone(policy: Policy, *, is_kept: bool) -> None:
    for status in filter(lambda each: each.is_failure, Status):
        assert FailedRows().keeps(outcome(status), policy) is is_kept


@pytest.mark.parametrize("policy", ["record", "skip", "fail"])
def test_a_success_and_a_skipped_row_are_kept_and_fail_nothing(policy: Policy) -> None:
    failed = FailedRows()
    assert failed.keeps(outcome(Status.SUCCESS), policy)
    assert failed.keeps(outcome(Status.SKIPPED), policy)
    failed.check()
    assert not failed.fail_the_run


@pytest.mark.parametrize("policy", ["record", "skip"])
def test_other_policies_never_fail_the_run(policy: Policy) -> None:
    failed, row = FailedRows(), outcome(Status.TRUNCATED)
    failed.keeps(row, policy)
    failed.check()
    assert not failed.fail_the_run


def test_fail_fails_the_run_with_how_many_rows_failed() -> None:
    failed = FailedRows()
    for status in (Status.ERROR, Status.SUCCESS, Status.FILTERED):
        failed.keeps(outcome(status), "fail")
    assert failed.fail_the_run
    with pytest.raises(RecordError, match="2 rows failed"):
        failed.check()


def test_at_once_fail_ends_the_run_with_the_stream_and_the_reason() -> None:
    with pytest.raises(RecordError, match=r'stream "reviews": a row failed, and on_error is "fail": it was cut'):
        FailedRows(at_once=True).keeps(outcome(Status.TRUNCATED), "fail")


@pytest.mark.parametrize("policy", ["record", "skip"])
def test_at_once_no_other_policy_ends_the_run(policy: Policy) -> None:
    failed = FailedRows(at_once=True)
    assert failed.keeps(outcome(Status.TRUNCATED), policy) is (policy == "record")
    failed.check()
