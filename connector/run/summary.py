"""What a run came to: its rows by status, their tokens and cost, and the causes of failures, in bounded memory.

A cause is every failed row whose error reads the same once what differs from row to row is left out: numbers, ids,
what is quoted, and the row's own texts.
"""

from __future__ import annotations

import math
import re
from bisect import insort
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from connector.base.clock import Clock
from connector.base.cost import Pricing
from connector.base.records import Outcome, Provenance, Status
from connector.engines import Gauge
from connector.run.pipeline import Result

_MOST_CAUSES: Final = 1_000
_MOST_ROWS: Final = 5  # numbers of rows that are kept for each cause
_TOP: Final = 5  # causes that the text tells
_ROWS_TOLD: Final = 3
_LONGEST: Final = 600  # characters of a message that are compared
_SHORTEST_VALUE: Final = 12  # characters: a shorter cell may stand in a message by chance
_LONGEST_TOLD: Final = 240  # characters of a reason in a text
_OTHER: Final = "other reasons, each of a few rows"
_GAP: Final = "…"
_MINUTE: Final = 60
_TEN: Final = 10
_CENTS: Final = 10  # USD from which cents are all that matters
_SMALL: Final = 0.01  # USD below which two digits of them are shown
_TINY: Final = 1e-9

_VARIES: Final = re.compile(
    r'"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)(?P<name> is a required property)?'  # a quote that was cut goes on to the end
    r"|(?<!\w)'(?:[^']|'\w)*+(?:'|\Z)|`[^`]*+(?:`|\Z)|\u201c[^\u201d]*+(?:\u201d|\Z)"
    r"|(?:https?|data|file|s3|gs):[^\s\"')]++"
    r"|\w++(?:(?:[.:/+-]|,(?=\d))++\w++)*+",  # words, of which those with a digit are numbers, dates or ids
    re.DOTALL,
)
"""What may differ from row to row. The name of a property that is missing does not: it is the schema's."""

_SPOKEN: Final = re.compile(r"there are: |but not an object: |the model refused: |not valid JSON: ")
"""Introduces what a row or a model says, up to the end."""

_IN_TEMPLATE: Final = re.compile(r" fails on this row: |not JSON: ")
"""What stands in a template error behind the template itself, and is different for each row."""

_TEMPLATES: Final = ("request_format", "prompt", "system_prompt", "where")
_IS_NULL: Final = " is null; "
_INSTEAD: Final = " says what to send instead"
_QUOTES: Final = "\"'"
_CHANGE: Final = re.compile(
    r"(?:: |; )(?=(?:add|ask|change|check|give|have|leave|name|raise|remove|rename|report|set|use|wait|write)\b)"
)
"""Introduces what to change, at the end of an error of this program; an endpoint's words stand in parentheses."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why rows failed, all of them for the same reason.

    Attributes:
        count: How many rows.
        status: What became of them.
        error: The class of the error.
        reason: What went wrong, with `…` for what differs from row to row.
        change: What to change; empty where the error does not say.
        rows: The first of their numbers, from 1.
        stream: Their stream; empty where the run has only one.
    """

    count: int
    status: Status
    error: str
    reason: str
    change: str
    rows: tuple[int, ...]
    stream: str = ""

    def __str__(self) -> str:
        told, more = ", ".join(f"{row:,}" for row in self.rows[:_ROWS_TOLD]), self.count > _ROWS_TOLD
        rows = f" ({'row' if self.count == 1 else 'rows'} {told}{', …' if more else ''})" if told else ""
        change = f" → {self.change}" if self.change else ""
        stream = f'stream "{self.stream}": ' if self.stream else ""
        reason = self.reason if len(self.reason) <= _LONGEST_TOLD else f"{self.reason[: _LONGEST_TOLD - 1]}{_GAP}"
        return f"{self.count:,} × {stream}{reason}{change}{rows}"

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**asdict(self), "status": self.status.value, "rows": list(self.rows)}


class _Message(NamedTuple):
    """Why one row failed; `constant` has the parts of the text around those that vary from row to row."""

    status: Status
    error: str
    http_status: int | None
    stream: str
    constant: tuple[str, ...]
    varying: tuple[str, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What all rows of a cause have in common."""
        return self[:-1]

    @classmethod
    def of(cls, outcome: Outcome) -> _Message:
        """Reads the error of a failed row."""
        status, stream, error = outcome.status, outcome.record.stream, outcome.provenance.error
        if error is None:
            return cls(status, "", None, stream, (f"the row is {status}",), ())
        constant, varying = _parts(error.class_, error.message[:_LONGEST], outcome.record.data)
        return cls(status, error.class_, error.http_status, stream, tuple(constant), tuple(varying))

    @classmethod
    def other(cls, outcome: Outcome) -> _Message:
        """Returns what stands for every cause beyond the first thousand."""
        return cls(outcome.status, "", None, "", (_OTHER,), ())


class _Group:
    """The rows of one cause: how many, the first of them, and the parts of their messages that vary."""

    __slots__ = ("_first", "_varying", "count", "rows")

    def __init__(self, first: _Message) -> None:
        self._first = first
        self._varying = first.varying
        self.count = 0
        self.rows: list[int] = []

    def add(self, number: int, varying: tuple[str, ...]) -> None:
        self.count += 1
        if len(self.rows) < _MOST_ROWS or number < self.rows[-1]:  # rows are done out of order
            insort(self.rows, number)
            del self.rows[_MOST_ROWS:]
        if varying != self._varying:
            pairs = zip(self._varying, varying, strict=True)
            self._varying = tuple(mine if mine == other else _GAP for mine, other in pairs)

    def cause(self, *, names_stream: bool) -> Cause:
        first = self._first
        parts = chain.from_iterable(zip(first.constant, (*self._varying, ""), strict=True))
        reason, change = _told("".join(parts))
        stream = first.stream if names_stream else ""
        return Cause(self.count, first.status, first.error, reason, change, tuple(self.rows), stream)

    @property
    def stream(self) -> str:
        return self._first.stream


class Causes:
    """Counts failed rows by their cause. Of more than 1,000 different causes, the later ones count as one."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Any, ...], _Group] = {}

    def add(self, outcome: Outcome) -> None:
        """Counts a failed row."""
        message = _Message.of(outcome)
        group = self._groups.get(message.key)
        if group is None and len(self._groups) >= _MOST_CAUSES:
            message = _Message.other(outcome)
            group = self._groups.get(message.key)
        if group is None:
            group = self._groups[message.key] = _Group(message)
        group.add(outcome.record.index + 1, message.varying)

    def key(self, outcome: Outcome) -> Hashable:
        """Returns the key of the cause that a failed row was counted for."""
        key = _Message.of(outcome).key
        return key if key in self._groups else _Message.other(outcome).key

    def items(self) -> Iterator[tuple[Hashable, Cause]]:
        """Yields the causes, each with its key, those of the most rows first."""
        groups = sorted(self._groups.items(), key=lambda each: (-each[1].count, each[1].rows))
        names_stream = len({group.stream for _, group in groups}) > 1
        return ((key, group.cause(names_stream=names_stream)) for key, group in groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Cause]:
        """Yields the causes, those of the most rows first."""
        return (cause for _, cause in self.items())


class Summary:
    """Counts outcomes as they pass. Its text is what a person is told at the end of a run.

    Args:
        gauge: What the engine counts; `None` where the outcomes are all that is known.

    Attributes:
        gauge: The same. It may come later than the summary.
        pricing: What says what replies cost, where the endpoint does not. It may come later, too.
        statuses: Rows by status.
        cached: Rows that were answered without a new call: by the ledger, or by the call of another row.
        attempts: Calls for the other rows, all tries counted.
        input_tokens, output_tokens, cached_tokens, reasoning_tokens: Those of the replies that this run has paid for.
        cost_usd: What they cost, in USD; `None` where no reply said so and there are no prices.
        saved_usd: What the replies to the cached rows cost when they were paid for, in USD; `None` as above.
        seconds: How long the run has taken.
    """

    def __init__(self, gauge: Gauge | None = None, clock: Clock | None = None) -> None:
        self.gauge = gauge
        self.pricing: Pricing | None = None
        self._now = (clock or Clock()).monotonic
        self._began = self._now()
        self._ended: float | None = None
        self._causes = Causes()
        self.statuses: Counter[Status] = Counter()
        self.cached = 0
        self.attempts = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.reasoning_tokens = 0
        self.cost_usd: float | None = None
        self.saved_usd: float | None = None

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome; each row's once."""
        status, provenance = outcome.status, outcome.provenance
        self.statuses[status] += 1
        if provenance.cached:
            self.cached += 1
            if provenance.cost_usd is not None:
                self.saved_usd = (self.saved_usd or 0.0) + provenance.cost_usd
        else:
            self.pay(provenance)
        if status.is_failure:
            self._causes.add(outcome)

    def pay(self, paid: Provenance) -> None:
        """Counts what was paid for a row, also for one that has no outcome yet."""
        self.attempts += paid.attempts
        self.input_tokens += paid.input_tokens or 0
        self.output_tokens += paid.output_tokens or 0
        self.cached_tokens += paid.cached_tokens or 0
        self.reasoning_tokens += paid.reasoning_tokens or 0
        if paid.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + paid.cost_usd

    def watched(self, results: Iterator[Result]) -> Iterator[Result]:
        """Passes results on and counts the outcomes among them."""
        try:
            for result in results:
                if isinstance(result, Outcome):
                    self.add(result)
                yield result
        finally:
            self.end()

    def end(self) -> None:
        """Says that the run has ended: its time stands still."""
        self._ended = self._now()

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, or took."""
        return (self._now() if self._ended is None else self._ended) - self._began

    @property
    def rows(self) -> int:
        """Rows that have their outcome."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Rows that were to be answered and were not."""
        return sum(count for status, count in self.statuses.items() if status.is_failure)

    @property
    def nothing_answered(self) -> bool:
        """Whether rows were to be answered, and none of them was."""
        return self.failed > 0 and not self.statuses[Status.SUCCESS]

    @property
    def tokens(self) -> int:
        """Input and output tokens that this run has paid for."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_source(self) -> str:
        """Whose estimate the cost is; empty where it is the endpoint's, by the config's prices, or not known."""
        return self.pricing.source if self.cost_usd and self.pricing else ""

    @property
    def calls(self) -> int:
        """Calls that this run has made, retries included."""
        return self.gauge.calls if self.gauge else self.attempts

    @property
    def retries(self) -> int:
        """Calls that were made again."""
        return self.gauge.retries if self.gauge else 0

    @property
    def causes(self) -> list[Cause]:
        """Why rows failed, the cause of the most rows first."""
        return list(self._causes)

    @property
    def cause_counts(self) -> Causes:
        """The same, each with the key that tells the rows of one cause from those of another."""
        return self._causes

    def __bool__(self) -> bool:
        return self.rows > 0

    def __str__(self) -> str:
        return "\n".join([self.totals(), *self.failures()])

    __repr__ = __str__

    def totals(self) -> str:
        """Returns what the run did, in two lines."""
        seconds, rows = self.seconds, self.rows
        rate = f" ({pace(rows / seconds)})" if seconds > 0 and rows else ""
        statuses = ", ".join(f"{count:,} {status}" for status, count in self.statuses.most_common())
        nothing = "no row was finished" if self.calls else "nothing to do"
        calls = [
            counted(self.calls, "call"),
            counted(self.retries, "retr", "y", "ies"),
            f"{counted(self.cached, 'row')} answered without a new call",
            *spent(self.tokens, self.cost_usd),
        ]
        if self.cost_source:
            calls[-1] += f" ({self.cost_source})"
        return f"{counted(rows, 'row')} in {duration(seconds)}{rate}: {statuses or nothing}\n{', '.join(calls)}"

    def failures(self) -> list[str]:
        """Returns why rows failed, as lines: how many did, then the causes of the most rows."""
        every = "all " if self.failed == self.rows > 1 else ""
        return failures(self.causes, f"{every}{self.failed:,} {'row' if self.failed == 1 else 'rows'} failed")

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values, for programs."""
        return {
            "rows": self.rows,
            "failed": self.failed,
            "statuses": {status.value: count for status, count in self.statuses.most_common()},
            "seconds": round(self.seconds, 3),
            "calls": self.calls,
            "retries": self.retries,
            "cached": self.cached,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cost_usd": self.cost_usd,
            "cost_source": self.cost_source,
            "saved_usd": self.saved_usd,
            "causes": [each.to_dict() for each in self._causes],
        }


def failures(causes: Sequence[Cause], head: str) -> list[str]:
    """Returns why rows fail, as lines: `head`, then the causes of the most rows; nothing if none does."""
    if not causes:
        return []
    rest = causes[_TOP:]
    more = f"  {sum(each.count for each in rest):,} × for {counted(len(rest), 'further reason')}"
    return [f"{head}:", *(f"  {each}" for each in causes[:_TOP]), *([more] if rest else [])]


def spent(tokens: int, cost_usd: float | None) -> list[str]:
    """Returns tokens and cost in words; nothing about what is not known."""
    parts = [f"{tokens:,} tokens"] if tokens else []
    return [*parts, dollars(cost_usd)] if cost_usd else parts


def counted(number: int, what: str, one: str = "", many: str = "s") -> str:
    """Returns a number of things in words, with the ending for one or for many: 1 call, 2 calls."""
    return f"{number:,} {what}{one if number == 1 else many}"


def dollars(amount: float) -> str:
    """Returns an amount of USD in words, with at least two digits that say something: $12.50, $0.0306, $0.0000087."""
    if amount == 0 or amount >= _CENTS:
        return f"${amount:,.2f}"
    if amount < _TINY:
        return f"${amount:.1e}"
    return f"${amount:.{4 if amount >= _SMALL else 1 - math.floor(math.log10(amount))}f}"


def duration(seconds: float) -> str:
    """Returns a time in words: 4.2 s, 3m07s, 2h05m."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def pace(rows: float) -> str:
    """Returns rows per second in words: 1,240 rows/s, 3.4 rows/s, 12.0 rows/min."""
    if rows < 1:
        return f"{rows * _MINUTE:,.1f} rows/min"
    return f"{rows:,.0f} rows/s" if rows >= _TEN else f"{rows:,.1f} rows/s"


def _parts(kind: str, message: str, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns what is the same in every message of this cause, and between each two of these texts one that varies."""
    constant, varying, end = [], [], 0
    for start, stop in _spans(kind, message, row):
        constant.append(message[end:start])
        varying.append(message[start:stop])
        end = stop
    return [*constant, message[end:]], varying


def _spans(kind: str, message: str, row: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Yields where a message has what varies: in order, apart from each other."""
    spoken = _SPOKEN.search(message)
    stop = len(message) if spoken is None else spoken.end()
    begin = 0
    if kind == "TemplateError" and message.startswith(_TEMPLATES):  # the column and the template are the cause
        behind = _IN_TEMPLATE.search(message)
        begin = stop if behind is None else behind.end()
    found = [each.span() for each in _VARIES.finditer(message, begin, stop) if _is_of_the_row(each)]
    cells = [value[:_LONGEST] for value in row.values() if isinstance(value, str) and len(value) >= _SHORTEST_VALUE]
    found += [(at, at + len(cell)) for cell in cells if (at := message.find(cell, begin, stop)) >= 0]
    if stop < len(message):
        found.append((stop, len(message)))
    end = 0
    for start, behind_it in sorted(found, key=lambda span: (span[0], -span[1])):
        if start >= end:
            yield start, behind_it
            end = behind_it


def _is_of_the_row(found: re.Match[str]) -> bool:
    """Returns whether what was found differs from row to row: a quote, a URL, or a word with a digit."""
    if found["name"]:
        return False
    word = found[0]
    return not (word[0].isalnum() or word[0] == "_") or any(map(str.isdigit, word)) or ":/" in word


def _told(message: str) -> tuple[str, str]:
    """Returns what is wrong and what to change."""
    where, _, rest = message.partition(": ")
    what, is_null, change = rest.partition(_IS_NULL)
    if is_null and change.endswith(_INSTEAD):
        return (
            f"{what.removeprefix('column ').strip(_QUOTES)} is null in {where}",
            f"use {change.removesuffix(_INSTEAD)}",
        )
    found = _CHANGE.search(message, 1 + max(message.rfind("("), message.rfind(")")))
    return (message[: found.start()], message[found.end() :]) if found is not None else (message, "")
