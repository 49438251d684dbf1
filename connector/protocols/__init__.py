"""The message protocols of platforms. One module is one dialect, named by its file.

A dialect turns a platform's verb (`spec`, `check`, `discover`, `read`, …) into calls of the connector, and the results
into messages on stdout. Its file holds all that differs between platforms: names, casing, units of time, exit codes.

Commands for people belong in `commands`, not here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar, Final, NamedTuple, Protocol, cast

import orjson

from connector.base import numbers
from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, ConnectorError, Interrupted
from connector.base.records import JSON, Idle, Message, Outcome, Record, Schema
from connector.base.streams import NO_OUTPUT, Diagnosis, Selection, Stream, Target
from connector.config.config_file import read
from connector.protocols._record_lines import dumps

_LOG = logging.getLogger("connector")

DIALECTS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all dialects."""


class Transform(Protocol):
    """The part of `connector.run.transform.Transform` that dialects use: it enriches streams in flight."""

    @property
    def summary(self) -> object:
        """What the run came to: its text is for a person, and it is false while there is nothing to tell."""

    def open(self, stream: str, columns: Iterable[str] | None = None) -> dict[str, Schema] | None:
        """Returns the columns that a stream gains, with their schemas; `None` if it passes through."""

    def run(self, items: Iterable[Record | Message | Idle]) -> Generator[Outcome | Message | Idle, None, None]:
        """Yields one result for each record and message, in input order."""


class Destination(Protocol):
    """The part of `connector.run.destination.Destination` that dialects use: it stores the rows of streams."""

    @property
    def written(self) -> int:
        """Rows taken so far."""

    @property
    def durable(self) -> int:
        """How many rows, counted from the first, are in the output without a gap."""

    @property
    def stored(self) -> Mapping[str, int]:
        """The number of rows in the output, by stream."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for another commit, if a state waits for one."""

    def add(self, target: Target) -> None:
        """Takes rows of one more stream, or of one whose columns have changed."""

    def write(self, stream: str, row: dict[str, Any]) -> None:
        """Stages a row; the next commit puts it into the output."""

    def commit(self, *, unfinished: Iterable[str] | None = None) -> None:
        """Puts the staged rows into the output; those of streams that overwrite, only at the end.

        `unfinished` names the incomplete streams at the end of the run; `None` means that the run goes on.
        """


class ConnectorAPI(Protocol):
    """The part of `connector.connector.Connector` that dialects use."""

    @property
    def summary(self) -> object:
        """What the last read came to: its text is for a person, and it is false while there is nothing to tell."""

    def spec(self) -> Schema:
        """Returns the JSON Schema of the config."""

    def check(self, config: Any = None) -> Diagnosis:
        """Checks the config and the endpoint."""

    def discover(self, config: Any = None) -> list[Stream]:
        """Returns the streams of the input."""

    def read(
        self, config: Any = None, catalog: Iterable[Selection] | None = None, state: Mapping[str, JSON] | None = None
    ) -> Iterator[Any]:
        """Yields outcomes, checkpoints and pauses."""

    def transform(self, config: Any = None) -> Transform:
        """Returns what enriches streams in flight."""

    def destination(self, config: Any, targets: Iterable[Target]) -> AbstractContextManager[Destination]:
        """Opens the configured output."""

    def call(self, config: Any, payload: JSON) -> dict[str, Any]:
        """Sends one request as it is and returns the body of the reply."""

    def events(self, config: Any, payload: JSON) -> Iterator[dict[str, Any]]:
        """Sends one request as it is and yields the events of the reply as they arrive."""


class Arguments(NamedTuple):
    """The command line of a platform: a verb, and JSON files, each as its path or as what it holds.

    `role` is what the program's name makes of it: `source`, `destination`, `map`, `tap` or `target`, if it tells.
    """

    verb: str
    config: str | Mapping[str, Any] | None = None
    catalog: str | None = None
    state: str | None = None
    sync_config: str | Mapping[str, Any] | None = None
    role: str | None = None


def with_output(config: str | Mapping[str, Any], role: str | None) -> str | Mapping[str, Any]:
    """Returns a config; that of a destination as it is read, since a pipe can be read only once.

    Raises:
        ConfigError: A destination's has no output, or cannot be read. A source may do without an input: it has the
            models then.
    """
    if role not in ("destination", "target"):
        return config
    given = config if isinstance(config, Mapping) else read(Path(config))
    if not given.get("output"):
        raise ConfigError([NO_OUTPUT])
    return given


class MessageWriter(NamedTuple):
    """Where messages go, as a rule stdout: `write` takes whole lines, `flush` makes them visible."""

    write: Callable[[bytes], object]
    flush: Callable[[], object]


class LogHandler(logging.Handler):
    """Sends what the package logs as messages of the platform while it is open; `send` takes level and text.

    What a thread logs that has opened a handler of its own goes there alone: verbs may be answered side by side.
    """

    _of_threads: ClassVar[dict[int, LogHandler]] = {}

    def __init__(self, send: Callable[[str, str], object]) -> None:
        super().__init__()
        self._send = send
        self._thread = threading.get_ident()
        self._of_threads[self._thread] = self
        _LOG.addHandler(self)
        _LOG.setLevel(logging.INFO)  # what has happened is told, too: a platform has no progress line

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one message."""
        if self._of_threads.get(record.thread or 0, self) is self:
            self._send(record.levelname, record.getMessage())

    def close(self) -> None:
        """Stops sending."""
        _LOG.removeHandler(self)
        self._of_threads.pop(self._thread, None)
        if not self._of_threads:
            _LOG.setLevel(logging.NOTSET)
        super().close()


class Dialect(Protocol):
    """What each dialect offers."""

    VERBS: tuple[str, ...]
    """The verbs that it answers, as they stand first on the command line."""

    def serve(self, arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
        """Carries out one verb and returns the exit code that the platform expects."""


PlatformMessage = dict[str, Any]
"""A message as its platform spells it."""

Verb = Callable[[Arguments, ConnectorAPI], Iterator[PlatformMessage | bytes | Idle]]
"""What a dialect does for one verb: yields the messages that answer it; bytes are a line as it is."""


def serve_verb(
    verb: Verb,
    arguments: Arguments,
    connector: ConnectorAPI,
    output: MessageWriter,
    *,
    log: Callable[[str, str], PlatformMessage],
    failure: Callable[[ConnectorError], PlatformMessage],
) -> int:
    """Writes the messages that answer a verb as lines of JSON, and among them what is logged meanwhile.

    Args:
        log: Makes a message of a level (a name of Python's logging) and a text.
        failure: Makes the last message of the error that ended the verb.

    Returns 0, or 1 if an error ended it. Raises what nobody foresaw, after a message about it.
    """

    def put(message: PlatformMessage | bytes) -> None:
        if isinstance(message, bytes):
            output.write(message + b"\n")
        else:
            output.write(dumps(message, orjson.OPT_APPEND_NEWLINE))

    handler = LogHandler(lambda level, text: put(log(level, text)))
    try:
        for message in verb(arguments, connector):
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
        put(failure(ConnectorError(f"a bug ({kind}): please report it with the text on stderr")))
        raise
    finally:
        handler.close()
        output.flush()
    return 0


VERBS: Final = ("spec", "check", "discover", "read", "write")
"""The verbs of all dialects, in the order in which a platform uses them; `Dialect.VERBS` are those of one."""

FLAGS: Final = {
    "about": "print what this plugin is and its settings, as JSON",
    "test": "check the config and the connection",
    "discover": "print the catalog: of a tap; a mapper has no streams of its own",
}
"""Singer's flags, which take the place of a verb, with their help."""


def load(name: str) -> Dialect:
    """Imports a dialect by its name."""
    return cast("Dialect", import_module(f"{__name__}.{name}"))


def json_file(path: str | Mapping[str, Any] | None, name: str) -> JSON:
    """Reads the JSON file that the platform passes as option `name`; what it holds is returned as it is.

    Raises:
        ConfigError: The option is missing, or the file cannot be read.
    """
    if isinstance(path, Mapping):
        return path
    if path is None:
        made = ", with streams of those that `discover` prints" if name == "catalog" else ""
        raise ConfigError(f"--{name} is missing: pass it the path of a JSON file{made}")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # PowerShell writes a byte order mark
        value: JSON = numbers.exactly(text)
    except OSError as error:
        raise ConfigError(f"{path}: the {name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: the {name} is not JSON: {error}") from None
    if is_too_deep(value, text):
        raise ConfigError(f"{path}: the {name} is nested too deeply")
    return value
