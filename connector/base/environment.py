"""Environment variables, and texts that refer to them as `${NAME}`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from connector.base.errors import ConfigError
from connector.base.regex import regex

HALF: Final = regex(r"[\ud800-\udfff]")
"""A lone surrogate: Python represents bytes of the environment that are not UTF-8 by these."""

REFERENCE: Final = regex(r"\$\{(\w+)\}")
"""A reference to a variable."""


_IS_CLOSED: Final = ContextVar("is_closed", default=False)


@contextmanager
def closed() -> Iterator[None]:
    """Makes `${NAME}` an ordinary text while entered, and hides all variables: for configs from strangers."""
    token = _IS_CLOSED.set(True)
    try:
        yield
    finally:
        _IS_CLOSED.reset(token)


def variable(name: str) -> str | None:
    """Returns an environment variable; `None` if it is not set or the environment is `closed`.

    Raises:
        ConfigError: It is not UTF-8.
    """
    if _IS_CLOSED.get():
        return None
    value = os.environ.get(name)
    if value is not None and HALF.search(value):
        raise ConfigError(f"the environment variable {name} is not text in UTF-8: set it again")
    return value


def refers(value: str) -> bool:
    """Returns whether a text refers to environment variables; false while the environment is `closed`."""
    return REFERENCE.search(value) is not None and not _IS_CLOSED.get()


def expanded(value: str, written: Callable[[str], str] = str) -> str:
    """Replaces each `${NAME}` in `value` from the environment, unless that is `closed`; `written` escapes the values.

    Raises:
        ConfigError: A variable is not set, or not UTF-8.
    """
    if _IS_CLOSED.get():
        return value

    def named(match: re.Match[str]) -> str:
        found = variable(match[1])
        if found is None:
            raise ConfigError(f"the environment variable {match[1]}, which the config refers to, is not set")
        return written(found)

    return REFERENCE.sub(named, value)
