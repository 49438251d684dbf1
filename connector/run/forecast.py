"""What a run would do: its calls, its cost and its failures, found by rendering every row without a call."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from connector.base.amounts import counted, dollars, duration
from connector.base.cost import Pricing
from connector.base.errors import ConfigError, TemplateError
from connector.base.price_list import EXTRA
from connector.base.records import Outcome, Part, Provenance, Record, Reply, Status, Usage
from connector.base.stop import Stop
from connector.calls.call import Call
from connector.ledger import Found, Ledger
from connector.run.causes import Cause, Causes, failures
from connector.run.plan import Plan

_BATCH: Final = 200  # rows that are looked up in the ledger at once
_SAMPLE: Final = 1_000  # replies of the ledger that say what the others will take
_BYTES_PER_TOKEN: Final = 4  # of a request, where no reply says how many tokens it has: OpenAI's rule of thumb
_SORTED_AT_ONCE: Final = 2**18  # keys
_MINUTE: Final = 60


class Forecast(NamedTuple):
    """What a run would do with a table.

    Attributes:
        rows: Rows in all.
        skipped: Rows for which `where` is false.
        known: Rows whose reply is in the ledger.
        same: Rows whose request is the same as that of another row, which has the call.
        calls: Calls to make, without retries.
        unreadable: Rows that fail since the input has something else in their place (`on_bad_input`).
        unsendable: Rows that fail since no request can be made of them.
        causes: Why, the cause of the most rows first.
        input_tokens, output_tokens: Those of the calls, estimated by the replies in the ledger; without any, those of
            the requests by their length, and `None`.
        cost_usd: What the calls would cost, estimated likewise; `None` where that is not known.
        cost_source: Whose prices these are; empty for those of the config or the endpoint.
        is_whole: Whether `cost_usd` has the replies in it, not the requests alone.
        seconds: How long the calls would take, estimated by the replies in the ledger and the config's limits; `None`
            where nothing is known of either.
    """

    rows: int
    skipped: int
    known: int
    same: int
    calls: int
    unreadable: int
    unsendable: int
    causes: tuple[Cause, ...]
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    is_whole: bool
    cost_source: str
    seconds: float | None

    def __str__(self) -> str:
        found = [
            f"{self.known:,} in the ledger" if self.known else "",
            f"{self.skipped:,} skipped" if self.skipped else "",
            f"{self.same:,} the same as another" if self.same else "",
            f"{self.unreadable:,} unreadable" if self.unreadable else "",
            f"{counted(self.calls, 'call')}{self._taking() if self.calls else ''}",
        ]
        first = f"{counted(self.rows, 'row')}: {', '.join(filter(None, found))}"
        return "\n".join([first, *failures(self.causes, f"{counted(self.unsendable, 'row')} cannot be rendered")])

    def _taking(self) -> str:
        """Returns what the calls take, in words that say what is not known."""
        cost = None if self.cost_usd is None else f"about {dollars(self.cost_usd)}"
        if self.is_whole:
            time = None if self.seconds is None else duration(self.seconds)
            told = f", {cost or f'cost unknown (set prices, or {EXTRA})'}{f' and {time}' if time else ''}"
            return f"{told} ({self.cost_source})" if cost and self.cost_source else told
        tokens = f"about {self.input_tokens:,} input tokens{f' ({dollars(self.cost_usd)})' if self.cost_usd else ''}"
        tokens += f", {self.cost_source}" if self.cost_usd and self.cost_source else ""
        return f", {tokens}; no reply is known yet, so all else is unknown: `preview --call` asks for a few"

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values, for programs."""
        return {**self._asdict(), "causes": [each.to_dict() for each in self.causes]}


def unsendable(items: Iterable[object], plan: Plan, stop: Stop, parts: Sequence[Part] = ()) -> tuple[int, list[Cause]]:
    """Renders every row. Returns how many there are, and why no request can be made of some of them.

    A row that could not be read is left out: `on_bad_input` has decided about it. `parts` tells which is of which file.

    Raises:
        BaseException: The reason of `stop`, once it has one.
    """
    rows, causes = 0, Causes(parts)
    for record in _records(items, stop):
        rows += 1
        if not record.problem:
            try:
                if plan.requests.wants(record):
                    plan.requests.body(record.data)
            except TemplateError as error:
                causes.add(plan.outcomes.of(record, error))
    return rows, list(causes)


def refusal(rows: int, causes: Sequence[Cause], most_percent: float) -> ConfigError | None:
    """Returns why a run must not begin, if more than so many percent of its rows cannot be rendered."""
    count = sum(each.count for each in causes)
    if not count or count * 100 <= rows * most_percent:
        return None
    head = f"{count:,} of {counted(rows, 'row')} ({count / rows:.2%}) cannot be rendered, so nothing was sent"
    change = "change that, leave these rows out (where), or send the others (max_template_error_percent: 100, now"
    return ConfigError("\n".join([*failures(causes, head), f"{change} {most_percent:g})"]))


def warning(rows: int, causes: Sequence[Cause]) -> str:
    """Returns what to tell before a run in which some rows will fail; empty where none will."""
    count = sum(each.count for each in causes)
    return "\n".join(failures(causes, f"{count:,} of {counted(rows, 'row')} cannot be rendered and will fail"))


def forecast(
    items: Iterable[object],
    plan: Plan,
    ledger: Ledger | None,
    stop: Stop,
    *,
    retry_failed: bool = False,
    parts: Sequence[Part] = (),
) -> Forecast:
    """Finds out what a run would do with a table. It needs 8 bytes of memory for each row that has to be called.

    Args:
        items: What a source yields.
        ledger: The ledger of the run; `None` where it has none yet.
        retry_failed: Whether the run would call again for rows whose reply was not a success.
        parts: Which rows are of which file, where there are several.

    Raises:
        BaseException: The reason of `stop`, once it has one.
    """
    tally, causes = _Tally(plan, ledger, retry_failed=retry_failed), Causes(parts)
    rows = skipped = unreadable = 0
    for record in _records(items, stop):
        rows += 1
        try:
            if record.problem:
                unreadable += 1
            elif plan.requests.wants(record):
                tally.add(plan.requests.call(record))
            else:
                skipped += 1
        except TemplateError as error:
            causes.add(plan.outcomes.of(record, error))
    tally.look_up()
    distinct = tally.missing.count()
    most = plan.requests.packing.most if plan.requests.packing else 1
    estimate = _Estimate.of(tally, distinct, plan.pricing)
    calls = -(-distinct // most)
    return Forecast(
        rows=rows,
        skipped=skipped,
        known=tally.known,
        same=len(tally.missing) - distinct,
        calls=calls,
        unreadable=unreadable,
        unsendable=sum(each.count for each in causes),
        causes=tuple(causes),
        input_tokens=estimate.input_tokens,
        output_tokens=estimate.output_tokens,
        cost_usd=estimate.cost_usd,
        is_whole=estimate.is_whole,
        cost_source=plan.pricing.source,
        seconds=_seconds(plan, calls, estimate),
    )


def _records(items: Iterable[object], stop: Stop) -> Iterator[Record]:
    for item in items:
        if stop.reason is not None:
            raise stop.reason
        if isinstance(item, Record):
            yield item


class _Tally:
    """Counts rows by whether the ledger has their reply, and keeps what its first replies say."""

    def __init__(self, plan: Plan, ledger: Ledger | None, *, retry_failed: bool) -> None:
        self._plan = plan
        self._ledger = ledger
        self._retry_failed = retry_failed
        self._batch: list[Call] = []
        self.known = 0
        self.missing = _Distinct()
        self.bytes = 0
        self.sample: list[tuple[Provenance, int]] = []

    def add(self, call: Call) -> None:
        self._batch.append(call)
        if len(self._batch) >= _BATCH:
            self.look_up()

    def look_up(self) -> None:
        batch, self._batch = self._batch, []
        while batch:
            found = Found({}) if self._ledger is None else self._ledger.get([call.key for call in batch])
            self._count((call for call in batch if call.key not in found.left), found.known)
            batch = [call for call in batch if call.key in found.left]

    def _count(self, calls: Iterable[Call], known: Mapping[bytes, Reply]) -> None:
        for call in calls:
            reply = known.get(call.key)
            outcome: Outcome | None = None
            if reply is not None and (self._retry_failed or len(self.sample) < _SAMPLE):
                outcome = self._plan.outcomes.of(call.records[0], reply, call.key)
                if len(self.sample) < _SAMPLE and outcome.status not in (Status.ERROR, Status.FILTERED):
                    self.sample.append((outcome.provenance, len(call.body)))
            if reply is None or (self._retry_failed and outcome is not None and outcome.status.is_failure):
                self.missing.add(call.key)
                self.bytes += len(call.body)
            else:
                self.known += 1


class _Distinct:
    """Counts different keys by their first eight bytes, which is what each takes; a pair in a billion counts as one."""

    def __init__(self) -> None:
        self._sorted: list[array[int]] = []
        self._new = array("Q")

    def add(self, key: bytes) -> None:
        self._new.append(int.from_bytes(key[:8]))
        if len(self._new) >= _SORTED_AT_ONCE:
            self._sort()

    def __len__(self) -> int:
        return sum(map(len, self._sorted)) + len(self._new)

    def count(self) -> int:
        """Returns how many different ones there are."""
        self._sort()
        return sum(1 for _ in groupby(heapq.merge(*self._sorted)))

    def _sort(self) -> None:
        self._sorted.append(array("Q", sorted(self._new)))
        self._new = array("Q")


class _Estimate(NamedTuple):
    """What calls would take."""

    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    is_whole: bool
    latency: float | None

    @classmethod
    def of(cls, tally: _Tally, calls: int, pricing: Pricing) -> _Estimate:
        """Projects the mean of the known replies; for lack of any, the length of the requests."""
        size = tally.bytes * calls / (len(tally.missing) or 1)
        if not tally.sample:
            tokens = round(size / _BYTES_PER_TOKEN)
            each = pricing.cost(Usage(round(tokens / (calls or 1)), 0))  # a price may depend on a request's length
            return cls(tokens, None, None if each is None else each * calls, is_whole=False, latency=None)
        known = [each for each, _ in tally.sample]
        ratio = mean((each.input_tokens or 0) / bytes_ for each, bytes_ in tally.sample if each.input_tokens)
        made = mean(each.output_tokens for each in known)
        cost = mean(each.cost_usd for each in known)
        latency = mean(each.latency_ms for each in known)
        return cls(
            None if ratio is None else round(ratio * size),
            None if made is None else round(made * calls),
            None if cost is None else cost * calls,
            is_whole=True,
            latency=None if latency is None else latency / 1000,
        )


def mean(numbers: Iterable[float | None]) -> float | None:
    """Returns the mean of what is known; `None` of nothing."""
    values = [number for number in numbers if number is not None]
    return sum(values) / len(values) if values else None


def _seconds(plan: Plan, calls: int, estimate: _Estimate) -> float | None:
    """Returns how long calls take at the config's concurrency and limits."""
    config = plan.config
    latency = None if estimate.latency is None else estimate.latency * -(-calls // config.concurrency)
    tokens = (estimate.input_tokens or 0) + (estimate.output_tokens or 0)
    bounds = [
        latency,
        calls / config.max_requests_per_minute * _MINUTE if config.max_requests_per_minute else None,
        tokens / config.max_tokens_per_minute * _MINUTE if config.max_tokens_per_minute else None,
    ]
    return max((bound for bound in bounds if bound is not None), default=None)
