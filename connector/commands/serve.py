"""Stay resident and answer a platform's verbs over a Unix socket that only this user can reach.

Example:
    openai-compatible serve --protocol multiwoven --socket ~/.run/mw.sock

A connection is greeted with the line `{"type": "ready"}`. The client then sends one request, a line of JSON such as
`{"verb": "read", "sync_config": {…}}`, and gets the lines that the verb prints, followed by `{"type": "exit",
"code": 0}`. A client that is not greeted has asked for nothing yet, and can ask elsewhere.
One that asks for nothing within a minute is left alone.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson

from connector import protocols
from connector.base import numbers
from connector.base.clock import Clock
from connector.base.errors import ConfigError, Interrupted, Problem
from connector.base.stop import Stop
from connector.commands import ExitCode
from connector.connector import Connector
from connector.parser import Parser
from connector.protocols import Arguments, Dialect, MessageWriter
from connector.run.passthrough import Passthrough
from connector.signals import interruptible

_PROTOCOLS: Final = ("multiwoven",)
_IDLE: Final = 600.0  # seconds
_TICK: Final = 0.2  # seconds between looks at whether to end
_PATIENCE: Final = 60.0  # seconds in which a caller may take nothing of its answer
_ASKING: Final = 60.0  # seconds in which a caller has to go on asking
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # what accept(2) says until there is room
_SWITCH_SECONDS: Final = 0.001  # a call is short, and many are answered at once: none waits for another's turn
_MOST_BYTES: Final = 1 << 26  # of a request, which may hold pictures
_MOST_LINES: Final = 64  # connections of platforms, each with open connections to its endpoint
_WAITING: Final = 128  # calls that may wait to be accepted
_BUFFER: Final = 1 << 16


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.add_argument("--protocol", choices=_PROTOCOLS, required=True, help="the platform's protocol")
    parser.add_argument(
        "--socket",
        required=True,
        metavar="PATH",
        help="the path of the socket, in a folder that only this user can enter",
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=_IDLE,
        metavar="S",
        help=f"exit after S seconds without a request (default: {_IDLE:.0f})",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`. Where another process has the socket already, it ends at once."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    stop = Stop()
    with listening(Path(arguments.socket).expanduser().absolute()) as listener:
        if listener is not None:
            server = Server(protocols.load(arguments.protocol), stop)
            with interruptible(stop):
                server.serve(listener, arguments.idle)
    if stop.reason is not None:
        raise stop.reason
    return ExitCode.DONE


class Server:
    """Answers connections, each in a thread of its own.

    Args:
        dialect: What the verbs are in.
        stop: Ask it to end: no further connection is accepted, and those that there are come to their end.
        clock: Tells how long nobody has asked.
        patience: Seconds in which a caller may take nothing of its answer; it is left alone after that.
    """

    def __init__(
        self, dialect: Dialect, stop: Stop, clock: Clock | None = None, *, patience: float = _PATIENCE
    ) -> None:
        self._dialect = dialect
        self._stop = stop
        self._patience = patience
        self._now = (clock or Clock()).monotonic
        self._connector = _Resident(stop=stop, is_shared=True)
        self._active: dict[threading.Thread, socket.socket] = {}

    def serve(self, listener: socket.socket, idle: float) -> None:
        """Serves until it is asked to end, or for so many seconds nobody has asked for anything."""
        listener.settimeout(_TICK)
        used = self._now()
        while self._stop.reason is None and self._now() - used < idle:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                self._active = {thread: each for thread, each in self._active.items() if thread.is_alive()}
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                time.sleep(_TICK)  # until a caller has gone
            else:
                connection.settimeout(_ASKING)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._active[thread] = connection
                thread.start()
            if self._active:
                used = self._now()
        listener.close()
        for thread, connection in self._active.items():
            with suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RD)  # who has not asked yet would be waited for without an end
            thread.join()
        self._connector.close()

    def _serve(self, connection: socket.socket) -> None:
        with (
            suppress(OSError),  # whoever asked has gone
            connection,
            connection.makefile("rb") as reader,
            connection.makefile("wb", _BUFFER) as writer,
        ):
            writer.write(b'{"type":"ready"}\n')
            writer.flush()
            line = reader.readline(_MOST_BYTES)
            connection.settimeout(self._patience)
            code = self._answer(line, MessageWriter(_once(connection, writer.write), _once(connection, writer.flush)))
            writer.write(orjson.dumps({"type": "exit", "code": code}, option=orjson.OPT_APPEND_NEWLINE))

    def _answer(self, line: bytes, output: MessageWriter) -> int:
        try:
            asked = numbers.loads(line)
        except (ValueError, RecursionError):
            return ExitCode.USAGE
        if not isinstance(asked, dict) or asked.get("verb") not in self._dialect.VERBS:
            return ExitCode.USAGE
        given = asked.get("sync_config")
        try:
            arguments = Arguments(asked["verb"], sync_config=given if isinstance(given, dict) else {})
            return self._dialect.serve(arguments, self._connector, output)
        except Interrupted:
            return ExitCode.ENDPOINT
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the dialect has told it, and other calls go on
            return ExitCode.UNFORESEEN


def _once(connection: socket.socket, act: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what writes to a caller, and after one that takes nothing hangs up: what comes next waits no more."""

    def acting(*data: bytes) -> Any:
        try:
            return act(*data)
        except TimeoutError:
            connection.shutdown(socket.SHUT_RDWR)
            raise

    return acting


class _Resident(Connector):
    """A connector whose connections stay open from one call to the next. It reads no files and databases.

    Whoever may edit a connection of the platform could read this machine's files by an `input`.
    """

    def __init__(self, *, stop: Stop, is_shared: bool) -> None:
        super().__init__(stop=stop, is_shared=is_shared)
        self._lines: OrderedDict[bytes, Passthrough] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, config: Any, payload: Any) -> dict[str, Any]:
        return self._line(config).send(payload, self.stop)

    def events(self, config: Any, payload: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        return self._line(config).stream(payload, self.stop)

    def check(self, config: Any = None) -> NoReturn:
        raise _refused(config)

    def discover(self, config: Any = None) -> NoReturn:
        raise _refused(config)

    def read(self, config: Any = None, catalog: Iterable[Any] | None = None, state: Any = None) -> NoReturn:
        raise _refused(config, catalog, state)

    def close(self) -> None:
        """Closes all connections."""
        for line in self._lines.values():
            line.close()

    def _line(self, config: Mapping[str, Any]) -> Passthrough:
        """Returns what sends requests by this config: by its secrets, too, so that nobody has another's."""
        key = blake2b(numbers.dumps(config, option=orjson.OPT_SORT_KEYS), digest_size=32).digest()
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = Passthrough(self._chosen(config), self._clock)
                if len(self._lines) > _MOST_LINES:
                    self._lines.popitem(last=False)[1].close()
            self._lines.move_to_end(key)
            return line


def _refused(*_: object) -> ConfigError:
    return ConfigError([Problem("input", "has no place in a process that serves a platform: remove it")])


@contextmanager
def listening(path: Path) -> Iterator[socket.socket | None]:
    """Gives the socket at a path, for this user alone; `None` where another process has it."""
    folder = path.parent
    try:
        owner = folder.stat()
    except OSError as error:
        raise ConfigError(f"--socket {path}: its folder {folder}: {error.strerror}: make it, for you alone") from None
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o077:
        raise ConfigError(f"--socket {path}: others can reach its folder {folder}: name one for you alone (chmod 700)")
    with closing(_Lock(path.with_name(f"{path.name}.lock"))) as lock:
        if not lock.is_held:
            yield None
            return
        with socket.socket(socket.AF_UNIX) as listener:
            if path.exists() and not path.is_socket():
                raise ConfigError(f"--socket {path}: this is not a socket: name another path")
            path.unlink(missing_ok=True)
            try:
                listener.bind(str(path))
            except OSError as error:
                raise ConfigError(f"--socket {path}: {error.strerror or error}: name another path") from None
            path.chmod(0o600)
            listener.listen(_WAITING)
            try:
                yield listener
            finally:
                path.unlink(missing_ok=True)


class _Lock:
    """A lock on a file, which ends with the process, whose number is in the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.is_held = True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.is_held = False
        else:
            os.truncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        os.close(self._file)
