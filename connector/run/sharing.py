"""Rows that share a call: their requests are packed together, and the reply is split again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connector.base.numbers import loads
from connector.base.records import JSON, Record, Reply
from connector.base.usage import shared
from connector.base.values import dumps
from connector.calls.call import Call
from connector.endpoints import Packing
from connector.run.plan import Plan
from connector.run.requests import Requests

_SMALL: Final = 1 << 20  # bytes of requests


@dataclass(slots=True)
class _Group:
    """Calls that are alike, until there are enough of them; `size` counts the bytes of their requests."""

    packing: Packing
    calls: list[Call]
    bodies: list[dict[str, JSON]]
    size: int = 0


class Packer:
    """Collects the calls of rows that may share one. What is incomplete goes with `flush`."""

    def __init__(self, plan_of: Callable[[Record], Plan]) -> None:
        self._plan_of = plan_of
        self._groups: dict[tuple[int, Hashable], _Group] = {}

    def add(self, calls: Sequence[Call]) -> Iterator[Call]:
        """Yields what can go now: the calls that go alone, and shared ones."""
        packable: list[tuple[Call, Requests, Packing]] = []
        for call in calls:
            requests = self._plan_of(call.records[0]).requests
            if requests.packing is None:
                yield call
            else:
                packable.append((call, requests, requests.packing))
        bodies = _bodies([call for call, _, _ in packable])
        for (call, requests, packing), body in zip(packable, bodies, strict=True):
            alike = packing.alike(body)
            if alike is None:
                yield call
                continue
            key = (id(requests), alike)
            group = self._groups.get(key)
            if group and group.size + len(call.body) > packing.most_bytes:
                yield _packed(self._groups.pop(key))
                group = None
            if group is None:
                group = self._groups[key] = _Group(packing, [], [])
            group.calls.append(call)
            group.bodies.append(body)
            group.size += len(call.body)
            if len(group.calls) >= packing.most:
                yield _packed(self._groups.pop(key))

    def flush(self) -> Iterator[Call]:
        """Yields everything that has been collected."""
        groups, self._groups = self._groups, {}
        yield from map(_packed, groups.values())


def _bodies(calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    """Returns the decoded requests of calls. Small ones are decoded together, in half the time."""
    if sum(len(call.body) for call in calls) <= _SMALL:
        return iter(loads(b"[%b]" % b",".join([call.body for call in calls])))
    return (loads(call.body) for call in calls)


def halves(packing: Packing, calls: Sequence[Call]) -> list[Call]:
    """Returns two calls for the rows of one that did not work, so that a bad row ends up alone."""
    middle = (len(calls) + 1) // 2
    return [
        _packed(_Group(packing, list(some), [loads(call.body) for call in some]))
        for some in (calls[:middle], calls[middle:])
        if some
    ]


def unpacked(packing: Packing, calls: Sequence[Call], reply: Reply) -> list[tuple[Call, dict[str, Any] | None, Reply]]:
    """Returns each call with its part of the reply's body, or `None`, and with its share of what the reply used.

    Its share of the memory, too: small parts of a large reply are not large replies, which would be stored one by one.
    """
    bodies = packing.unpacked(reply.body, len(calls))
    shares = shared(reply, [len(call.body) for call in calls])
    status, rest = reply.status, (*reply[3:-1], reply.size // len(calls))
    return [
        (call, body, Reply(status, {**(body or {}), **usage}, headers, *rest))  # `_replace` takes three times as long
        for call, body, (usage, headers) in zip(calls, bodies, shares, strict=True)
    ]


def _packed(group: _Group) -> Call:
    first = group.calls[0]
    if len(group.calls) == 1:
        return first
    together = Call(b"", dumps(group.packing.packed(group.bodies)), [], group.calls)
    together.other_attempts, together.first_started = first.other_attempts, first.first_started  # of an earlier call
    return together
