"""The dialects: how platforms say `spec`, `check`, `discover` and `read`. One module is one dialect, by its file name.

A dialect turns a platform's command into calls of the connector that it is handed, and what comes back into lines on
stdout. Whatever differs between platforms (names, casing, units of time, exit codes) is in its file alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, cast

from connector.errors import ConfigError
from connector.records import JSON, Idle, Message, Outcome, Record, Schema
from connector.streams import Diagnosis, Selection, Stream

_LOG = logging.getLogger("connector")

DIALECTS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all dialects."""


class Transform(Protocol):
    """What enriches streams in flight, as a dialect sees it (`connector.transform.Transform`)."""

    summary: str
    """What became of the run, for a person; empty before it."""

    def open(self, stream: str, columns: Iterable[str] | None = None) -> dict[str, Schema] | None:
        """The columns that a stream gains; `None` where it passes through."""

    def run(self, items: Iterable[Record | Message | Idle]) -> Generator[Outcome | Message | Idle, None, None]:
        """One result for each record and message, in input order."""


class Platform(Protocol):
    """The connector, as a dialect sees it."""

    def spec(self) -> Schema:
        """The JSON Schema of the config."""

    def check(self, config: Any = None) -> Diagnosis:
        """Whether the config works."""

    def discover(self, config: Any = None) -> list[Stream]:
        """The streams there are."""

    def read(
        self, config: Any = None, catalog: Iterable[Selection] | None = None, state: Mapping[str, JSON] | None = None
    ) -> Iterator[Any]:
        """Outcomes, checkpoints and pauses."""

    def transform(self, config: Any = None) -> Transform:
        """Enrichment in flight."""

    def call(self, config: Any, payload: JSON) -> dict[str, Any]:
        """The body of the reply to one request, which is sent as it is."""

    def events(self, config: Any, payload: JSON) -> Iterator[dict[str, Any]]:
        """The same, streamed: each event as it arrives."""


class Arguments(NamedTuple):
    """What the platform passes on the command line: paths of JSON files."""

    verb: str
    config: str | None = None
    catalog: str | None = None
    state: str | None = None
    sync_config: str | None = None


class Output(NamedTuple):
    """Where messages go: `write` takes whole lines, `flush` makes them visible."""

    write: Callable[[bytes], object]
    flush: Callable[[], object]


class LogHandler(logging.Handler):
    """While it is open, what the package logs goes out as the platform's own messages: `send` takes level and text."""

    def __init__(self, send: Callable[[str, str], object]) -> None:
        super().__init__()
        self._send = send
        _LOG.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one message."""
        self._send(record.levelname, record.getMessage())

    def close(self) -> None:
        """Ends it."""
        _LOG.removeHandler(self)
        super().close()


class Dialect(Protocol):
    """What a dialect module consists of."""

    VERBS: tuple[str, ...]
    """The first arguments that it answers to."""

    def serve(self, arguments: Arguments, platform: Platform, output: Output) -> int:
        """Carries out one verb and returns the exit code that the platform expects."""


def load(name: str) -> Dialect:
    """Opens a dialect by its name."""
    return cast("Dialect", import_module(f"{__name__}.{name}"))


def json_file(path: str | None, name: str) -> JSON:
    """What a file holds that the platform passes as option `name`.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    if path is None:
        raise ConfigError(f"--{name} is missing")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the {name} {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the {name} {path} is not JSON: {error}") from None
