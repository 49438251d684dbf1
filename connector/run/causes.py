"""Why rows failed: the causes, counted as rows pass, in bounded memory.

A cause is every failed row whose error reads the same once what differs from row to row is left out: numbers, ids,
what is quoted, and the row's own texts.
"""

from __future__ import annotations

import re
from bisect import bisect, insort
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

from connector.base.amounts import counted
from connector.base.errors import TemplateError, parted
from connector.base.records import Outcome, Part, Status
from connector.base.regex import regex
from connector.base.suggestions import there_are
from connector.base.terminal import one_line

_MOST_CAUSES: Final = 1_000
_MOST_ROWS: Final = 5  # numbers of rows that are kept for each cause
_TOP: Final = 5  # causes that the text tells
_ROWS_TOLD: Final = 3
_LONGEST: Final = 600  # characters of a message that are compared
_SHORTEST_VALUE: Final = 12  # characters: a shorter cell may stand in a message by chance
_LONGEST_TOLD: Final = 240  # characters of a reason in a text
_OTHER: Final = "other reasons, each of a few rows"
_GAP: Final = "…"

_VARIES: Final = regex(
    r'"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)(?P<name> is a required property)?'  # a quote that was cut goes on to the end
    r"|(?<!\w)'(?:[^']|'\w)*+(?:'|\Z)|`[^`]*+(?:`|\Z)|\u201c[^\u201d]*+(?:\u201d|\Z)"
    r"|(?:https?|data|file|s3|gs):[^\s\"')]++"
    r"|\w++(?:(?:[.:/+-]|,(?=\d))++\w++)*+",  # words, of which those with a digit are numbers, dates or ids
    re.DOTALL,
)
"""What may differ from row to row. The name of a property that is missing does not: it is the schema's."""

_SPOKEN: Final = regex(r"there are: |but not an object: |the model refused: |not valid JSON: ")
"""Introduces what a row or a model says, up to the end."""

_IN_TEMPLATE: Final = regex(r" fails on this row: |not JSON: ")
"""What stands in a template error behind the template itself, and is different for each row."""

_TEMPLATES: Final = ("request_format", "prompt", "system_prompt", "where")
_NULL_COLUMN: Final = regex(r'(?P<where>[^"]*?)column "(?P<name>[^"]*)" is null')
_IS_NULL: Final = " is null; "
_INSTEAD: Final = " says what to send instead"
_QUOTES: Final = "\"'"


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
        places: The same rows by their file and their number in it, where the input is several files.
    """

    count: int
    status: Status
    error: str
    reason: str
    change: str
    rows: tuple[int, ...]
    stream: str = ""
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        word = "" if self.places else "row " if self.count == 1 else "rows "
        told = ", ".join((self.places or [f"{row:,}" for row in self.rows])[:_ROWS_TOLD])
        rows = f" ({word}{told}{', …' if self.count > _ROWS_TOLD else ''})" if told else ""
        change = f" → {self.change}" if self.change else ""
        stream = f'stream "{self.stream}": ' if self.stream else ""
        reason = self.reason if len(self.reason) <= _LONGEST_TOLD else f"{self.reason[: _LONGEST_TOLD - 1]}{_GAP}"
        return f"{self.count:,} × {stream}{reason}{change}{rows}"

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**asdict(self), "status": self.status.value, "rows": list(self.rows), "places": list(self.places)}


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
    def of(cls, outcome: Outcome, part: Part | None = None) -> _Message:
        """Reads the error of a failed row, which is of this file."""
        status, stream, error = outcome.status, outcome.record.stream, outcome.provenance.error
        if error is None:
            return cls(status, "", None, stream, (f"the row is {status}",), ())
        message = error.message if part is None else _by_file(error.class_, error.message, part)
        constant, varying = _parts(error.class_, message[:_LONGEST], outcome.record.data)
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

    def cause(self, parts: Sequence[Part], *, names_stream: bool) -> Cause:
        first = self._first
        texts = chain.from_iterable(zip(first.constant, (*self._varying, ""), strict=True))
        reason, change = _told("".join(texts))
        stream = first.stream if names_stream else ""
        places = tuple(place_of(row, parts) for row in self.rows) if parts else ()
        return Cause(self.count, first.status, first.error, reason, change, tuple(self.rows), stream, places)

    @property
    def stream(self) -> str:
        return self._first.stream


class Causes:
    """Counts failed rows by their cause. Of more than 1,000 different causes, the later ones count as one.

    Attributes:
        parts: Which rows are of which file, where the input is several.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self.parts = parts
        self._groups: dict[tuple[Any, ...], _Group] = {}

    def add(self, outcome: Outcome) -> None:
        """Counts a failed row."""
        message = _Message.of(outcome, _part_of(outcome.record.index, self.parts))
        group = self._groups.get(message.key)
        if group is None and len(self._groups) >= _MOST_CAUSES:
            message = _Message.other(outcome)
            group = self._groups.get(message.key)
        if group is None:
            group = self._groups[message.key] = _Group(message)
        group.add(outcome.record.index + 1, message.varying)

    def key(self, outcome: Outcome) -> Hashable:
        """Returns the key of the cause that a failed row was counted for."""
        key = _Message.of(outcome, _part_of(outcome.record.index, self.parts)).key
        return key if key in self._groups else _Message.other(outcome).key

    def items(self) -> Iterator[tuple[Hashable, Cause]]:
        """Yields the causes, each with its key, those of the most rows first."""
        groups = sorted(self._groups.items(), key=lambda each: (-each[1].count, each[1].rows))
        names_stream = len({group.stream for _, group in groups}) > 1
        return ((key, group.cause(self.parts, names_stream=names_stream)) for key, group in groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Cause]:
        """Yields the causes, those of the most rows first."""
        return (cause for _, cause in self.items())


def failures(causes: Sequence[Cause], head: str) -> list[str]:
    """Returns why rows fail, as lines: `head`, then the causes of the most rows; nothing if none does."""
    if not causes:
        return []
    rest = causes[_TOP:]
    more = f"  {sum(each.count for each in rest):,} × for {counted(len(rest), 'further reason')}"
    return [f"{head}:", *(f"  {one_line(str(each))}" for each in causes[:_TOP]), *([more] if rest else [])]


def _part_of(index: int, parts: Sequence[Part]) -> Part | None:
    """Returns the file that a row is of, by its index; `None` where the input is not several files."""
    return parts[bisect(parts, index, key=attrgetter("first")) - 1] if parts else None


def place_of(row: int, parts: Sequence[Part]) -> str:
    """Returns where a row is, by its number from 1: the file, where the input is several, and its number in it."""
    part = _part_of(row - 1, parts)
    return f"{row:,}" if part is None else f"{part.name} row {row - part.first:,}"


def _by_file(kind: str, message: str, part: Part) -> str:
    """Returns the message for a row whose cell is null because its file has no such column."""
    null = _NULL_COLUMN.match(message) if kind == TemplateError.__name__ else None
    if null is None or null["name"] in part.columns:
        return message
    there = there_are(null["name"], sorted(part.columns))
    return f'{null["where"]}{part.name} has no column "{null["name"]}", as other inputs have; {there}'


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
    return parted(message)
