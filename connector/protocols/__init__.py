"""The dialects: how platforms say `spec`, `check`, `discover` and `read`. One module is one dialect, by its file name.

A dialect turns a platform's command into calls of the connector that it is handed, and what comes back into lines on
stdout. Whatever differs between platforms (names, casing, units of time, exit codes) is in its file alone.

What people type belongs in `commands`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, cast

import orjson

from connector.base.errors import ConfigError, ConnectorError, Interrupted
from connector.base.records import JSON, Idle, Message, Outcome, Record, Schema
from connector.base.streams import Diagnosis, Selection, Stream, Target

_LOG = logging.getLogger("connector")

DIALECTS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all dialects."""


class Transform(Protocol):
    """What enriches streams in flight, as a dialect sees it (`connector.run.transform.Transform`)."""

    summary: str
    """What became of the run, for a person; empty before it."""

    def open(self, stream: str, columns: Iterable[str] | None = None) -> dict[str, Schema] | None:
        """The columns that a stream gains; `None` where it passes through."""

    def run(self, items: Iterable[Record | Message | Idle]) -> Generator[Outcome | Message | Idle, None, None]:
        """One result for each record and message, in input order."""


class Destination(Protocol):
    """What keeps the rows of streams, as a dialect sees it (`connector.run.destination.Destination`)."""

    @property
    def written(self) -> int:
        """Rows taken so far."""

    @property
    def durable(self) -> int:
        """How many of them, counted from the first, are in the output without a gap."""

    @property
    def stored(self) -> Mapping[str, int]:
        """Rows that are in the output, by stream."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to commit again, if somebody waits for it."""

    def write(self, stream: str, row: dict[str, Any]) -> None:
        """Takes a row, to be put into the output by the next commit."""

    def commit(self, *, unfinished: Iterable[str] | None = None) -> None:
        """Puts rows into the output; of streams that replace all there is, at the end alone.

        `unfinished`: It is the end, and these streams are not whole. `None`: it is not.
        """


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

    def destination(self, config: Any, targets: Iterable[Target]) -> AbstractContextManager[Destination]:
        """The configured output."""

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


def converse(
    messages: Iterable[dict[str, Any] | bytes | Idle],
    output: Output,
    log: Callable[[str, str], dict[str, Any]],
    failure: Callable[[ConnectorError], dict[str, Any]],
) -> int:
    """Writes messages as lines of JSON, and what is logged meanwhile; bytes are a line as it is.

    Returns 0, or 1 after a last message that tells the error which ended them. What nobody foresaw is told and raised.
    """

    def put(message: dict[str, Any] | bytes) -> None:
        if isinstance(message, bytes):
            output.write(message + b"\n")
        else:
            output.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    handler = LogHandler(lambda level, text: put(log(level, text)))
    try:
        for message in messages:
            if isinstance(message, Idle):
                output.flush()
            else:
                put(message)
    except ConnectorError as error:
        put(failure(error))
        return 1
    except (Interrupted, OSError):  # asked to stop, or nobody reads any more
        raise
    except Exception as error:
        kind = type(error).__qualname__  # its text may hold a secret
        put(failure(ConnectorError(f"a fault of the program ({kind}): please report it with what is on stderr")))
        raise
    finally:
        handler.close()
        output.flush()
    return 0


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
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))  # PowerShell writes a byte order mark
    except OSError as error:
        raise ConfigError(f"the {name} {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the {name} {path} is not JSON: {error}") from None
