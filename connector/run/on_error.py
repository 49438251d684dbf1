"""`on_error`: what becomes of failed rows. `record` keeps them, `skip` leaves them out, `fail` also fails the run."""

from __future__ import annotations

from typing import Literal

from connector.base.errors import RecordError
from connector.base.records import Outcome, Status

Policy = Literal["record", "skip", "fail"]


class FailedRows:
    """Applies the policy to the outcomes of a run, and counts those that failed."""

    def __init__(self) -> None:
        self._failing = 0

    def keeps(self, outcome: Outcome, policy: Policy) -> bool:
        """Returns whether a row belongs in the output. Every outcome of the run is asked about once."""
        if outcome.status is Status.SUCCESS:
            return True
        self._failing += policy == "fail"
        return policy != "skip"

    @property
    def fail_the_run(self) -> bool:
        """Whether a row has failed whose policy is `fail`."""
        return self._failing > 0

    def check(self) -> None:
        """Ends a run whose rows are all out.

        Raises:
            RecordError: A row failed, and its policy is `fail`.
        """
        if self._failing:
            raise RecordError(f"{self._failing:,} rows failed, and on_error is fail: each says why in its provenance")

    def check_at_once(self, outcome: Outcome) -> None:
        """Ends a run at the row that has just been asked about, for consumers that cannot take rows back later.

        Raises:
            RecordError: It failed, and its policy is `fail`.
        """
        if self._failing and outcome.provenance.error is not None:
            stream, problem = outcome.record.stream, outcome.provenance.error.message
            raise RecordError(f'stream "{stream}": a row failed, and on_error is "fail": {problem}')
