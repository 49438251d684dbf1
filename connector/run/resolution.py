"""What follows from a result: it is final, the request is changed and sent again, or a shared call is split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from connector.base.errors import APIConnectionError, ConnectorError, CutError, RetryableError, ServerError
from connector.base.records import Record, Reply, is_ok
from connector.base.room import LARGE
from connector.base.usage import summed
from connector.calls.call import Call
from connector.calls.fallbacks import Fallbacks
from connector.endpoints import Packing
from connector.engines import Done, Resolution
from connector.replies.refusals import fails_at_the_request
from connector.run.plan import Plan
from connector.run.requests import RAISED, REPAIRED, STANDARD
from connector.run.sharing import halves, unpacked

_FOR_THE_ROW: Final = (RAISED, REPAIRED)
"""Revisions for the sake of one row's reply; all others are fallbacks, which the endpoint has asked for."""


_FAILED: Final = 500
_NO_ROOM: Final = (429, 498)  # what servers answer where the tier flex has none
_PATIENCE: Final = 3  # times, before a row goes to the standard tier
_OVERLOADED: Final = (429, 498, 503, 529)
_PROOF: Final = 3  # answers by a fallback, and none without it, show that it is needed


def paid_reply(call: Call) -> Reply | None:
    """Returns the reply that stands unless a better one comes, its usage that of all that were paid for.

    `None` where no better reply was asked for; `paid` then only holds the row's share of a reply that skipped it.
    """
    has_reply = any(name in _FOR_THE_ROW for name in call.revisions)
    return summed(call.paid)._replace(attempts=call.total_attempts) if has_reply else None


class Resolver:
    """Decides by the plans of the rows; see `connector.engines.Resolve`."""

    def __init__(self, plan_of: Callable[[Record], Plan], fallbacks: Fallbacks) -> None:
        self._plan_of = plan_of
        self._fallbacks = fallbacks
        self._is_answered_as_asked = False
        self._doubtful = 0  # answers that came by fallbacks made on suspicion

    def __call__(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        """Returns every row of the call exactly once: as done, or in a call to make."""
        if isinstance(result, Reply) and is_ok(result.status):
            self._helped(call)
            if call.parts:
                return self._split(call, result)
            answered = self._answered(call, result)
            return Resolution((answered,)) if isinstance(answered, Done) else Resolution((), (answered,))
        return self._refused(call, result)

    def otherwise(self, call: Call, error: RetryableError) -> Sequence[Call]:
        """Returns what to make instead of a call that failed: another way to ask, or halves of what rows share.

        A server that fails may mean the request, whatever its status; one that is overloaded, or slow, does not. See
        `connector.engines.Otherwise`.
        """
        if fails_at_the_request(error):
            fallback = self._fallbacks.next(call.body, call.revisions, error)
            if fallback is not None:
                call.is_doubtful = True
                return (call.revise(*fallback),)
        if error.http_status in _NO_ROOM and call.attempts >= _PATIENCE and STANDARD not in call.revisions:
            first = call.parts[0] if call.parts else call
            standard = self._plan_of(first.records[0]).requests.at_the_standard_tier(call.body)
            if standard is not None:
                return (call.revise(STANDARD, standard),)
        is_broken = isinstance(error, ServerError | APIConnectionError | CutError)
        return self._halves(call) if call.parts and is_broken and error.http_status not in _OVERLOADED else ()

    def _helped(self, call: Call) -> None:
        """Learns from a call that was answered which fallbacks its endpoint needs.

        Those that were made on suspicion hold for this run alone, and only where no call was answered without them.
        """
        if not call.revisions:
            self._is_answered_as_asked = True
            return
        made = _fallbacks_of(call)
        names = [name for name in made if name not in call.helpless]
        if not call.is_doubtful:
            if names:
                self._fallbacks.learn(call.body, names)
            self._is_answered_as_asked |= not made
        elif not self._is_answered_as_asked:
            self._doubtful += 1
            if self._doubtful == _PROOF:
                for name in names:
                    self._fallbacks.expect(call.body, name)

    def _answered(self, call: Call, reply: Reply) -> Done | Call:
        """Returns the call to make again where the reply does not fit its schema; a reply is final otherwise.

        One that takes megabytes is final, too: until a better one comes it would have to be kept, beside those of all
        calls in flight.
        """
        record = call.records[0]
        plan = self._plan_of(record)
        outcome = plan.outcomes.of(record, reply, call.key) if plan.requests.asks_again else None
        revised = (
            None if outcome is None or reply.size > LARGE else plan.requests.revised(call.body, outcome, call.revisions)
        )
        if revised is not None:
            call.paid = (*call.paid, reply)
            return call.revise(*revised)
        if call.paid:
            return Done(call, summed((*call.paid, reply)))
        return Done(call, reply, outcome)

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
            elif isinstance(answered := self._answered(part, own), Done):
                done.append(answered)
            else:
                again.append(answered)
        return Resolution(done, [*again, *halves(packing, missing)])

    def _refused(self, call: Call, result: Reply | ConnectorError) -> Resolution:
        fallback = self._fallbacks.next(call.body, call.revisions, result)
        made = _fallbacks_of(call)
        if isinstance(result, Reply):
            helpless = self._fallbacks.helpless(made, result)
            if helpless:
                self._fallbacks.drop(call.body, helpless)
                call.helpless = (*call.helpless, *helpless)
            if fallback is not None:
                self._fallbacks.expect(call.body, fallback[0])
        if fallback is not None:
            call.is_doubtful |= not isinstance(result, Reply) or result.status >= _FAILED
            return Resolution((), (call.revise(*fallback),))
        if call.parts:
            return Resolution((), self._halves(call))
        return Resolution((Done(call, paid_reply(call) or result),))

    def _halves(self, call: Call) -> list[Call]:
        for part in call.parts:
            part.split_from(call)
        return halves(self._packing_of(call), call.parts)

    def _packing_of(self, call: Call) -> Packing:
        """Returns how the parts of a call share it."""
        packing = self._plan_of(call.parts[0].records[0]).requests.packing
        if packing is None:
            raise AssertionError("only what was packed has parts")
        return packing


def _fallbacks_of(call: Call) -> list[str]:
    return [name for name in call.revisions if name not in (*_FOR_THE_ROW, STANDARD)]
