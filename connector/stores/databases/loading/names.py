"""Column names that a database takes: each name in the input gets one, always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import NamedTuple


class Rules(NamedTuple):
    """Which names a database takes.

    Attributes:
        longest: The most characters, or bytes if `is_in_bytes`; 0 for no limit.
        folds: Whether names that differ only in case are the same name.
        is_good: Returns whether a name, or one character of it, is allowed.
    """

    longest: int = 0
    is_in_bytes: bool = False
    folds: bool = True
    is_good: Callable[[str], bool] = lambda name: "\0" not in name


class Names:
    """The columns of one table. `existing`: those that it has; `known`: the names that the input is known to have."""

    def __init__(self, rules: Rules, existing: Collection[str], known: Collection[str]) -> None:
        self._rules = rules
        self._existing = existing
        self._known = frozenset(known)
        self._folded = {self._fold(name): name for name in existing}
        self._taken: dict[str, str] = {}
        self.columns: dict[str, str] = {}

    def column(self, name: str) -> str:
        """Returns the column for a name: of that name where possible, else with a hash of it at the end."""
        found = self.columns.get(name)
        if found is None:
            found = self.columns[name] = self._found(name)
            self._taken[self._fold(found)] = name
        return found

    def _found(self, name: str) -> str:
        if name in self._existing:
            return name
        safe, alias = shortened(name, self._rules), shortened(name, self._rules, is_marked=True)
        for each in (safe, alias):
            if each in self._existing:
                return each
        folded = self._fold(safe)
        other = self._folded.get(folded)
        if other is not None and other not in self._known and folded not in self._taken:
            return other
        return alias if other is not None or folded in self._taken else safe

    def _fold(self, name: str) -> str:
        return name.casefold() if self._rules.folds else name


def shortened(name: str, rules: Rules, *, is_marked: bool = False, ending: str = "") -> str:
    """Returns a name that a database takes: one that is too long or has forbidden characters becomes a part and a hash.

    The hash is always added if `is_marked`; `ending` follows in full.
    """
    if not is_marked and name and rules.is_good(name) and _fits(name + ending, rules):
        return name + ending
    mark = f"_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}{ending}"
    kept = "".join(each if rules.is_good(each) else "_" for each in name)
    while not _fits(kept + mark, rules):
        kept = kept[:-1]
    return kept + mark


def _fits(name: str, rules: Rules) -> bool:
    size = len(name.encode("utf-8", "replace")) if rules.is_in_bytes else len(name)
    return not rules.longest or size <= rules.longest
