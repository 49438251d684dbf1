"""Whatever others call things or say, a terminal shows it as text, and no line of it passes for one of ours.

The file, its columns, its cells, the options, the streams, and all that the endpoint says hold every sort of character
that a terminal obeys.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

import connector
from connector import cli
from connector.base.terminal import data_writer
from connector.protocols import MessageWriter
from tests.terminals import terminal

ACTIVE: Final = "\x1b[31m\x9b2J\u202e\u2066\u200f\r\x07\u2028\x85\x0b\x0c\x7f"
ODD: Final = f"odd{ACTIVE}end\nFORGED\tline"
_SEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
_PRINTS: Final = re.compile(r"\bprint\(|sys\.std(?:out|err)(?:\.buffer)?\.write")
ROOT: Final = Path(connector.__file__).parent


class _Endpoint(BaseHTTPRequestHandler):
    """Puts odd text into every place of every answer. The path's first part is the status of calls."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        batch = {"id": ODD, "object": "batch", "status": ODD, "endpoint": ODD, "metadata": {ODD: ODD}, "created_at": 1}
        batch |= {"errors": {"data": [{"message": ODD, "code": ODD}]}, "output_file_id": ODD}
        listed = {"object": "list", "data": [batch, {"id": "m", "owned_by": ODD}, {"id": ODD, "owned_by": ODD}]}
        self._send(200, batch if "/batches/" in self.path else listed)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = int(self.path.split("/")[1])
        message = {"role": "assistant", "content": ODD, "refusal": ODD if status == 201 else None}
        choice = {"index": 0, "finish_reason": "stop" if status == 200 else ODD, "message": message}
        reply = {"id": ODD, "object": "chat.completion", "model": ODD, "choices": [choice], "usage": {}}
        error = {"error": {"message": ODD, "type": ODD, "code": ODD, "param": ODD}}
        self._send(status, error if status >= 400 else reply)

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status, "odd \x1b[31m\x9b2J")
        self.send_header("X-Request-Id", "odd \x1b[31m\x9b2J")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with odd files, and a config for each status: `200.json` and so on."""
    rows = [{"id": 1, "x": ODD, f"t{ODD}": ODD}, {"id": 2, "x": "a", f"t{ODD}": "b"}]
    (tmp_path / f"{ODD}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for status in (200, 201, 400, 401, 404):
        general = {"url": f"{address}/{status}/v1", "api_key": "sk-1", "model": "m", "prompt": "{{ x }}"}
        (tmp_path / f"{status}.json").write_text(json.dumps(general))
    made: dict[str, Any] = {
        "option": {ODD: 1},
        "template": {"prompt": f"{{{{ x{ODD} }}}}"},
        "column": {"response_format": {f"label{ODD}": "{{ content }}"}},
        "schema": {"output_schema": {"type": "object", "required": [ODD]}, "max_repairs": 0},
        "input": {"input": {"type": "files", "path": f"{ODD}.jsonl"}},
    }
    for name, more in made.items():
        config = {**json.loads((tmp_path / "200.json").read_text()), **more}
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    (tmp_path / "tool.json").write_text(json.dumps({"url": "http://h/v1", "headers": {f"x-{ODD}": "y"}}))
    name = ODD.replace('"', '""')
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, x TEXT, "{name}" TEXT)')
        database.execute(f'INSERT INTO "{name}" VALUES (1, ?, ?)', (ODD, ODD))
    database.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints, on both streams."""
    with suppress(SystemExit):
        cli.run(words)
    shown = capfd.readouterr()
    return shown.out + shown.err


TABLE: Final = f"{ODD}.jsonl"
COMMANDS: Final = [
    *(["enrich", TABLE, "-c", f"{status}.json", "-o", f"out{ODD}.jsonl"] for status in (200, 201, 400, 401, 404)),
    *(["enrich", TABLE, "-c", f"{name}.json", "-o", "out.jsonl"] for name in ("option", "template", "schema")),
    ["enrich", TABLE, "-c", "column.json", "-o", "out.jsonl", "--dead-letter", f"dead{ODD}.jsonl"],
    ["enrich", TABLE, "-c", "200.json", "-o", "out.jsonl", "--dry-run"],
    ["enrich", TABLE, "-c", "200.json", "-o", "out.csv", "--column", ODD],
    ["enrich", "sqlite:///rows.db", "--table", ODD, "-c", "200.json", "-o", "out.jsonl"],
    ["enrich", "sqlite:///rows.db", "--table", f"no{ODD}", "-c", "200.json", "-o", "out.jsonl"],
    ["enrich", "sqlite:///rows.db", "--query", f'select "{ODD}" from "no{ODD}"', "-c", "200.json", "-o", "out.jsonl"],
    ["preview", TABLE, "-c", "column.json", "--call"],
    ["preview", TABLE, "-c", "400.json", "--call"],
    ["evaluate", TABLE, "-c", "200.json", "--truth", f"content=t{ODD}", "--report", f"report{ODD}.json"],
    ["evaluate", TABLE, "-c", "200.json", "--truth", ODD],
    ["check", "-c", "option.json", "--format", "table"],
    ["check", "-c", "400.json", "--format", "table"],
    ["models", "-c", "200.json"],
    ["batch", "list", "-c", "200.json"],
    ["batch", "show", "b", "-c", "200.json"],
    ["batch", "fetch", "b", "-c", "200.json"],
    ["ledger", "stats", ODD],
    ["report", TABLE, "-r", f"report{ODD}.html"],
    ["config", "import", "tool.json"],
    ["completion", ODD],
    [ODD],
    ["enrich", f"--{ODD}"],
    ["enrich", ODD, "-o", ODD, "-c", ODD],
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words))[:60])
def test_nothing_that_is_printed_steers_a_terminal_or_forges_a_line(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    shown = said(capfd, *words)
    assert shown
    assert not _SEEN.findall(shown)
    assert not [line for line in shown.splitlines() if line.startswith("FORGED")]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("config", ["200", "400", "option"])
def test_nor_does_what_is_said_of_a_stream(
    config: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "SCHEMA", "stream": ODD, "schema": {"properties": {"x": {}}}, "key_properties": []}
    lines = [schema, {"type": "RECORD", "stream": ODD, "record": {"x": "a"}}, {"type": "RECORD", "stream": f"no{ODD}"}]
    given = io.TextIOWrapper(io.BytesIO("".join(json.dumps(each) + "\n" for each in lines).encode()))
    monkeypatch.setattr(sys, "stdin", given)
    cli.run(["--config", f"{config}.json"])
    shown = capfd.readouterr().err
    assert shown
    assert not _SEEN.findall(shown)
    assert not [line for line in shown.splitlines() if line.startswith("FORGED")]


def test_a_terminal_is_shown_the_same_json_in_characters_that_it_does_not_obey() -> None:
    lines = [json.dumps({ODD: [ODD]}, ensure_ascii=False).encode() + b"\n", b'{"a": "\x9b\xff"}\n']
    with terminal(1_000) as screen, open(screen.writer, "wb", closefd=False) as out:
        output = MessageWriter(data_writer(out), out.flush)
        for line in lines:
            output.write(line)
        output.flush()
        screen.lines()
        first, second = screen.said.decode().split("\r\n")[:2]
    assert json.loads(first) == {ODD: [ODD]}
    assert not _SEEN.findall(first + second)
    plain = io.BytesIO()
    for line in lines:
        data_writer(plain)(line)
    assert plain.getvalue() == b"".join(lines)


def test_everything_is_printed_by_way_of_one_module() -> None:
    """Nothing else writes to standard output or error, by `print` or by a stream's own methods."""
    found = [path.name for path in ROOT.rglob("*.py") if _PRINTS.search(path.read_text())]
    assert not found
