"""Secrets of a config: a text that never shows itself, given as it is or as a reference to the environment."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from connector.base.environment import expanded, refers
from connector.base.errors import ConfigError


class ResolvedSecret(SecretStr):
    """A secret that the environment holds. It pickles as the text that refers to it, `${NAME}`, not as its value.

    Where the pickle is opened, on another machine perhaps, that text is resolved again.

    Raises:
        ConfigError: A variable is not set, or not UTF-8; also where a pickle is opened.
    """

    def __init__(self, reference: str) -> None:
        super().__init__(expanded(reference))
        self._reference = reference

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._reference,)


def _reopened(reference: str) -> ResolvedSecret:
    try:
        return ResolvedSecret(reference)
    except ConfigError as error:
        raise ConfigError(
            f"{error.message} in this process ({os.uname().nodename}): set it wherever rows are enriched"
        ) from None


def secret(text: str) -> SecretStr:
    """Returns a secret that is given as it is, or as a text that refers to variables.

    Raises:
        ConfigError: A variable is not set, or not UTF-8.
    """
    return ResolvedSecret(text) if refers(text) else SecretStr(text)
