"""Columns that stay null because no reply has what they read: seen in the first replies, before a table is paid for."""

from __future__ import annotations

import logging
from typing import Final

from connector.base.errors import ConfigError, Problem
from connector.base.records import Outcome, Reply, Status
from connector.run.outcomes import Outcomes

ENOUGH: Final = 25
"""So many successful replies, all without a name, prove that it is wrong."""

_LOG: Final = logging.getLogger(__name__)


class NullColumns:
    """Watches, for each plan, the columns that were null in every reply so far for want of what they read."""

    def __init__(self) -> None:
        self._seen: dict[Outcomes, int] = {}
        self._suspects: dict[Outcomes, dict[str, Problem]] = {}

    def judged(self, outcome: Outcome, outcomes: Outcomes, result: object) -> ConfigError | None:
        """Takes note of an outcome and its reply. Returns the reason to stop once a name is proved wrong."""
        suspects = self._suspects.get(outcomes)
        if suspects == {} or outcome.status is not Status.SUCCESS or not isinstance(result, Reply):
            return None
        found = outcomes.lacking(result, outcome.columns)
        suspects = found if suspects is None else {place: each for place, each in found.items() if place in suspects}
        seen = self._seen.get(outcomes, 0) + 1
        self._suspects[outcomes], self._seen[outcomes] = suspects, seen
        if seen < ENOUGH or not suspects:
            return None
        lack = f"the first {seen} replies all lack it, and are kept"
        return ConfigError([Problem(place, f"{each.message} ({lack})") for place, each in suspects.items()])

    def warn(self) -> None:
        """Tells of what every reply of a run lacked that had too few of them to prove a name wrong."""
        for suspects in self._suspects.values():
            for problem in suspects.values():
                _LOG.warning("%s (no reply of this run has it)", problem)
