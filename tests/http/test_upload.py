"""Files as bodies of requests: whole on the other side, in bounded memory, and sent once where that matters."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import pytest

from connector import sandbox
from connector.base.clock import Clock
from connector.base.decoding import SMALL
from connector.base.errors import APIConnectionError, APITimeoutError, FatalError
from connector.base.masking import Masker
from connector.calls.batch_api import HttpBatchAPI
from connector.http.auth import auth_of
from connector.http.deadline import Deadline
from connector.http.transport import Settings, Transport
from connector.http.upload import Upload

MB = 1 << 20


def api(url: str, **settings: Any) -> HttpBatchAPI:
    mask = Masker([sandbox.KEY])
    auth = auth_of("bearer", sandbox.KEY, (), 60.0, mask, Clock().monotonic)
    return HttpBatchAPI(Transport(Settings(auth=auth, **settings)), url, mask, 30.0, Clock())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 300_000])
def test_a_file_comes_back_as_it_was_sent(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "f").write_bytes(content[:size])
    with sandbox.running() as url, closing(api(url)) as server, (tmp_path / "f").open("rb") as file:
        name = server.upload(file, "rows.jsonl")
        with TemporaryFile() as found:
            server.download(name, cast("BinaryIO", found), "batch_1", 1)
            found.seek(0)
            assert found.read() == content[:size]


def test_a_large_file_takes_no_memory_either_way(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as output:
        output.truncate(64 * MB)
    with sandbox.running() as url, closing(api(url)) as server, path.open("rb") as file, TemporaryFile() as found:
        tracemalloc.start()
        server.download(server.upload(file, "rows.jsonl"), cast("BinaryIO", found), "batch_1", 4)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.tell() == 64 * MB
    assert peak < 8 * MB


def test_a_download_is_resumed_after_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    for faults in ([], ["no_range"]):
        with sandbox.running(faults=faults) as url, closing(api(url)) as server, (tmp_path / "f").open("rb") as file:
            name = server.upload(file, "rows.jsonl")
            for start in (4, 10):
                with TemporaryFile() as found:
                    found.write(b"0123456789"[:start])
                    server.download(name, cast("BinaryIO", found), "batch_1", 1)
                    found.seek(0)
                    assert found.read() == b"0123456789"


@pytest.mark.parametrize("start", [0, 5_000])
def test_a_download_ends_at_what_the_answers_to_its_requests_may_take(tmp_path: Path, start: int) -> None:
    with (tmp_path / "f").open("wb") as output:
        output.truncate(MB)
    most = 3 * (1_000 + SMALL)
    with sandbox.running() as url, closing(api(url, max_response_bytes=1_000)) as server, TemporaryFile() as found:
        with (tmp_path / "f").open("rb") as file:
            name = server.upload(file, "rows.jsonl")
        found.write(bytes(start))
        with pytest.raises(FatalError, match=r"the batch batch_1, of 3 requests: .*raise max_response_bytes"):
            server.download(name, cast("BinaryIO", found), "batch_1", 3)
        assert most < found.tell() < most + (1 << 17)


@contextmanager
def closing_server() -> Iterator[tuple[str, list[str]]]:
    """A server that answers the first request of each connection, and closes it at the second without a word."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        is_used = False

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.command)
            if self.is_used:
                self.close_connection = True
                return
            self.is_used = True
            body = b'{"id": "batch_1", "status": "validating"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
        server.shutdown()
        thread.join()


def test_a_request_that_creates_something_is_not_sent_again_after_its_connection_died() -> None:
    with closing_server() as (url, asked), closing(api(url)) as server:
        server.retrieve("batch_1")
        with pytest.raises(APIConnectionError):
            server.create("file-1", "/v1/chat/completions", "24h", {})
        assert asked == ["GET", "POST"]
    with closing_server() as (url, asked), closing(api(url)) as server:
        server.retrieve("batch_1")
        server.retrieve("batch_1")  # which may be sent as often as one likes
        assert asked == ["GET", "GET", "GET"]


def test_a_renewed_deadline_ends_only_after_progress_stops(tmp_path: Path) -> None:
    now = 0.0
    deadline = Deadline(10.0, monotonic=lambda: now)
    for _ in range(5):
        now += 9.0
        deadline.renew()
    now += 9.0
    assert deadline.left() == 1.0
    now += 2.0
    with pytest.raises(APITimeoutError):
        deadline.left()
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    with (tmp_path / "f").open("rb") as file:
        upload = Upload(file, "f", {"purpose": "batch"})
        assert sum(map(len, upload)) == len(upload) == sum(map(len, upload))
