"""Fallbacks: other ways to ask for the same, learned from an endpoint's refusals, and remembered.

A fallback that a refusal asks for is applied at once to all further calls to the same model, and dropped again where it
does not help. One that made a call succeed is kept in a file in the user's cache directory, so that the next run is not
refused first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.decoding import loads
from connector.base.errors import ConnectorError
from connector.base.records import Reply
from connector.base.user_cache import cached, make_private_directory
from connector.base.values import dumps
from connector.endpoints import Fallback

_INTERNAL_ERROR: Final = 500
_LASTS: Final = 7 * 86_400  # seconds for which a fallback is remembered; servers are upgraded


def path_of(url: str) -> Path:
    """Returns the file that remembers the fallbacks of an endpoint."""
    return cached(url, "endpoint.json")


class Fallbacks:
    """The fallbacks in use for one endpoint, by model. Thread-safe.

    Args:
        offered: The fallbacks of the endpoint's kind, by name.
        path: The file that remembers them; `None` to remember nothing. One that cannot be read or written is ignored.
    """

    def __init__(self, offered: Mapping[str, Fallback], path: Path | None = None, clock: Clock | None = None) -> None:
        self._offered = offered
        self._path = path
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, ...]] = {}
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
            changed = self._offered[name].apply(changed) or changed
        return body if changed is content else dumps(changed)

    def next(self, body: bytes, tried: Collection[str], result: Reply | ConnectorError) -> tuple[str, bytes] | None:
        """Returns the name of an untried fallback that a refusal asks for, and the request with it applied."""
        words = _words(result).lower()
        for name, fallback in self._offered.items():
            if name not in tried and fallback.matches(words):
                changed = fallback.apply(loads(body))
                if changed is not None:
                    return name, dumps(changed)
        return None

    def expect(self, body: bytes, name: str) -> None:
        """Applies a fallback to all calls to the same model from now on, before it is known to help."""
        self._set(body, {*self._of(body), name})

    def noticed(self, body: bytes, reply: Reply) -> None:
        """Applies what a refusal asks for, so that the calls which begin from now on are not refused too."""
        found = self.next(body, (), reply)
        if found is not None:
            self.expect(body, found[0])

    def drop(self, body: bytes, names: Iterable[str]) -> None:
        """Stops applying fallbacks that did not help."""
        self._set(body, {*self._of(body)}.difference(names))

    def learn(self, body: bytes, names: Iterable[str]) -> None:
        """Remembers the fallbacks that made a call to the same model succeed."""
        self._set(body, {*self._of(body), *names})
        known, model = list(self._of(body)), _model(loads(body))
        kept = _read(self._path)
        if self._path is not None and kept.get(model, {}).get("names") != known:
            _write(self._path, {**kept, model: {"at": int(self._clock.time()), "names": known}})

    def _of(self, body: bytes) -> tuple[str, ...]:
        return self._known.get(_model(loads(body)), ())

    def _set(self, body: bytes, names: Collection[str]) -> None:
        ordered = tuple(name for name in self._offered if name in names)
        with self._lock:
            self._known = {
                **self._known,
                _model(loads(body)): ordered,
            }  # a new dict: other threads may read the old one


def _words(result: Reply | ConnectorError) -> str:
    """Returns the words of a refusal. A server that fails at a schema often says no more than 500."""
    if isinstance(result, Reply):
        return " ".join(str(value) for value in result.body["error"].values())
    return f"{result.message}{' json_schema' if result.http_status == _INTERNAL_ERROR else ''}"


def _model(body: Mapping[str, Any]) -> str:
    return str(body.get("model", ""))


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    try:
        found = {} if path is None else json.loads(path.read_bytes())
        return {str(model): {"at": float(entry["at"]), "names": list(entry["names"])} for model, entry in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with suppress(OSError):
        make_private_directory(path.parent)
        with NamedTemporaryFile("w", dir=path.parent, delete=False) as file:  # 0600, as `tempfile` makes it
            json.dump(content, file)
        Path(file.name).replace(path)
