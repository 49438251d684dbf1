"""Keeps secrets out of everything that is shown or stored: endpoints echo keys in their errors, in part or whole."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
_SHORTEST: Final = 4
_KEY_LIKE: Final = re.compile(
    r"\b(?:(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_]|AIza)[\w*.…-]{4,}|(?<=[Bb]earer )[\w.~+/=-]{16,}"
)

_SECRET_NAME: Final = re.compile(r"(?:key|token|secret|signature|password)$|^(?:sig|code|auth)$", re.IGNORECASE)


def looks_secret(name: str, value: str) -> bool:
    """Returns whether a parameter of a URL holds a secret, by what it is called or by what its value looks like."""
    return bool(_SECRET_NAME.search(name) or _KEY_LIKE.search(value))


def encoded(secret: str) -> list[str]:
    """Returns how a secret is written in a URL, in the two ways there are."""
    return [quote(secret, safe=""), quote_plus(secret)]


class Masker:
    """Replaces known secrets, and whatever looks like a key, by `***`. Thread-safe."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        self._secrets: set[str] = set()
        self._lock = threading.Lock()
        self._known: re.Pattern[str] | None = None
        self._add(secrets)

    def learn(self, secret: str) -> None:
        """Masks a secret that has come up just now as well, also as a URL would hold it."""
        with self._lock:
            self._add([secret, *encoded(secret)])

    def __call__(self, text: str) -> str:
        """Returns `text` without secrets."""
        known = self._known
        if known:
            text = known.sub(MASK, text)
        return _KEY_LIKE.sub(MASK, text)

    def __repr__(self) -> str:
        return "Masker()"

    def __reduce__(self) -> tuple[type[Masker], tuple[list[str]]]:  # its lock does not pickle
        return Masker, (sorted(self._secrets),)

    def _add(self, secrets: Iterable[str | None]) -> None:
        self._secrets.update(each for each in secrets if each and len(each) >= _SHORTEST)
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
