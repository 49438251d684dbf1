"""The sandbox on the wire: HTTP/1.1 with keep-alive, a thread for each connection."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator

from connector.base.errors import ConfigError
from connector.base.records import JSON
from connector.sandbox import completions, embeddings, replies, responses
from connector.sandbox.asked import KEY, MODEL, APIError, check_key, checked

_CARD: Final = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "sandbox"}
_MODELS: Final = {"/v1/models": {"object": "list", "data": [_CARD]}, f"/v1/models/{MODEL}": _CARD}
_Post = tuple[Draft202012Validator, Callable[[Any], Any], Callable[..., Iterator[bytes]] | None]
_POSTS: Final[Mapping[str, _Post]] = {
    "/v1/chat/completions": (replies.REQUEST, replies.chat, replies.events_of),
    "/v1/completions": (completions.REQUEST, completions.completion, completions.events_of),
    "/v1/responses": (responses.REQUEST, responses.response, responses.events_of),
    "/v1/embeddings": (embeddings.REQUEST, embeddings.embeddings, None),
}
"""By path: the form of a request, its whole reply, and that reply as a stream where there is one."""

# The sandbox has no limits, so what remains is always the whole.
_LIMITS: Final = {
    f"x-ratelimit-{part}-{unit}": value
    for part, value in {"limit": "1000000000", "remaining": "1000000000", "reset": "0s"}.items()
    for unit in ("requests", "tokens")
}
_LARGEST: Final = 64 * 2**20


class _Handler(BaseHTTPRequestHandler):
    """One connection. `wfile` is buffered, so that the head and the body of a reply leave in one write."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "openai-compatible", "sandbox"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server
    started = 0.0

    def answer(self) -> None:
        self.started = time.perf_counter()
        try:
            self.dispatch(self.path.partition("?")[0], self.read_body())
        except APIError as refusal:
            self.send_whole(refusal.status, refusal.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 http.server's names

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            raise APIError(411, f"Send the body with a Content-Length of at most {_LARGEST}.")
        return self.rfile.read(int(length))

    def dispatch(self, path: str, raw: bytes) -> None:
        method = "POST" if path in _POSTS else "GET"
        if path not in _POSTS and path not in _MODELS and not path.startswith("/v1/models/"):
            raise APIError(404, f"Invalid URL ({self.command} {path})")
        check_key(self.headers.get("Authorization", ""), self.server.api_key)
        if self.command != method:
            raise APIError(405, f"Only {method} requests are accepted.", None, "method_not_supported")
        if path in _POSTS:
            form, reply, events_of = _POSTS[path]
            body = checked(raw, form)
            whole = reply(body)
            time.sleep(self.server.latency)
            if events_of and body.get("stream"):
                self.send_stream(events_of(whole, usage=bool((body.get("stream_options") or {}).get("include_usage"))))
            else:
                self.send_whole(200, whole)
        elif path in _MODELS:
            self.send_whole(200, _MODELS[path])
        else:
            message = f"The model '{path.removeprefix('/v1/models/')}' does not exist"
            raise APIError(404, message, "model", "model_not_found")

    def send_whole(self, status: int, body: JSON) -> None:
        content = orjson.dumps(body)
        self.send_head(status, "application/json", {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_stream(self, events: Iterator[bytes]) -> None:
        if self.request_version == "HTTP/1.0":  # it knows no chunks: the connection's end is the stream's
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
        """What `http.server` itself refuses, in the same shape."""
        self.started, self.close_connection = time.perf_counter(), True
        self.send_whole(code, APIError(code, explain or message or "Bad request").body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    """Listens at once. Its connections end with it, so that no client waits for a server that is gone."""

    request_queue_size = 1024

    def __init__(self, host: str, port: int, api_key: str, latency: float) -> None:
        self.api_key = api_key
        self.latency = latency
        self.connections: set[Any] = set()
        if not 0 <= latency <= threading.TIMEOUT_MAX:
            raise ConfigError(f"The latency has to be a number of seconds from 0 on, not {latency}.")
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"The sandbox cannot listen on {host}:{port} ({error}). Choose another port.") from error
        self.url = f"http://{host}:{self.server_port}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(*, api_key: str = KEY, latency: float = 0.0) -> Iterator[str]:
    """A sandbox in a thread of this process, on a free port of 127.0.0.1. Gives its base URL, `/v1` included."""
    with _Server("127.0.0.1", 0, api_key, latency) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def serve(host: str = "127.0.0.1", port: int = 8000, *, api_key: str = KEY, latency: float = 0.0) -> None:
    """Serve until SIGINT or SIGTERM, then return. For the main thread.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        api_key: The key that requests have to bring.
        latency: Seconds that a reply takes longer.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in ends]
    try:
        with suppress(KeyboardInterrupt), _Server(host, port, api_key, latency) as server:
            key = KEY if api_key == KEY else "(the key that you chose)"
            sys.stderr.write(
                "A sandbox, no model: replies are made up from your own text by fixed rules. Ctrl-C ends it.\n"
                f"OPENAI_BASE_URL={server.url} OPENAI_API_KEY={key} OPENAI_MODEL={MODEL}\n"
            )
            server.serve_forever()
    finally:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)
