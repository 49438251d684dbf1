"""Secrets of a config: texts that are never shown, given literally or as references to the environment."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from connector.base.environment import expanded, refers
from connector.base.errors import ConfigError


class ResolvedSecret(SecretStr):
    """A secret from the environment. It is pickled as its reference, `${NAME}`, not as its value.

    The reference is resolved again when it is unpickled, perhaps on another machine.

    Raises:
        ConfigError: A variable is not set, or not UTF-8; also on unpickling.
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
    """Returns a secret that is given literally, or as a text that refers to environment variables.

    Raises:
        ConfigError: A variable is not set, or not UTF-8.
    """
    return ResolvedSecret(text) if refers(text) else SecretStr(text)
