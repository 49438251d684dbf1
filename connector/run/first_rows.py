"""Finds out from the first rows whether a table can succeed at all, before all of it is paid for."""

from __future__ import annotations

import logging
from typing import Final

from connector.base.errors import ConfigError, ConnectorError, OutageError, Problem
from connector.base.records import Outcome, Reply, Status
from connector.base.regex import regex
from connector.run.outcomes import Outcomes

ENOUGH: Final = 25
"""Rows without a success, or replies without a column, that prove that further ones would be no better."""

_VARYING: Final = regex(r"\d+|\"[^\"]*\"|'[^']*'")
_CHANGES: Final = {
    Status.ERROR: "",
    Status.INVALID_OUTPUT: "; change model, prompt or output_schema",
    Status.TRUNCATED: "",  # says itself which limit to raise
}
"""How rows fail where model and request do not fit the table, with the change to make. A row that a filter stops, or
that no template renders, fails for what is in it; the latter costs nothing."""

_LOG: Final = logging.getLogger(__name__)


class FirstRows:
    """Watches the first rows of each plan, until one is a success that lacks nothing.

    They prove that the table cannot succeed where all were refused in the same words, none kept to its schema, or all
    were cut; and that a column's name is wrong where no reply has what it reads.
    """

    def __init__(self) -> None:
        self._failures: dict[Outcomes, tuple[str, int]] = {}
        self._seen: dict[Outcomes, int] = {}
        self._suspects: dict[Outcomes, dict[str, Problem]] = {}

    def judged(self, outcome: Outcome, outcomes: Outcomes, result: object) -> ConnectorError | None:
        """Notes an outcome and its reply. Returns the reason to stop once there is proof."""
        if outcome.status is not Status.SUCCESS:
            return None if outcomes in self._suspects else self._failed(outcome, outcomes)
        suspects = self._suspects.get(outcomes)
        if suspects == {} or not isinstance(result, Reply):
            return None
        found = outcomes.lacking(result, outcome.columns)
        suspects = found if suspects is None else {place: each for place, each in found.items() if place in suspects}
        seen = self._seen.get(outcomes, 0) + 1
        self._suspects[outcomes], self._seen[outcomes] = suspects, seen
        if seen < ENOUGH or not suspects:
            return None
        lack = f"the first {seen} replies all lack it, and are kept"
        return ConfigError([Problem(place, f"{each.message} ({lack})") for place, each in suspects.items()])

    def _failed(self, outcome: Outcome, outcomes: Outcomes) -> OutageError | None:
        """Notes a row that failed, before any success. A refusal counts with others in the same words."""
        failure, status = outcome.provenance.error, outcome.status
        if status not in _CHANGES or failure is None or not outcome.provenance.attempts:
            return None
        way = _VARYING.sub("", failure.message) if status is Status.ERROR else status.value
        before, count = self._failures.get(outcomes, ("", 0))
        count = count + 1 if way == before else 1
        self._failures[outcomes] = way, count
        if count < ENOUGH:
            return None
        told = f"the first {count} rows all failed in the same way: {failure.message}{_CHANGES[status]}"
        return OutageError(told, http_status=failure.http_status)

    def warn(self) -> None:
        """Warns of names that no reply had, in a run with too few replies to prove them wrong."""
        for suspects in self._suspects.values():
            for problem in suspects.values():
                _LOG.warning("%s (no reply of this run has it)", problem)
