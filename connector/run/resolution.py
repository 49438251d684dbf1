"""What follows from a result: it is final, the request is asked again in another way, or what rows share is split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.base.errors import ConnectorError
from connector.base.records import Record, Reply, is_ok
from connector.base.usage import summed
from connector.calls.fallbacks import Fallbacks
from connector.endpoints import Packing
from connector.engines import Call, Done, Resolution
from connector.run.plan import Plan
from connector.run.requests import RAISED, REPAIRED
from connector.run.sharing import halves, unpacked

_FOR_THE_ROW: Final = (RAISED, REPAIRED)
"""Revisions for the sake of one row's reply; all others are fallbacks, which the endpoint has asked for."""


def paid_reply(call: Call) -> Reply | None:
    """Returns the reply that stands unless a better one comes, its usage that of all that were paid for.

    `None` where no better one was asked for: what is in `paid` then is the share of a reply that left the row out.
    """
    has_reply = any(name in _FOR_THE_ROW for name in call.revisions)
    return summed(call.paid)._replace(attempts=call.total_attempts) if has_reply else None


class Resolver:
    """Decides by the plans of the rows; see `connector.engines.Resolve`."""

    def __init__(self, plan_of: Callable[[Record], Plan], fallbacks: Fallbacks) -> None:
        self._plan_of = plan_of
        self._fallbacks = fallbacks

    def __call__(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        """Returns every row of the call exactly once: as done, or in a call to make."""
        if isinstance(result, Reply) and is_ok(result.status):
            if names := _fallbacks_of(call):
                self._fallbacks.learn(call.body, names)
            return self._split(call, result) if call.parts else self._answered(call, result)
        return self._refused(call, result)

    def _answered(self, call: Call, reply: Reply) -> Resolution:
        """Asks again where the reply does not fit its schema, and takes it as final otherwise."""
        record = call.records[0]
        plan = self._plan_of(record)
        outcome = plan.outcomes.of(record, reply, call.key) if plan.requests.asks_again else None
        revised = None if outcome is None else plan.requests.revised(call.body, outcome, call.revisions)
        if revised is not None:
            call.paid = (*call.paid, reply)
            return Resolution((), (call.revise(*revised),))
        if call.paid:
            return Resolution((Done(call, summed((*call.paid, reply))),))
        return Resolution((Done(call, reply, outcome),))

    def _split(self, call: Call, reply: Reply) -> Resolution:
        """Gives each row its part of a shared reply; rows that got none share calls half as large."""
        packing = self._packing_of(call)
        done: list[Done] = []
        again: list[Call] = []
        missing: list[Call] = []
        for part, body, own in unpacked(packing, call.parts, reply):
            part.split_from(call)
            if body is None:
                part.paid = (*part.paid, own)
                missing.append(part)
            else:
                resolution = self._answered(part, own)
                done += resolution.done
                again += resolution.again
        return Resolution(done, [*again, *halves(packing, missing)])

    def _refused(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        fallback = self._fallbacks.next(call.body, call.revisions, result)
        if fallback is not None:
            if isinstance(result, Reply):  # of a server that merely failed, only the next answer shows whether it helps
                self._fallbacks.expect(call.body, fallback[0])
            return Resolution((), (call.revise(*fallback),))
        if names := _fallbacks_of(call):
            self._fallbacks.drop(call.body, names)
        if call.parts:
            for part in call.parts:
                part.split_from(call)
            return Resolution((), halves(self._packing_of(call), call.parts))
        return Resolution((Done(call, paid_reply(call) or result),))

    def _packing_of(self, call: Call) -> Packing:
        """Returns how the parts of a call share it."""
        packing = self._plan_of(call.parts[0].records[0]).requests.packing
        if packing is None:
            raise AssertionError("only what was packed has parts")
        return packing


def _fallbacks_of(call: Call) -> list[str]:
    return [name for name in call.revisions if name not in _FOR_THE_ROW]
