"""`on_error`: what happens to failed rows. `record` keeps them, `skip` leaves them out, `fail` also fails the run."""

from __future__ import annotations

from typing import Literal

from connector.base.amounts import counted
from connector.base.errors import RecordError
from connector.base.records import Outcome

Policy = Literal["record", "skip", "fail"]


class FailedRows:
    """Applies the policy to the outcomes of a run, and counts those that fail it.

    Args:
        at_once: Whether `fail` ends the run at the first failed row, not after the last row: for consumers that must
            not take what comes after it.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self._count = 0

    def keeps(self, outcome: Outcome, policy: Policy) -> bool:
        """Returns whether a row belongs in the output; it is asked once about every outcome of the run.

        Raises:
            RecordError: The row failed, its policy is `fail`, and that ends the run at once.
        """
        if not outcome.status.is_failure:
            return True
        if policy == "fail":
            self._count += 1
            if self._at_once:
                error = outcome.provenance.error
                problem = error.message if error else outcome.status
                raise RecordError(f'stream "{outcome.record.stream}": a row failed, and on_error is "fail": {problem}')
        return policy != "skip"

    @property
    def fail_the_run(self) -> bool:
        """Whether a row has failed whose policy is `fail`."""
        return self._count > 0

    def check(self) -> None:
        """Ends a run whose rows have all been taken.

        Raises:
            RecordError: A row failed, and its policy is `fail`.
        """
        if self._count:
            rows = counted(self._count, "row")
            raise RecordError(f"{rows} failed, and on_error is fail: each row's _llm says why")
