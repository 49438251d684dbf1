"""Whether a regular expression takes more than linear time: found in its automaton, without running it.

Python's engine tries one way after another. It takes more than linear time if, and only if, some text can be read in
ever more ways: there are two states p and q and a word that leads from p to p, from p to q and from q to q, or that
leads from p to p in two ways (Weber and Seidl, "On the degree of ambiguity of finite automata", 1991). A search that
begins anew at each place is a loop before the pattern. Conditions (anchors, look-around) count as met, so a pattern may
be suspected wrongly, but none is missed for it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from re import _constants as op  # type: ignore[attr-defined]  # the parser of the standard library, which has no other
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

_START: Final = 0
_MOST_COPIES: Final = 40  # of a counted repetition; more count as any number
_COMMON: Final = "aZ5_ \n\t\r-.,:;/\"'<>\\é中\x00…"
_CATEGORIES: Final = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}

_ENDS: Final = ("first", "last", "empty")

Guard = frozenset[str]
"""Characters of which the next one must be none: a possessive repetition is left only where it cannot go on."""


@dataclass
class _Part:
    """A part of a pattern as Glushkov saw it: where it begins and ends, by state and guard, and if it may be empty."""

    first: list[tuple[int, Guard]] = field(default_factory=list)
    last: list[tuple[int, Guard]] = field(default_factory=list)
    empty: list[Guard] = field(default_factory=list)


class Automaton:
    """The positions of a pattern, each with its characters and those that may follow it."""

    def __init__(self, pattern: re.Pattern[Any], *, is_search: bool) -> None:
        text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
        self.tree = tree = parser.parse(
            text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags
        )
        self.flags = pattern.flags
        self.groups: dict[int, Any] = {}
        self.alphabet = sorted({*_COMMON, *self._characters(tree)})
        self.chars: list[frozenset[str]] = [frozenset()]
        self.follow: list[list[tuple[int, Guard]]] = [[]]
        whole = self._sequence(list(tree))
        self.accepting = {state for state, _ in whole.last}
        self.follow[_START] += whole.first
        begins = str(tree[0][1]) if tree and tree[0][0] is op.AT else ""
        at_lines = begins == "AT_BEGINNING" and bool(self.flags & re.MULTILINE)
        if is_search and at_lines:  # each line is a place to begin at: only what follows a line end
            self.chars.append(frozenset("\n"))
            self.follow.append([*self.follow[_START]])
            self.follow[_START] = [(len(self.chars) - 1, frozenset())]
        self.loops = is_search and (at_lines or begins not in ("AT_BEGINNING", "AT_BEGINNING_STRING"))
        alike = {tuple(char in chars for chars in self.chars): char for char in self.alphabet}
        self.alphabet = sorted(alike.values())  # guards are made of these sets, too
        self.steps = [{char: self._step(state, char) for char in self.alphabet} for state in range(len(self.chars))]

    def _step(self, state: int, char: str) -> list[int]:
        """The states that a character leads to; one that is reached in two ways is there twice."""
        found = [to for to, guard in self.follow[state] if char in self.chars[to] and char not in guard]
        return [_START, *found] if state == _START and self.loops else found

    def until_match(self) -> list[dict[str, list[int]]]:
        """The steps up to the first match: nothing begins anew behind it."""
        return [{} if state in self.accepting else steps for state, steps in enumerate(self.steps)]

    def _characters(self, tree: Any) -> Iterator[str]:
        for code, value in tree:
            if code in (op.LITERAL, op.NOT_LITERAL):
                yield from self._cases(value)
            elif code is op.IN:
                for kind, inner in value:
                    numbers = (inner,) if kind is op.LITERAL else inner if kind is op.RANGE else ()
                    for number in numbers:
                        yield from self._cases(number)
            else:
                yield from (char for inner in _inner(value) for char in self._characters(inner))

    @staticmethod
    def _cases(number: int) -> set[str]:
        return {chr(number), chr(number).lower()[:1], chr(number).upper()[:1]}

    def _sequence(self, items: Iterable[Any]) -> _Part:
        whole = _Part(empty=[frozenset()])
        for item in items:
            whole = self._joined(whole, self._part(*item))
        return whole

    def _joined(self, left: _Part, right: _Part) -> _Part:
        for state, guard in left.last:
            self.follow[state] += [(to, guard | other) for to, other in right.first]
        return _Part(
            left.first + [(to, guard | other) for guard in left.empty for to, other in right.first],
            right.last + [(state, guard | other) for guard in right.empty for state, other in left.last],
            [guard | other for guard in left.empty for other in right.empty],
        )

    def _part(self, code: Any, value: Any) -> _Part:
        if code in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            return self._atom(frozenset(char for char in self.alphabet if self._admits(code, value, char)))
        if code is op.SUBPATTERN:
            self.groups[value[0]] = value[-1]
            return self._sequence(value[-1])
        if code is op.GROUPREF:
            return self._sequence(self.groups[value])
        if code is op.ATOMIC_GROUP:
            return self._sequence(value)
        if code is op.BRANCH:
            parts = [self._sequence(branch) for branch in value[1]]
            return _Part(*([each for part in parts for each in getattr(part, name)] for name in _ENDS))
        if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            return self._repeated(*value, is_possessive=code is op.POSSESSIVE_REPEAT)
        if code in (op.ASSERT, op.ASSERT_NOT):
            return _Part(first=self._sequence(value[1]).first, empty=[frozenset()])  # is read, and leads nowhere
        return _Part(empty=[frozenset()])  # an anchor

    def _atom(self, chars: frozenset[str]) -> _Part:
        self.chars.append(chars)
        self.follow.append([])
        state = len(self.chars) - 1
        return _Part([(state, frozenset())], [(state, frozenset())])

    def _repeated(self, least: int, most: Any, body: Any, *, is_possessive: bool) -> _Part:
        whole = _Part(empty=[frozenset()])
        for _ in range(min(least, _MOST_COPIES)):
            whole = self._joined(whole, self._sequence(body))
        if most is op.MAXREPEAT or most - least > _MOST_COPIES:
            loop = self._sequence(body)
            for state, guard in loop.last:
                self.follow[state] += [(to, guard | other) for to, other in loop.first]
            loop.empty = [frozenset()]
            if is_possessive:
                ahead = frozenset().union(*(self.chars[to] for to, _ in loop.first))
                loop.last = [(state, guard | ahead) for state, guard in loop.last]
                loop.empty = [ahead]
            return self._joined(whole, loop)
        rest = _Part(empty=[frozenset()])
        for _ in range(most - least):  # nested, x(x(x)?)?: beside each other, they would seem ambiguous
            rest = self._joined(self._sequence(body), rest)
            rest.empty = [frozenset()]
        return self._joined(whole, rest)

    def _admits(self, code: Any, value: Any, char: str) -> bool:
        if code is op.ANY:
            return bool(self.flags & re.DOTALL) or char != "\n"
        if code is op.LITERAL:
            return self._same(value, char)
        if code is op.NOT_LITERAL:
            return not self._same(value, char)
        items = value[1:] if value[0][0] is op.NEGATE else value
        return any(self._holds(kind, inner, char) for kind, inner in items) != (len(items) < len(value))

    def _holds(self, kind: Any, inner: Any, char: str) -> bool:
        if kind is op.LITERAL:
            return self._same(inner, char)
        cases = self._cases(ord(char)) if self.flags & re.IGNORECASE else {char}
        if kind is op.RANGE:
            return any(inner[0] <= ord(case) <= inner[1] for case in cases if case)
        name = str(inner).removeprefix("CATEGORY_")
        return bool(re.match(_CATEGORIES[name.removeprefix("NOT_")], char)) != name.startswith("NOT_")

    def _same(self, number: int, char: str) -> bool:
        return chr(number) == char or (bool(self.flags & re.IGNORECASE) and char in self._cases(number))


def _inner(value: Any) -> Iterator[Any]:
    """The parts of a pattern that are within a node of its tree."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _inner(each)


def is_superlinear(pattern: re.Pattern[Any], *, is_search: bool, is_full: bool = False) -> bool:
    """Whether some text takes more than linear time.

    Args:
        pattern: The compiled pattern.
        is_search: Whether it is tried at each place of a text, as by `search` and `sub`.
        is_full: Whether it must reach the text's end, so that it may fail after any loop; else a loop that may be the
            last part of the pattern ends in a match and never in another try.
    """
    found = Automaton(pattern, is_search=is_search)
    is_full = is_full or _is_conditional(found.tree)
    states = range(len(found.chars))
    reach = [
        _reached([state], lambda each: {to for some in found.steps[each].values() for to in some}) for state in states
    ]
    looping = [state for state in states if state in reach[state]]
    failing = [state for state in looping if is_full or state not in found.accepting]
    anew = found.steps if is_full else found.until_match()
    for state in failing:
        if any(
            len(some) != len(set(some)) and state in reach[to] for some in found.steps[state].values() for to in some
        ):
            return True
        if _meets(found, (state, state), (state, state), apart=True):
            return True
    return any(
        _meets(found, (one, one, other), (one, other, other), steps=anew if one == _START else None)
        for one in looping
        for other in failing
        if other != one and other in reach[one]
    )


def _reached(begin: Iterable[Any], step: Callable[[Any], Iterable[Any]]) -> set[Any]:
    """What is reached from `begin` by one step or more."""
    seen: set[Any] = set()
    todo = deque(begin)
    while todo:
        for to in step(todo.popleft()):
            if to not in seen:
                seen.add(to)
                todo.append(to)
    return seen


def _is_conditional(tree: Any) -> bool:
    """Whether the end of a pattern depends on what comes behind it."""
    if not tree:
        return False
    code, value = tree[-1]
    if code is op.SUBPATTERN:
        return _is_conditional(value[-1])
    if code is op.BRANCH:
        return any(_is_conditional(branch) for branch in value[1])
    return code in (op.AT, op.ASSERT, op.ASSERT_NOT)


def _meets(
    found: Automaton,
    begin: tuple[int, ...],
    end: tuple[int, ...],
    *,
    steps: list[dict[str, list[int]]] | None = None,
    apart: bool = False,
) -> bool:
    """Whether one word leads each of several states to its end; `apart`: by ways that are not the same throughout."""
    by_state = steps or found.steps

    def step(now: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        steps = [by_state[state] for state in now[: len(begin)]]
        for char in found.alphabet:
            ways: list[tuple[int, ...]] = [()]
            for some in steps:
                ways = [(*way, to) for way in ways for to in some.get(char, ())]
            for way in ways:
                parted = apart and (len(now) > len(begin) or len(set(way)) > 1)
                yield (*way, -1) if parted else way

    target = (*end, -1) if apart else end
    return target in _reached([begin], step)
