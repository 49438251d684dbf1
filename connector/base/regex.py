"""Regular expressions that are compiled when they are first used: most runs need few of those that modules hold."""

from __future__ import annotations

import re
from functools import cached_property
from operator import attrgetter
from typing import Any, AnyStr, Final, Generic, cast


def regex(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Returns what `re.compile` would, compiled when it is first used; raises `re.error` only then."""
    return cast("re.Pattern[AnyStr]", Regex(pattern, flags))


def _method(name: str) -> cached_property[Any]:
    """Returns a method of the compiled pattern: looked up once, so that each use of it costs as much as there."""
    return cached_property(attrgetter(f"compiled.{name}"))


class Regex(Generic[AnyStr]):
    """A pattern with the methods of the compiled one."""

    findall: Final = _method("findall")
    finditer: Final = _method("finditer")
    fullmatch: Final = _method("fullmatch")
    match: Final = _method("match")
    search: Final = _method("search")
    split: Final = _method("split")
    sub: Final = _method("sub")
    subn: Final = _method("subn")

    def __init__(self, pattern: AnyStr, flags: int) -> None:
        self.pattern: Final[AnyStr] = pattern
        self._flags = flags

    @cached_property
    def compiled(self) -> re.Pattern[AnyStr]:
        """The compiled pattern."""
        return re.compile(self.pattern, self._flags)
