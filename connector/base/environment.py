"""Variables of the environment, and texts that refer to them as `${NAME}`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from connector.base.errors import ConfigError

HALF: Final = re.compile(r"[\ud800-\udfff]")
"""Half of a character: Python keeps bytes of the environment that are not UTF-8 as these."""

REFERENCE: Final = re.compile(r"\$\{(\w+)\}")
"""A reference to a variable."""


_IS_CLOSED: Final = ContextVar("is_closed", default=False)


@contextmanager
def closed() -> Iterator[None]:
    """While entered, `${NAME}` is a text like any other and no variable has a value: for what strangers write."""
    token = _IS_CLOSED.set(True)
    try:
        yield
    finally:
        _IS_CLOSED.reset(token)


def variable(name: str) -> str | None:
    """Returns a variable of the environment, unless that is `closed`.

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
    """Returns whether a text refers to variables of the environment, unless that is `closed`."""
    return REFERENCE.search(value) is not None and not _IS_CLOSED.get()


def expanded(value: str, written: Callable[[str], str] = str) -> str:
    """Returns `value` with each `${NAME}` replaced from the environment, as `written` writes it, unless it is `closed`.

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
