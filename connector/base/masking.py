"""Keeps secrets out of everything that is shown or stored: endpoints echo keys in their errors, in part or whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
_SHORTEST: Final = 4
_KEY_LIKE: Final = re.compile(
    r"\b(?:(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_]|AIza)[\w*.…-]{4,}|(?<=[Bb]earer )[\w.~+/=-]{16,}"
)

_SECRET_NAME: Final = re.compile(r"(?:key|token|secret|signature|password)$|^(?:sig|code|auth)$", re.IGNORECASE)


def looks_secret(name: str, value: str) -> bool:
    """Whether a parameter of a URL holds a secret, by what it is called or by what its value looks like."""
    return bool(_SECRET_NAME.search(name) or _KEY_LIKE.search(value))


class Masker:
    """Replaces known secrets, and whatever looks like a key, by `***`."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        known = sorted({each for each in secrets if each and len(each) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Returns `text` without secrets."""
        if self._known:
            text = self._known.sub(MASK, text)
        return _KEY_LIKE.sub(MASK, text)

    def __repr__(self) -> str:
        return "Masker()"
