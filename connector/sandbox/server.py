"""The sandbox on the wire: HTTP/1.1 with keep-alive, one thread per connection."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl

import orjson
from jsonschema import Draft202012Validator

from connector.base.errors import ConfigError
from connector.base.records import JSON
from connector.base.regex import regex
from connector.base.terminal import write
from connector.endpoints import KINDS, load
from connector.sandbox import batches
from connector.sandbox.batches import Batches, Faults, LostError
from connector.sandbox.files import Files
from connector.sandbox.validation import KEY, MODEL, APIError, check_host, check_key, checked

_CARD: Final = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "sandbox"}
_MODELS: Final = {"/v1/models": {"object": "list", "data": [_CARD]}, f"/v1/models/{MODEL}": _CARD}
_MODULES: Final = {module.name for module in iter_modules([str(Path(__file__).parent)])}


class StandIn(Protocol):
    """The contract of a module that answers like an endpoint kind, after which it is named."""

    REQUEST: Draft202012Validator
    """The schema of a request."""

    stream: Callable[..., Iterator[bytes]] | None
    """Yields a whole reply as server-sent events, with the usage if `usage` is true; `None` if the kind has none."""

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns the whole reply to a checked request."""


_STAND_INS: Final[Mapping[str, StandIn]] = {
    f"/v1{load(kind).PATH}": cast("StandIn", import_module(f"{__package__}.{kind}"))
    for kind in KINDS
    if kind in _MODULES
}
"""The stand-ins by the path of their kind."""

# The sandbox has no limits, so the full amount always remains.
_LIMITS: Final = {
    f"x-ratelimit-{part}-{unit}": value
    for part, value in {"limit": "1000000000", "remaining": "1000000000", "reset": "0s"}.items()
    for unit in ("requests", "tokens")
}
_LARGEST: Final = 64 * 2**20
_PIECE: Final = 1 << 16
_STORED: Final = regex(r"/v1/(files|batches)(?:/([^/]+))?(?:/(content|cancel))?")
_LENGTH: Final = regex(r"[0-9]{1,15}")
_RANGE: Final = regex(r"bytes=([0-9]{1,15})-")


def _answered(path: str, raw: bytes) -> tuple[int, dict[str, Any]]:
    """Answers a line of a batch as if it were a request of its own."""
    stand_in = _STAND_INS[path]
    try:
        return 200, stand_in.reply(checked(raw, stand_in.REQUEST))
    except APIError as refusal:
        return refusal.status, refusal.body


class _Handler(BaseHTTPRequestHandler):
    """One connection. `wfile` is buffered, so that the head and the body of a reply are sent in one write."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "openai-compatible", "sandbox"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server
    started = 0.0

    def answer(self) -> None:
        self.started = time.perf_counter()
        path, _, query = self.path.partition("?")
        route = _STORED.fullmatch(path)
        try:
            self.check_host()
            if route is not None:
                self.dispatch_stored(route[1], route[2], route[3], dict(parse_qsl(query)))
            else:
                self.dispatch(path, self.read_body())
        except APIError as refusal:
            self.send_whole(refusal.status, refusal.body)
        except LostError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 http.server's names

    def check_host(self) -> None:
        if self.server.is_local:
            try:
                check_host(self.headers.get("Host", ""))
            except APIError:
                self.close_connection = True
                raise

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length) or int(length) > _LARGEST:
            self.close_connection = True
            raise APIError(411, f"Send the body with a Content-Length of at most {_LARGEST}.")
        return self.rfile.read(int(length))

    def dispatch(self, path: str, raw: bytes) -> None:
        method = "POST" if path in _STAND_INS else "GET"
        if path not in _STAND_INS and path not in _MODELS and not path.startswith("/v1/models/"):
            raise APIError(404, f"Invalid URL ({self.command} {path})")
        check_key(self.headers.get("Authorization", ""), self.server.api_key)
        if self.command != method:
            raise APIError(405, f"Only {method} requests are accepted.", None, "method_not_supported")
        if path in _STAND_INS:
            stand_in = _STAND_INS[path]
            body = checked(raw, stand_in.REQUEST)
            whole = stand_in.reply(body)
            time.sleep(self.server.latency)
            if stand_in.stream and body.get("stream"):
                usage = bool((body.get("stream_options") or {}).get("include_usage"))
                self.send_stream(stand_in.stream(whole, usage=usage))
            else:
                self.send_whole(200, whole)
        elif path in _MODELS:
            self.send_whole(200, _MODELS[path])
        else:
            message = f"The model '{path.removeprefix('/v1/models/')}' does not exist"
            raise APIError(404, message, "model", "model_not_found")

    def dispatch_stored(self, room: str, name: str | None, action: str | None, query: dict[str, str]) -> None:
        """Answers requests about files and batches."""
        is_upload = (self.command, room, name) == ("POST", "files", None)
        size = self.headers.get("Content-Length", "0")
        if is_upload and ("Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(size)):
            self.close_connection = True
            raise APIError(411, "Send the file with a Content-Length.")
        raw = b"" if is_upload else self.read_body()
        try:
            check_key(self.headers.get("Authorization", ""), self.server.api_key)
        except APIError:
            self.close_connection = is_upload
            raise
        files, stored = self.server.files, self.server.batches
        what = " ".join(filter(None, (self.command, room, name and "ID", action)))
        self.server.notify(f"before {what}")
        if is_upload:
            file = files.upload(self.headers.get("Content-Type", ""), cast("Any", self.rfile), int(size))
            self.server.notify(f"after {what}")
            if self.server.faults.take("lost_upload"):
                raise LostError
            self.send_whole(200, file)
            return
        answers: dict[str, Callable[[], JSON]] = {
            "GET files": lambda: files.listed(query),
            "GET files ID": lambda: files.file(name or ""),
            "DELETE files ID": lambda: files.delete(name or ""),
            "POST batches": lambda: stored.create(checked(raw, batches.REQUEST, has_model=False)),
            "GET batches": lambda: stored.listed(query),
            "GET batches ID": lambda: stored.retrieve(name or ""),
            "POST batches ID cancel": lambda: stored.cancel(name or ""),
        }
        if what == "GET files ID content":
            self.send_file(files.path(name or ""))
        elif what in answers:
            body = answers[what]()
            self.server.notify(f"after {what}")
            self.send_whole(200, body)
        else:
            raise APIError(405, f"Invalid method for URL ({self.command} {self.path})", None, "method_not_supported")

    def send_file(self, path: Path) -> None:
        """Sends a file, or the rest of it from the start of `Range` (RFC 9110, section 14.2)."""
        faults, size = self.server.faults, path.stat().st_size
        if faults.take("gone_files"):
            raise APIError(404, "No such File object: it has expired.", "id")
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = 0 if asked is None or faults.take("no_range") else int(asked[1])
        if start and start >= size:
            raise APIError(416, "There is nothing in this range.")
        framing = {"Content-Length": str(size - start), "Accept-Ranges": "bytes"}
        if start:
            framing["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.send_head(206 if start else 200, "application/octet-stream", framing)
        left = size - start
        if faults.take("cut_download"):
            left, self.close_connection = left // 2, True
        with path.open("rb") as file:
            file.seek(start)
            while left and (piece := file.read(min(_PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)
        self.server.notify("after GET files ID content")

    def send_whole(self, status: int, body: JSON) -> None:
        content = orjson.dumps(body)
        self.send_head(status, "application/json", {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_stream(self, events: Iterator[bytes]) -> None:
        if self.request_version == "HTTP/1.0":  # no chunked coding: the stream ends with the connection
            self.send_head(200, "text/event-stream; charset=utf-8", {})
            self.wfile.writelines(events)
            return
        self.send_head(200, "text/event-stream; charset=utf-8", {"Transfer-Encoding": "chunked"})
        for event in chain(events, [b""]):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def send_head(self, status: int, kind: str, framing: dict[str, str]) -> None:
        self.send_response(status)
        spent = round((time.perf_counter() - self.started) * 1000)
        known = {"Content-Type": kind, "x-request-id": f"req_{uuid.uuid4().hex}", "openai-processing-ms": str(spent)}
        for name, value in (known | framing | _LIMITS).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends an error of `http.server` itself in OpenAI's shape."""
        self.started, self.close_connection = time.perf_counter(), True
        self.send_whole(code, APIError(code, explain or message or "Bad request").body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


class _Server(ThreadingHTTPServer):
    """A server that listens from its creation on. Closing it closes its connections, so that no client waits for it."""

    request_queue_size = 1024

    def __init__(
        self, host: str, port: int, api_key: str, latency: float, faults: Iterable[str], notify: Callable[[str], None]
    ) -> None:
        self.api_key = api_key
        self.latency = latency
        self.notify = notify
        self.faults = Faults(faults)
        self.connections: set[Any] = set()
        if not 0 <= latency <= threading.TIMEOUT_MAX:
            raise ConfigError(f"latency: {latency} is not a number of seconds: write one from 0 up")
        self.folder = TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True)
        self.files = Files(Path(self.folder.name))
        self.batches = Batches(self.files, _answered, _STAND_INS, self.faults)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"the sandbox cannot listen on {host}:{port} ({error}): choose another port (--port; 0 is any free one)"
            ) from error
        self.url = f"http://{host}:{self.server_port}/v1"
        self.is_local = ip_address(str(self.server_address[0])).is_loopback

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        self.folder.cleanup()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that close their connection early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _unheard(_: str) -> None:
    pass


@contextmanager
def running(
    *,
    api_key: str = KEY,
    latency: float = 0.0,
    faults: Iterable[str] = (),
    notify: Callable[[str], None] = _unheard,
) -> Iterator[str]:
    """Runs a sandbox in a thread of this process, on a free port of 127.0.0.1; yields its base URL, with `/v1`.

    Args:
        faults: What goes wrong with files and batches: names of `connector.sandbox.batches.FAULTS`, or `name:times`.
        notify: Called before and after each request about files and batches, in the thread that answers it.
    """
    with _Server("127.0.0.1", 0, api_key, latency, faults, notify) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    api_key: str = KEY,
    latency: float = 0.0,
    faults: Iterable[str] = (),
) -> None:
    """Serves until SIGINT or SIGTERM. To be called in the main thread.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        api_key: The key that requests must have.
        latency: Seconds by which every reply is delayed.
        faults: What goes wrong with files and batches, as for `running`.

    Raises:
        ConfigError: It cannot listen on this address, the latency is invalid, or there is no such fault.
    """
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in ends]
    try:
        with suppress(KeyboardInterrupt), _Server(host, port, api_key, latency, faults, _unheard) as server:
            key = f" OPENAI_API_KEY={KEY}" if api_key == KEY else ""
            own = "" if key else ", and set OPENAI_API_KEY to the key that you chose"
            write(
                sys.stderr,
                "This is a sandbox, not a model: replies are made up from your own text by fixed rules. "
                f"Ctrl-C ends it.\nIn another terminal, paste this line{own}:\nexport "
                f"OPENAI_BASE_URL={server.url}{key} OPENAI_MODEL={MODEL}\n",
            )
            server.serve_forever()
    finally:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)
