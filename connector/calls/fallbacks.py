"""Fallbacks: other forms of a request, learned from an endpoint's refusals, and stored.

A fallback that a refusal calls for, by words about a parameter, is applied at once to all further calls to the same
model, and dropped again if it does not help. One that made a call succeed is stored in a file in the user's cache
directory, so that the next run is not refused first. A server that fails with a bare 500 may mean the same: a fallback
is then tried for that row only, and never stored. Each fallback is logged once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConnectorError
from connector.base.numbers import loads
from connector.base.records import Reply
from connector.base.user_cache import cached, make_private_directory, write_private_file
from connector.base.values import dumps
from connector.endpoints import Fallback
from connector.replies.refusals import fails_at_the_request, parameter_words

_LOG = logging.getLogger(__name__)
_SAID: Final = 'another form of request ("%s") is used for model "%s", since %s'
_REMEMBERED: Final = "an earlier run found that it needs this"
_SHOWN: Final = 200
_SUSPECTS: Final = "json_schema stream is not supported"
"""The words of the refusal that a server may have meant if it fails without a reason."""

_LASTS: Final = 7 * 86_400  # seconds for which a stored fallback is used, since servers are upgraded


def path_of(url: str) -> Path:
    """Returns the file that stores the fallbacks of an endpoint."""
    return cached(url, "endpoint.json")


class Fallbacks:
    """The fallbacks in use for one endpoint, by model. Thread-safe.

    Args:
        offered: The fallbacks of the endpoint's kind, by name.
        path: The file that stores them; `None` to store nothing. A file that cannot be read or written is ignored.
    """

    def __init__(self, offered: Mapping[str, Fallback], path: Path | None = None, clock: Clock | None = None) -> None:
        self._offered = offered
        self._path = path
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, ...]] = {}
        self._said: set[tuple[str, str]] = set()
        for model, entry in _read(path).items():
            if self._clock.time() - entry["at"] < _LASTS:
                self._known[model] = tuple(name for name in offered if name in entry["names"])

    def fitted(self, body: bytes) -> bytes:
        """Returns the request with the fallbacks of its model applied."""
        if not self._known:
            return body
        content = loads(body)
        changed = content
        for name in self._known.get(_model(content), ()):
            applied = self._offered[name].apply(changed)
            if applied is not None:
                changed = applied
                self._say(name, content, _REMEMBERED)
        return body if changed is content else dumps(changed)

    def next(self, body: bytes, tried: Collection[str], result: Reply | ConnectorError) -> tuple[str, bytes] | None:
        """Returns the name of an untried fallback that a refusal calls for, and the request with it applied.

        For a failure without a reason, it returns a fallback for a feature that servers often fail at.
        """
        words = parameter_words(result) if isinstance(result, Reply) else ""
        if not words and isinstance(result, ConnectorError) and fails_at_the_request(result):
            words = f"{result.message.lower()} {_SUSPECTS}"
        if not words:
            return None
        content = loads(body)
        for name, fallback in self._offered.items():
            if name not in tried and fallback.matches(words):
                changed = fallback.apply(content)
                if changed is not None:
                    said = result.body["error"]["message"] if isinstance(result, Reply) else result.message
                    self._say(name, content, f"it says: {str(said)[:_SHOWN]}")
                    return name, dumps(changed)
        return None

    def helpless(self, names: Iterable[str], refusal: Reply) -> list[str]:
        """Returns those of the applied fallbacks that did not help, as the refusal calls for them again."""
        words = parameter_words(refusal)
        return [name for name in names if words and self._offered[name].matches(words)]

    @property
    def made(self) -> list[tuple[str, str]]:
        """The fallbacks used for requests of this run, each with its model."""
        with self._lock:
            return sorted(self._said)

    def names(self, body: bytes) -> tuple[str, ...]:
        """Returns the fallbacks that are already known to apply to a request."""
        return self._of(body)

    def expect(self, body: bytes, name: str) -> None:
        """Applies a fallback to all further calls to the same model, before it is known to help."""
        self._set(body, {*self._of(body), name})

    def noticed(self, body: bytes, reply: Reply) -> None:
        """Applies the fallback that a refusal calls for, so that calls which begin from now on are not refused too."""
        found = self.next(body, (), reply)
        if found is not None:
            self.expect(body, found[0])

    def drop(self, body: bytes, names: Iterable[str]) -> None:
        """Stops applying fallbacks that did not help."""
        self._set(body, {*self._of(body)}.difference(names))

    def learn(self, body: bytes, names: Iterable[str]) -> None:
        """Stores the fallbacks that made a call to the same model succeed."""
        self._set(body, {*self._of(body), *names})
        known, model = list(self._of(body)), _model(loads(body))
        kept = _read(self._path)
        if self._path is not None and kept.get(model, {}).get("names") != known:
            _write(self._path, {**kept, model: {"at": int(self._clock.time()), "names": known}})

    def _say(self, name: str, content: Mapping[str, Any], why: str) -> None:
        """Logs a fallback, once for each model."""
        model = _model(content)
        with self._lock:
            is_new = (name, model) not in self._said
            self._said.add((name, model))
        if is_new:
            _LOG.warning(_SAID, name, model, why)

    def _of(self, body: bytes) -> tuple[str, ...]:
        return self._known.get(_model(loads(body)), ())

    def _set(self, body: bytes, names: Collection[str]) -> None:
        ordered = tuple(name for name in self._offered if name in names)
        with self._lock:
            self._known = {
                **self._known,
                _model(loads(body)): ordered,
            }  # a new dict: other threads may read the old one


def _model(body: Mapping[str, Any]) -> str:
    return str(body.get("model", ""))


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    try:
        found = {} if path is None else json.loads(path.read_bytes())
        return {str(model): {"at": float(entry["at"]), "names": list(entry["names"])} for model, entry in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with suppress(OSError):
        make_private_directory(path.parent)
        write_private_file(path, json.dumps(content).encode())
