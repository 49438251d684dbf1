"""A run of the command takes bounded memory whatever the replies are, with the limits that nobody has changed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import pytest

MOST: Final = 500_000  # kB: mostly less than 380,000; 415,000 were seen where all waited for a busy processor
ROWS: Final = 12
LARGE: Final = 15 * 2**20

PROGRAM: Final = """
import atexit, pathlib, resource
from connector.cli import main

def peak():
    status = pathlib.Path("/proc/self/status")  # on Linux ru_maxrss counts what the parent had, too
    lines = status.read_text().splitlines() if status.exists() else []
    print(next((line.split()[1] for line in lines if line.startswith("VmHWM")), resource.getrusage(0).ru_maxrss))

atexit.register(peak)
main()
"""


def chat(content: str, more: str = "1") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]})[:-1].encode() + f', "more": {more}}}'.encode()


def stream(pieces: Iterator[dict[str, Any]]) -> bytes:
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (*pieces, end))


def bodies() -> list[tuple[int, bytes]]:
    """Statuses and bodies that take as much as they may, or more."""
    return [
        (200, chat("x" * LARGE)),
        (200, chat("x", f"[{','.join(map(str, range(10**6, 10**6 + LARGE // 8)))}]")),
        (200, chat("x", f'["{"x" * LARGE}🙂"]')),
        (200, chat("x", json.dumps({f"{number:x}": 1 for number in range(800_000)}))),
        (200, chat("x", f"[{','.join(['{}'] * (LARGE // 3))}]")),
        (200, stream({"choices": [{"index": number, "delta": {"content": "ab"}}]} for number in range(30_000))),
        (400, b'{"error": {"message": "' + b"x" * LARGE + b'"}}'),
    ]


def wide_bodies() -> list[tuple[int, bytes]]:
    """The same, of texts in which one letter beyond 16 bits makes all others four bytes wide."""
    text = json.dumps({"said": f"{'x' * LARGE}🙂"}, ensure_ascii=False)
    pieces = ("x" * 1_000 + "🙂" * (not number) for number in range(LARGE // 1_000))
    return [
        (200, chat("").replace(b'""', json.dumps(text, ensure_ascii=False).encode(), 1)),
        (200, stream({"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces)),
    ]


class Hostile(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Iterator[tuple[int, bytes]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = next(self.answers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hostile() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
@pytest.mark.parametrize("has_more", [False, True], ids=["of every shape", "of wide texts, with a schema and a report"])
def test_hostile_replies_leave_a_run_below_500_mb(hostile: str, tmp_path: Path, *, has_more: bool) -> None:
    Hostile.answers = cycle(wide_bodies() if has_more else bodies())
    given = tmp_path / "in.jsonl"
    config: dict[str, Any] = {"url": hostile, "model": "m", "prompt": "{{ text }}"}
    given.write_text("".join(json.dumps({"text": f"row {row}"}) + "\n" for row in range(ROWS)))
    words = ["enrich", str(given), "-o", str(tmp_path / "out.jsonl"), "--config", str(tmp_path / "c.json"), "--quiet"]
    if has_more:
        config |= {"output_schema": {"type": "object", "properties": {"said": {"type": "string"}}}}
        words += ["--report", str(tmp_path / "r.json")]
    (tmp_path / "c.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == ROWS
    assert int(done.stdout) < MOST
