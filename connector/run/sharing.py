"""Rows that share a call: identical ones, and those whose requests are packed together and their reply taken apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connector.base.decoding import loads
from connector.base.records import JSON, Record, Reply
from connector.base.usage import shared
from connector.base.values import dumps
from connector.engines import Call
from connector.run.plan import Plan


class Waiting:
    """The calls on their way, by key, so that identical rows share one; and how many records wait for them."""

    def __init__(self) -> None:
        self._calls: dict[bytes, Call] = {}
        self.records = 0

    def begin(self, call: Call) -> Call:
        """Takes note of a call to make, and returns it."""
        self._calls[call.key] = call
        self.records += 1
        return call

    def joins(self, key: bytes, record: Record) -> bool:
        """Whether a call of this key is on its way; the record then waits for it, too."""
        call = self._calls.get(key)
        if call is None:
            return False
        call.records.append(record)
        self.records += 1
        return True

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    def end(self, call: Call) -> None:
        """Forgets a call that is done."""
        del self._calls[call.key]
        self.records -= len(call.records)


@dataclass(slots=True)
class _Group:
    """Calls that are alike, until there are enough of them; `size` is what their requests have in bytes."""

    plan: Plan
    calls: list[Call]
    bodies: list[dict[str, JSON]]
    size: int = 0


class Packer:
    """Collects the calls of rows that may share one. What is not full goes with `flush`."""

    def __init__(self, plan_of: Callable[[Record], Plan]) -> None:
        self._plan_of = plan_of
        self._groups: dict[tuple[int, Hashable], _Group] = {}

    def add(self, call: Call) -> Iterator[Call]:
        """Yields what can go now: the call itself where it goes alone, or a shared one."""
        plan = self._plan_of(call.records[0])
        packing = plan.packing
        body = loads(call.body) if packing else None
        alike = packing.alike(body) if packing and body is not None else None
        if packing is None or body is None or alike is None:
            yield call
            return
        key = (id(plan), alike)
        group = self._groups.get(key)
        if group and group.size + len(call.body) > packing.most_bytes:
            yield _packed(self._groups.pop(key))
            group = None
        if group is None:
            group = self._groups[key] = _Group(plan, [], [])
        group.calls.append(call)
        group.bodies.append(body)
        group.size += len(call.body)
        if len(group.calls) >= packing.most:
            yield _packed(self._groups.pop(key))

    def flush(self) -> Iterator[Call]:
        """Yields everything that has been collected."""
        groups, self._groups = self._groups, {}
        yield from map(_packed, groups.values())


def halves(plan: Plan, calls: Sequence[Call]) -> list[Call]:
    """Two calls for the rows of one that did not work, so that a bad row ends up alone."""
    middle = (len(calls) + 1) // 2
    return [
        _packed(_Group(plan, list(some), [loads(call.body) for call in some]))
        for some in (calls[:middle], calls[middle:])
        if some
    ]


def apart(plan: Plan, calls: Sequence[Call], reply: Reply) -> list[tuple[Call, dict[str, Any] | None, Reply]]:
    """Each call with its part of the reply's body, or `None`, and with its share of what the reply used."""
    if plan.packing is None:
        raise AssertionError("only what was packed is taken apart")
    bodies = plan.packing.unpacked(reply.body, len(calls))
    shares = shared(reply, [len(call.body) for call in calls])
    return [
        (call, body, reply._replace(body={**(body or {}), **usage}, headers=headers))
        for call, body, (usage, headers) in zip(calls, bodies, shares, strict=True)
    ]


def _packed(group: _Group) -> Call:
    if len(group.calls) == 1 or group.plan.packing is None:
        return group.calls[0]
    shared = Call(b"", dumps(group.plan.packing.packed(group.bodies)), [], group.calls)
    shared.together, shared.first = group.calls[0].together, group.calls[0].first  # those that shared one before
    return shared
