"""What to make of a result: let it stand, ask again otherwise, or take apart what rows share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.base.errors import ConnectorError
from connector.base.records import Outcome, Record, Reply, Status
from connector.base.usage import summed
from connector.calls.fallbacks import Concessions
from connector.engines import Call, Done, Resolution
from connector.run.plan import Plan
from connector.run.sharing import apart, halves

_OK: Final = range(200, 300)
_REPAIRED: Final = "repaired"
_RAISED: Final = "raised"


def standing(call: Call) -> Reply | None:
    """The reply of a call that was asked again for a better one, in case that does not come."""
    is_reply = _REPAIRED in call.asked or _RAISED in call.asked
    return summed(call.paid)._replace(attempts=call.tries) if is_reply else None


class Resolver:
    """Decides by the plans of the rows; see `connector.engines.Resolve`."""

    def __init__(self, plan_of: Callable[[Record], Plan], concessions: Concessions) -> None:
        self._plan_of = plan_of
        self._concessions = concessions

    def __call__(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        """Every row of the call is in what comes back exactly once: as done, or in a call to make."""
        if isinstance(result, Reply) and result.status in _OK:
            if names := _conceded(call):
                self._concessions.learn(call.body, names)
            return self._taken_apart(call, result) if call.parts else self._answered(call, result)
        return self._refused(call, result)

    def _answered(self, call: Call, reply: Reply) -> Resolution:
        plan = self._plan_of(call.records[0])
        outcome = plan.outcome(call.records[0], reply, call.key) if plan.asks_again else None
        better = None if outcome is None else _better(plan, call, outcome)
        if better is not None:
            call.paid = (*call.paid, reply)
            return Resolution((), (call.otherwise(*better),))
        if call.paid:
            return Resolution((Done(call, summed((*call.paid, reply))),))
        return Resolution((Done(call, reply, outcome),))

    def _taken_apart(self, call: Call, reply: Reply) -> Resolution:
        plan = self._plan_of(call.parts[0].records[0])
        done: list[Done] = []
        again: list[Call] = []
        missing: list[Call] = []
        for part, body, own in apart(plan, call.parts, reply):
            part.part_from(call)
            if body is None:
                part.paid = (*part.paid, own)
                missing.append(part)
            else:
                resolution = self._answered(part, own)
                done += resolution.done
                again += resolution.again
        return Resolution(done, [*again, *halves(plan, missing)])

    def _refused(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        conceded = self._concessions.next(call.body, call.asked, result)
        if conceded is not None:
            if isinstance(result, Reply):  # of a server that merely failed, only the next answer can tell
                self._concessions.expect(call.body, conceded[0])
            return Resolution((), (call.otherwise(*conceded),))
        if names := _conceded(call):
            self._concessions.drop(call.body, names)
        if call.parts:
            for part in call.parts:
                part.part_from(call)
            return Resolution((), halves(self._plan_of(call.parts[0].records[0]), call.parts))
        return Resolution((Done(call, standing(call) or result),))


def _conceded(call: Call) -> list[str]:
    return [name for name in call.asked if name not in (_REPAIRED, _RAISED)]


def _better(plan: Plan, call: Call, outcome: Outcome) -> tuple[str, bytes] | None:
    """How to ask again for a reply that does not fit its schema, and the name of that way."""
    if outcome.status is Status.TRUNCATED and _RAISED not in call.asked:
        name, body = _RAISED, plan.raised(call.body)
    elif outcome.status is Status.INVALID_OUTPUT and call.asked.count(_REPAIRED) < plan.config.max_repairs:
        name, body = _REPAIRED, plan.repaired(call.body, outcome)
    else:
        return None
    return None if body is None else (name, body)
